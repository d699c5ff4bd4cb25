//! One HTML file that holds everything: text and tables written here, data as JSON, and charts drawn from it by the scripts
//! under `assets`. The file loads nothing, and its content security policy forbids it to.

mod data;
mod headline;
mod sections;

use crate::time::{phases, summary};
use crate::units::{clean, date};
use crate::view::View;
use aehost_study::{Analysis, Choice, StudyRecord, Trial};
use minijinja::{AutoEscape, Environment, context};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../../assets/report.html");
const STYLE: &str = include_str!("../../assets/report.css");
const ECHARTS: &str = include_str!("../../assets/echarts/echarts.min.js");
const ECHARTS_VERSION: &str = "6.1.0";
const SCRIPTS: [&str; 6] = [
    include_str!("../../assets/js/common.js"),
    include_str!("../../assets/js/front.js"),
    include_str!("../../assets/js/parallel.js"),
    include_str!("../../assets/js/charts.js"),
    include_str!("../../assets/js/table.js"),
    include_str!("../../assets/js/main.js"),
];

/// The report of a study as one self-contained HTML file.
pub fn html(record: &StudyRecord, trials: &[Trial], analysis: &Analysis) -> String {
    let view = View::of(record, trials, analysis);
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let template =
        environment.template_from_named_str("report.html", TEMPLATE).expect("the template is part of the program");
    let page = template.render(context! {
        css => STYLE,
        echarts => ECHARTS,
        echarts_version => ECHARTS_VERSION,
        script => format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat()),
        data => json_for_script(&data::data(&view)),
        study => json!({
            "name": clean(&record.name),
            "model": clean(&record.model),
            "device": device(record),
            "trials": trial_count(&view),
            "aehost_version": record.aehost_version,
        }),
        headline => headline::headline(&view),
        measured => !view.metrics.is_empty(),
        trained => trials.iter().any(|t| t.outcome.measurements().is_some_and(|m| !m.training.is_empty())),
        explanation => [clean(&analysis.explanation)],
        table => sections::table(&view),
        warnings => sections::warnings(&view),
        facts => sections::facts(&view),
        time => json!({"summary": summary(trials), "phases": phases(trials)}),
        plugins => record.plugins.iter().map(|p| json!({
            "id": clean(&p.id), "kind": p.kind.to_string(), "version": clean(&p.version), "digest": clean(&p.digest),
        })).collect::<Vec<_>>(),
    });
    page.expect("the template names only what it is given")
}

/// JSON that may stand in a script element: no `<`, `>` or `&` is left, so nothing in it can end the element.
fn json_for_script(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn device(record: &StudyRecord) -> String {
    let threads = format!(" with {} thread{}", record.threads, if record.threads == 1 { "" } else { "s" });
    let on_cpu = if record.device == "cpu" { threads } else { String::new() };
    clean(&record.device) + &on_cpu
}

fn trial_count(view: &View) -> String {
    let confirmed = view.rows.iter().filter(|r| r.confirmed.is_some()).count();
    let failed = view.rows.iter().filter(|r| r.screening.is_none()).count();
    let mut text = format!("{} trial{}", view.rows.len(), if view.rows.len() == 1 { "" } else { "s" });
    for (count, what) in [(failed, "not measured"), (confirmed, "confirmed")] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    format!("{text} · {}", date(view.record.created_at))
}

/// The techniques of a configuration with their settings as words.
fn choices(trial: &Trial) -> Vec<Value> {
    let settings = |choice: &Choice| -> Vec<[String; 2]> {
        choice.settings.iter().map(|s| [clean(&s.name), clean(&s.value.to_string())]).collect()
    };
    let choice = |choice: &Choice| json!({"technique": clean(&choice.technique), "settings": settings(choice)});
    trial.configuration.0.iter().map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_charting_library_is_the_one_that_its_note_describes() {
        let note = include_str!("../../assets/echarts/README.md");
        let digest: String = Sha256::digest(ECHARTS).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(note.contains(&digest), "echarts.min.js has digest {digest}");
        assert!(note.contains(&format!("`echarts` {ECHARTS_VERSION}")));
        assert!(ECHARTS.contains(&format!("version=\"{ECHARTS_VERSION}\"")));
    }

    #[test]
    fn nothing_in_the_data_can_end_its_element() {
        let text = json_for_script(&json!({"a": "</script><script>alert(1)</script>&\u{2028}"}));
        assert!(!text.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["a"], "</script><script>alert(1)</script>&\u{2028}");
    }
}

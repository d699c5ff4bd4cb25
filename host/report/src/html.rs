//! One HTML file that holds everything: text and tables written here, data as JSON, and charts drawn from it by the scripts
//! under `assets`. The file loads nothing, and its content security policy forbids it to.

use crate::hardware;
use crate::terminal::outcome_message;
use crate::time::{phases, summary};
use crate::units::{SCORE, clean, date, duration, label, number, signed, with_unit};
use crate::view::{Measured, Place, Row, View, constraint_with_value};
use aehost_common::{Direction, Domain, Value as Setting};
use aehost_study::{Analysis, Choice, Outcome, StudyRecord, Trial, metrics};
use minijinja::{AutoEscape, Environment, context};
use serde_json::{Map, Value, json};

const TEMPLATE: &str = include_str!("../assets/report.html");
const STYLE: &str = include_str!("../assets/report.css");
const ECHARTS: &str = include_str!("../assets/echarts/echarts.min.js");
const ECHARTS_VERSION: &str = "6.1.0";
const SCRIPTS: [&str; 6] = [
    include_str!("../assets/js/common.js"),
    include_str!("../assets/js/front.js"),
    include_str!("../assets/js/parallel.js"),
    include_str!("../assets/js/charts.js"),
    include_str!("../assets/js/table.js"),
    include_str!("../assets/js/main.js"),
];
/// An axis of the parallel coordinates lists its values up to this many; beyond it is a scale.
const LISTED: usize = 12;

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
        data => json_for_script(&data(&view)),
        study => json!({
            "name": clean(&record.name),
            "model": clean(&record.model),
            "device": device(record),
            "trials": trial_count(&view),
            "aehost_version": record.aehost_version,
        }),
        headline => headline(&view),
        measured => !view.metrics.is_empty(),
        explanation => [clean(&analysis.explanation)],
        importance_about => IMPORTANCE_ABOUT,
        table => table(&view),
        warnings => warnings(&view),
        facts => facts(&view),
        time => json!({"summary": summary(trials), "phases": phases(trials)}),
        plugins => record.plugins.iter().map(|p| json!({
            "id": clean(&p.id), "kind": p.kind.to_string(), "version": clean(&p.version), "digest": clean(&p.digest),
        })).collect::<Vec<_>>(),
    });
    page.expect("the template names only what it is given")
}

const IMPORTANCE_ABOUT: &str = "Which parameters the measured figures depend on: permutation importance in a random \
    forest over the trials, as shares of the whole. A technique's own name stands for whether it is on.";

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

/// The figures at the top; none while there is no recommendation or the baseline was not measured.
fn headline(view: &View) -> Option<Value> {
    let recommended = view.recommended()?;
    let (base, own) = view.compared()?;
    let confirmed = recommended.confirmed.is_some_and(|c| c.trial.id == own.trial.id);
    let mut figures = Vec::new();
    let mut figure = |name: &str, value: String, unit: &str, note: String| {
        figures.push(json!({"name": name, "value": value, "unit": unit, "note": note}));
    };
    let score = own.figures.score().map_or_else(|| "unavailable".into(), |s| format!("{s:.2}"));
    let holds = match own.figures.feasible {
        _ if view.record.constraints.is_empty() => "no constraints were set".to_owned(),
        false => "a constraint is broken".to_owned(),
        true => {
            format!("all constraints hold, {:.0} % likely", (100.0 * own.figures.probability_feasible).clamp(1.0, 99.0))
        }
    };
    figure("Efficiency score", score, "×", holds);
    match &own.figures.accuracy_drop {
        Some(drop) => {
            let [low, high] = drop.interval;
            let note = format!("95 % interval {} to {}, {} items", signed(low), signed(high), drop.items);
            figure("Accuracy drop", signed(drop.percent.value), "%", note);
        }
        None => figure("Accuracy drop", "unavailable".into(), "", view.record.accuracy_metric.clone()),
    }
    for metric in [metrics::END_TO_END, metrics::PEAK_MEMORY, metrics::ENERGY] {
        let Some(shown) = view.metric(metric) else { continue };
        let Some((own_figure, base_figure)) = own.figure(metric).zip(base.figure(metric)) else { continue };
        let note = format!("baseline {}", shown.scale.show_with_unit(base_figure.value));
        let estimated = if own.estimated_by(metric).is_some() { ", estimated" } else { "" };
        let name = capitalised(&shown.label) + estimated;
        figure(&name, shown.scale.show(own_figure.value), &shown.scale.unit, note);
    }
    let items = own.figures.accuracy_drop.as_ref().map(|d| format!(" on {} items", d.items)).unwrap_or_default();
    let badge = if confirmed {
        format!("Confirmed: baseline and recommended configuration were measured again{items}")
    } else {
        format!("Screening figures{items}: not confirmed at full fidelity")
    };
    let trial = recommended.trial.id;
    Some(json!({
        "kind": if confirmed { "confirmed" } else { "screening" },
        "badge": badge,
        "figures": figures,
        "score": own.figures.score().map(|score| format!("{score:.2}")),
        "factors": factors(view, &base, &own),
        "trial": trial,
        "choices": choices(recommended.trial),
        "command": format!("aehost generate --study {} --trial {trial} \"Hello\"", clean(&view.record.name)),
    }))
}

/// What the efficiency score is the mean of: the values of the baseline and of the recommended trial.
fn factors(view: &View, base: &Measured, own: &Measured) -> Vec<Value> {
    let names = own.figures.efficiency.iter().flat_map(|e| e.factors.keys());
    let factor = |name: &String| {
        let shown = view.metric(name)?;
        let value = |m: &Measured| Some(shown.scale.show(m.figure(name)?.value));
        Some(json!({"name": shown.label, "baseline": value(base)?, "recommended": value(own)?}))
    };
    names.filter_map(factor).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn choices(trial: &Trial) -> Vec<Value> {
    let settings = |choice: &Choice| -> Vec<[String; 2]> {
        choice.settings.iter().map(|s| [clean(&s.name), clean(&s.value.to_string())]).collect()
    };
    let choice = |choice: &Choice| json!({"technique": clean(&choice.technique), "settings": settings(choice)});
    trial.configuration.0.iter().map(choice).collect()
}

/// All that the scripts draw.
fn data(view: &View) -> Value {
    let shown: Vec<Value> = view
        .metrics
        .iter()
        .map(|m| {
            let direction = if m.direction == Direction::Maximize { "maximize" } else { "minimize" };
            json!({"key": m.name, "label": m.label, "unit": m.scale.unit, "direction": direction})
        })
        .collect();
    let cost = view.record.objectives.iter().map(|o| o.metric.as_str()).find(|m| *m != view.record.accuracy_metric);
    let x = cost.filter(|m| view.metric(m).is_some()).unwrap_or(SCORE);
    let accuracy = view.metric(&view.record.accuracy_metric).map(|m| m.name.as_str());
    let y = accuracy.unwrap_or(metrics::ACCURACY_DROP);
    let objectives = || view.record.objectives.iter().map(|o| o.metric.as_str());
    let drawn: Vec<&str> = objectives().chain([SCORE]).collect();
    let quality = view.record.evaluators.iter().filter_map(|e| Some(e.description.metrics.first()?.name.as_str()));
    let compared = objectives().filter(|m| *m != metrics::ACCURACY_DROP).chain(quality).chain([
        "latency.ttft_ms",
        "latency.tpot_ms",
        metrics::END_TO_END,
        metrics::PEAK_MEMORY,
        metrics::WEIGHTS_MEMORY,
        metrics::ENERGY,
    ]);
    json!({
        "metrics": shown,
        "shown_metrics": drawn,
        "compared_metrics": compared.collect::<Vec<_>>(),
        "x": x,
        "y": y,
        "baseline": view.baseline().map(|r| r.trial.id),
        "recommended": view.recommended().map(|r| r.trial.id),
        "parameters": parameters(view),
        "trials": view.rows.iter().map(|row| trial(view, row)).collect::<Vec<_>>(),
        "hypervolume": view.analysis.hypervolume,
        "importance": view.analysis.importance.iter().map(|i| json!({
            "label": if i.metric == "efficiency_score" { label(SCORE) } else { label(&i.metric) },
            "explained": i.explained,
            "shares": i.parameters.iter().map(|p| (clean(&p.parameter), p.share)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// The parameters that the measured trials differ in, techniques without parameters among them. Few values are listed in
/// their order; a parameter with many is a scale.
fn parameters(view: &View) -> Vec<Value> {
    let mut made = Vec::new();
    for technique in &view.record.space {
        let id = &technique.description.identity.id;
        if technique.parameters.is_empty() {
            made.push(json!({"key": id, "label": clean(id), "values": ["off", "on"]}));
        }
        for parameter in &technique.parameters {
            let key = format!("{id}.{}", parameter.name);
            let mut used: Vec<&Setting> = view
                .rows
                .iter()
                .flat_map(|row| &row.trial.configuration.0)
                .filter(|choice| choice.technique == *id)
                .filter_map(|choice| choice.settings.get(&parameter.name))
                .collect();
            used.sort_by(|a, b| order(&parameter.domain, a).total_cmp(&order(&parameter.domain, b)));
            used.dedup();
            if used.is_empty() {
                continue;
            }
            let scale = used.len() > LISTED && used.iter().all(|v| v.as_real().is_some());
            let mut values = vec![UNSET.to_owned()];
            values.extend(used.iter().map(|v| clean(&v.to_string())));
            made.push(json!({"key": key, "label": clean(&key), "values": (!scale).then_some(values)}));
        }
    }
    made
}

/// Stands on an axis for trials in which a parameter does not exist. Not `off`, which is a value of flags.
const UNSET: &str = "–";

fn order(domain: &Domain, value: &Setting) -> f64 {
    match (domain, value) {
        (Domain::Choice { values, .. }, value) => values.iter().position(|v| v == value).map_or(-1.0, |i| i as f64),
        (_, Setting::Flag(on)) => f64::from(u8::from(*on)),
        (_, value) => value.as_real().unwrap_or(0.0),
    }
}

fn trial(view: &View, row: &Row) -> Value {
    let figures = |measured: Option<Measured>| {
        let measured = measured?;
        let figure = |m: &crate::view::Shown| {
            let figure = measured.figure(&m.name)?;
            Some((m.name.clone(), json!([figure.value * m.scale.factor, figure.standard_error * m.scale.factor])))
        };
        Some(view.metrics.iter().filter_map(figure).collect::<Map<_, _>>())
    };
    let mut settings = Map::new();
    for choice in &row.trial.configuration.0 {
        settings.insert(choice.technique.clone(), "on".into());
        for setting in choice.settings.iter() {
            let key = format!("{}.{}", choice.technique, setting.name);
            // Lists are drawn as words; scales need numbers. Scripts take either.
            settings.insert(key, json!({"text": clean(&setting.value.to_string()), "number": setting.value.as_real()}));
        }
    }
    let best = row.best();
    let estimated = |m: &crate::view::Shown| Some((m.name.clone(), Value::from(best?.estimated_by(&m.name)?)));
    let measurements = best.and_then(|m| m.trial.outcome.measurements());
    let violations = best.iter().flat_map(|m| &m.figures.violations);
    json!({
        "id": row.trial.id,
        "title": format!("Trial {}", row.trial.id),
        "kind": row.place,
        "tags": tags(row),
        "configuration": clean(&row.trial.configuration.to_string()),
        "choices": choices(row.trial),
        "settings": settings,
        "why": clean(&row.trial.why),
        "message": outcome_message(&row.trial.outcome).map(|message| format!("{}: {message}", row.trial.outcome.word())),
        "broken": violations.map(|v| format!("breaks {}", constraint_with_value(view.record, &v.constraint, v.value))).collect::<Vec<_>>(),
        "screening": figures(row.screening),
        "confirmed": figures(row.confirmed),
        "confirmed_in": row.confirmed.map(|m| m.trial.id),
        "feasible": row.feasible,
        "estimated": view.metrics.iter().filter_map(estimated).collect::<Map<_, _>>(),
        "unavailable": measurements.iter().flat_map(|m| &m.unavailable).map(|(m, why)| (label(m), clean(why))).collect::<Vec<_>>(),
    })
}

fn tags(row: &Row) -> Vec<String> {
    let mut tags = vec![row.place.word().to_owned()];
    if row.on_front && row.place != Place::Front {
        tags.push("on the front".into());
    }
    if row.trial.fidelity < 1.0 {
        tags.push(format!("{} % of the data", number(100.0 * row.trial.fidelity)));
    }
    tags.push(duration(row.trial.timings.total()));
    tags
}

/// The table of all trials, confirmations with the trial that they confirm.
fn table(view: &View) -> Value {
    let column = |title: &str, unit: &str, numeric: bool| json!({"title": title, "unit": unit, "numeric": numeric});
    let mut columns = vec![column("trial", "", true), column("configuration", "", false), column("figures", "", false)];
    columns.extend(view.metrics.iter().map(|m| column(&m.label, &m.scale.unit, true)));
    columns.push(column("outcome", "", false));
    let mut rows = Vec::new();
    for row in &view.rows {
        let kinds = [("screening", row.screening), ("confirmed", row.confirmed)];
        for (kind, measured) in kinds.into_iter().filter(|(kind, m)| m.is_some() || (*kind == "screening")) {
            rows.push(table_row(view, row, kind, measured));
        }
    }
    json!({"columns": columns, "rows": rows})
}

fn table_row(view: &View, row: &Row, kind: &str, measured: Option<Measured>) -> Value {
    let cell = |text: String, sort: String, class: &str, title: String| json!({"text": text, "sort": sort, "class": class, "title": title});
    let plain = |text: String| cell(text.clone(), text, "", String::new());
    let id = row.trial.id.to_string();
    let mut cells = vec![
        cell(id.clone(), id, "n", String::new()),
        plain(clean(&row.trial.configuration.to_string())),
        plain(if measured.is_some() { kind.into() } else { String::new() }),
    ];
    for metric in &view.metrics {
        let known = measured.and_then(|m| Some((m, m.figure(&metric.name)?)));
        cells.push(match known {
            Some((measured, figure)) => {
                let mark = if measured.estimated_by(&metric.name).is_some() { " est." } else { "" };
                let title = metric.scale.show_with_error(figure.value, figure.standard_error);
                let sort = (figure.value * metric.scale.factor).to_string();
                cell(metric.scale.show(figure.value) + mark, sort, "n", with_unit(title, &metric.scale.unit))
            }
            None => {
                let reason = measured.and_then(|m| m.trial.outcome.measurements()?.unavailable.get(&metric.name));
                let text = if reason.is_some() { "unavailable" } else { "" };
                cell(text.into(), String::new(), "n", reason.map(|r| clean(r)).unwrap_or_default())
            }
        });
    }
    let message = outcome_message(&row.trial.outcome).unwrap_or_default();
    let broken = measured.is_some_and(|m| !m.figures.feasible);
    let word = if broken { "ok, breaks a constraint" } else { row.trial.outcome.word() };
    cells.push(cell(word.into(), word.into(), "", message));
    let class = match row.place {
        Place::Baseline => "baseline",
        Place::Recommended => "recommended",
        Place::Front => "front",
        Place::Failed => "failed",
        Place::Dominated | Place::Infeasible => "",
    };
    json!({"trial": row.trial.id, "class": class, "cells": cells})
}

/// What a person should know: each remark once, with the trials that it was made on, and what failed. A configuration that
/// was rejected before it was measured is no failure.
fn warnings(view: &View) -> Vec<Value> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for trial in view.trials {
        for warning in trial.outcome.measurements().iter().flat_map(|m| &m.warnings) {
            let text = clean(warning);
            match found.iter_mut().find(|(known, _)| *known == text) {
                Some((_, trials)) => trials.push(trial.id.to_string()),
                None => found.push((text, vec![trial.id.to_string()])),
            }
        }
        let failed = !matches!(trial.outcome, Outcome::Ok { .. } | Outcome::Infeasible { .. });
        if let Some(message) = outcome_message(&trial.outcome).filter(|_| failed) {
            found.push((format!("{}: {message}", trial.outcome.word()), vec![trial.id.to_string()]));
        }
    }
    let place = |trials: &[String]| format!("Trial{} {}:", if trials.len() > 1 { "s" } else { "" }, trials.join(", "));
    found.into_iter().map(|(text, trials)| json!({"where": place(&trials), "text": text})).collect()
}

/// The conditions of the study in groups of named facts.
fn facts(view: &View) -> Vec<Value> {
    let record = view.record;
    let group = |title: &str, rows: Vec<(String, String)>| {
        let rows: Vec<[String; 2]> = rows.into_iter().map(|(k, v)| [clean(&k), clean(&v)]).collect();
        json!({"title": title, "rows": rows})
    };
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join("; ") };
    let settings = |settings: &aehost_common::Settings| -> String {
        settings.iter().map(|s| format!(" {}={}", s.name, s.value)).collect()
    };
    let direction = |d| if d == Direction::Maximize { "maximise" } else { "minimise" };
    let objectives = record.objectives.iter().map(|o| format!("{} {}", direction(o.direction), o.metric)).collect();
    let mut model = vec![
        pair("model", record.model.clone()),
        pair("file", record.model_path.clone()),
        pair("SHA-256", record.model_digest.clone()),
        pair("reference", record.reference.clone()),
    ];
    model.extend(record.model_facts.iter().map(|s| (s.name.clone(), s.value.to_string())));
    let scenario = &record.scenario;
    let mut study = vec![
        pair("objectives", list(objectives)),
        pair("constraints", list(record.constraints.iter().map(|c| c.text.clone()).collect())),
        pair("accuracy", record.accuracy_metric.clone()),
        pair(
            "scenario",
            format!(
                "{} prompt tokens, {} output tokens, batch {}; {} repeats after {} warm-up",
                scenario.prompt_tokens, scenario.output_tokens, scenario.batch, scenario.repeats, scenario.warmup
            ),
        ),
        pair("strategy", record.strategy.clone() + &settings(&record.strategy_settings)),
        pair(
            "budget",
            format!(
                "{} trials{}",
                record.budget_trials,
                record.budget_seconds.map(|s| format!(", {}", duration(s))).unwrap_or_default()
            ),
        ),
        pair("seed", record.seed.to_string()),
    ];
    for evaluator in &record.evaluators {
        let text = format!(
            "{}, {} items at screening, {} at confirmation{}",
            evaluator.data,
            evaluator.items,
            evaluator.confirm_items,
            settings(&evaluator.settings)
        );
        study.push((evaluator.label.clone(), text));
    }
    let mut machine = vec![pair("device", device(record))];
    machine.extend(hardware::facts(&record.hardware));
    machine.push(pair("aehost", record.aehost_version.clone()));
    vec![group("Study", study), group("Machine", machine), group("Model", model)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_charting_library_is_the_one_that_its_note_describes() {
        let note = include_str!("../assets/echarts/README.md");
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

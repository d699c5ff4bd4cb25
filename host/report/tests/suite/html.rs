//! The HTML report: it loads nothing, nothing in a name becomes part of it, and it is complete without its charts.

use crate::study;
use aehost_common::Settings;
use aehost_report::html;
use aehost_study::{Analysis, Choice, Outcome, StudyRecord, Trial};

fn page(record: &StudyRecord, trials: &[Trial]) -> String {
    html(record, trials, &Analysis::of(record, trials))
}

/// The page without the bundled library, whose licence names an address.
fn own(page: &str) -> String {
    let start = page.find("<script>\n/*\n* Licensed to the Apache").or_else(|| page.find("<script>\n\n/*\n* Licensed"));
    let start = start.expect("the library stands in a script of its own");
    let end = start + page[start..].find("</script>").unwrap();
    page[..start].to_owned() + &page[end..]
}

fn data(page: &str) -> serde_json::Value {
    let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    serde_json::from_str(&page[start..end]).unwrap()
}

/// Leaves the page where a person can open it.
fn keep(name: &str, page: &str) {
    std::fs::write(format!("{}/{name}.html", env!("CARGO_TARGET_TMPDIR")), page).unwrap();
}

#[test]
fn confirmed_figures_are_the_headlines() {
    let record = study::record();
    let trials = study::confirmed(false);
    let analysis = Analysis::of(&record, &trials);
    let recommended = analysis.recommended.unwrap();
    let figures = analysis.trial(recommended.trial).unwrap().confirmed.as_ref().unwrap();
    let page = page(&record, &trials);
    keep("confirmed", &page);
    assert!(page.contains("Confirmed: baseline and recommended configuration were measured again on 500 items"));
    assert!(page.contains(&format!("<div class=\"value\">{:.2}<span class=\"unit\">×", figures.score().unwrap())));
    let drop = figures.accuracy_drop.unwrap().percent.value;
    assert!(page.contains(&format!("<div class=\"value\">{drop:+.2}<span class=\"unit\">%")));
    assert!(page.contains(&format!("<sup>1/2</sup> = {:.2}", figures.score().unwrap())));
    assert!(page.contains(&format!("aehost generate --study smollm2-cpu --trial {} ", recommended.trial)));
    let drawn = data(&page);
    assert_eq!(drawn["recommended"], recommended.trial.0);
    assert_eq!(drawn["hypervolume"].as_array().unwrap().len(), 21);
    let shown = &drawn["trials"][recommended.trial.0 as usize];
    assert_eq!(shown["confirmed"]["efficiency.score"][0], figures.score().unwrap());
    assert_eq!(shown["kind"], "recommended");
}

#[test]
fn without_confirmations_the_page_says_so() {
    let page = page(&study::record(), &study::search(true));
    keep("screening", &page);
    assert!(page.contains("Screening figures on 100 items: not confirmed at full fidelity"));
    assert!(!page.contains("<p class=\"badge confirmed\">"));
    assert!(page.contains("Energy per token") && page.contains("<sup>1/3</sup>"));
}

#[test]
fn the_page_loads_nothing() {
    let page = page(&study::record(), &study::confirmed(false));
    for loading in ["src=", "href=", "@import", "url(", "fetch(", "XMLHttpRequest", "http://", "https://"] {
        let own = own(&page);
        assert!(
            !own.contains(loading),
            "{loading} in {}",
            &own[own.find(loading).unwrap().saturating_sub(80)..][..160]
        );
    }
    assert!(page.contains(
        "content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:\""
    ));
}

#[test]
fn names_cannot_become_part_of_the_page() {
    let attack =
        "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}{% raw %}\u{1b}[31m\u{2028}";
    let mut record = study::record();
    let mut trials = study::confirmed(false);
    let plain = page(&record, &trials);
    for text in [&mut record.model, &mut record.reference, &mut record.strategy, &mut record.plugins[0].id] {
        *text = attack.into();
    }
    record.name = attack.into();
    record.space[0].description.identity.id = attack.into();
    record.space[0].parameters[0].name = attack.into();
    record.hardware["system"]["os"] = attack.into();
    for trial in &mut trials {
        trial.why = attack.into();
        for choice in trial.configuration.0.iter_mut().filter(|c| c.technique == "depth-pruning") {
            *choice = Choice { technique: attack.into(), settings: Settings::default().with(attack, attack) };
        }
        match &mut trial.outcome {
            Outcome::Ok { measurements } => {
                measurements.warnings.push(attack.into());
                measurements.unavailable.insert(attack.into(), attack.into());
            }
            Outcome::PluginError { fault } => fault.message = attack.into(),
            Outcome::OutOfMemory { message } => *message = attack.into(),
            _ => {}
        }
    }
    let attacked = page(&record, &trials);
    keep("attacked", &attacked);
    for tag in ["<script", "</script", "<img", "onerror=alert(1)>"] {
        assert_eq!(attacked.matches(tag).count(), plain.matches(tag).count(), "{tag}");
    }
    assert!(attacked.contains("&lt;script&gt;alert(1)") && attacked.contains("{{ 7 * 7 }}"));
    assert!(!attacked.contains(['\u{1b}', '\u{2028}']));
    assert!(data(&attacked)["trials"][1]["why"].as_str().unwrap().starts_with("</script><script>alert(1)</script>"));
}

#[test]
fn every_trial_and_every_condition_stands_in_the_page() {
    let trials = study::confirmed(false);
    let page = page(&study::record(), &trials);
    for trial in trials.iter().filter(|t| t.confirms.is_none()) {
        assert!(page.contains(&format!("<tr data-trial=\"{}\"", trial.id)), "trial {}", trial.id);
    }
    for condition in [
        "plugin-error: technique depth-pruning 0.1.0 trapped in `apply`: index out of bounds",
        "<b>Trials 4, 13, 22:</b> latency.e2e_ms differs by 7 % between runs",
        "no energy counter on this machine",
        "256 prompt tokens, 32 output tokens, batch 1; 5 repeats after 1 warm-up",
        "openbookqa, 100 items at screening, 500 at confirmation",
        "<dt>cpu model</dt><dd>Example CPU @ 2.60GHz</dd>",
        "<dt>gpus</dt><dd>unavailable: no NVIDIA driver</dd>",
        "<dt>seed</dt><dd>7</dd>",
        "1.0 % of it is neither applying, measuring nor evaluating",
    ] {
        assert!(page.contains(&condition.replace('&', "&amp;")), "{condition}");
    }
}

#[test]
fn a_study_that_has_measured_nothing_has_a_page() {
    let record = study::record();
    for trials in [&[][..], &study::search(false)[9..10], &study::search(false)[..1]] {
        let page = page(&record, trials);
        assert!(page.contains("smollm2-cpu"));
        assert_eq!(data(&page)["trials"].as_array().unwrap().len(), trials.len());
    }
    keep("empty", &page(&record, &[]));
    keep("baseline-only", &page(&record, &study::search(false)[..1]));
    assert!(page(&record, &[]).contains("Nothing was measured yet."));
}

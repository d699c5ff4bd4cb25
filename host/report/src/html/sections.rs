//! The tables of the report: all trials, what should be known of them, and the conditions of the study.

use super::device;
use crate::hardware;
use crate::terminal::outcome_message;
use crate::units::{clean, duration, with_unit};
use crate::view::{Measured, Place, Row, View};
use aehost_common::Direction;
use aehost_study::Outcome;
use serde_json::{Value, json};

/// The table of all trials, confirmations with the trial that they confirm.
pub(super) fn table(view: &View) -> Value {
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
pub(super) fn warnings(view: &View) -> Vec<Value> {
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
pub(super) fn facts(view: &View) -> Vec<Value> {
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
        pair("weights", list(record.weights().iter().map(|w| format!("{} for {}", w.weight, w.metric)).collect())),
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

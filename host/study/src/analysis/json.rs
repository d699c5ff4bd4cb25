//! The front as JSON for other programs; the shape is fixed, so that scripts can count on it.

use super::{Analysis, TrialAnalysis, measurements};
use crate::{Figures, StudyRecord, Trial, TrialId};
use serde_json::{Map, Value, json};

/// {study, baseline, front: [{trial, configuration, metrics, efficiency_score, accuracy_drop, feasible, ...}],
/// recommended, hardware}. Metrics are plain numbers under their names, which carry the units; `accuracy_drop` is in
/// percent. Entries of the front hold the screening's figures, which are comparable among all trials, and under
/// `confirmed` the confirmation's or null; `may_be_dominated_by` are trials that the noise does not tell it from; `baseline` and `recommended` hold the confirmed figures where there are any,
/// as `measured_at` says.
pub fn pareto_json(record: &StudyRecord, trials: &[Trial], analysis: &Analysis) -> Value {
    let headline = |id: TrialId| {
        let analysed = analysis.trial(id)?;
        entry(trials, analysed, analysed.headline()?)
    };
    let front: Vec<Value> = analysis
        .front
        .iter()
        .filter_map(|id| {
            let analysed = analysis.trial(*id)?;
            let mut made = entry(trials, analysed, analysed.screening.as_ref()?)?;
            let confirmed = analysed.confirmed.as_ref().and_then(|figures| entry(trials, analysed, figures));
            made["confirmed"] = confirmed.unwrap_or(Value::Null);
            made["may_be_dominated_by"] = json!(analysed.may_be_dominated_by);
            Some(made)
        })
        .collect();
    let mut recommended = analysis.recommended.and_then(|r| headline(r.trial)).unwrap_or(Value::Null);
    if let Some(object) = recommended.as_object_mut() {
        object.insert("explanation".into(), analysis.explanation.clone().into());
    }
    json!({
        "study": record.name,
        "model": record.model,
        "reference": record.reference,
        "accuracy_metric": record.accuracy_metric,
        "objectives": record.objectives,
        "constraints": record.constraints,
        "baseline": analysis.baseline.and_then(headline),
        "front": front,
        "recommended": recommended,
        "hardware": record.hardware,
    })
}

fn entry(trials: &[Trial], analysed: &TrialAnalysis, figures: &Figures) -> Option<Value> {
    let trial = trials.iter().find(|t| t.id == analysed.trial)?;
    let measured = &measurements(trials, figures.measured_in)?.metrics;
    let numbers = |of: fn(&crate::Measurement) -> f64| -> Map<String, Value> {
        measured.iter().map(|(name, m)| (name.clone(), of(m).into())).collect()
    };
    let drop = figures.accuracy_drop.as_ref();
    Some(json!({
        "trial": analysed.trial,
        "measured_in": figures.measured_in,
        "measured_at": if figures.measured_in == analysed.trial { "screening" } else { "confirmation" },
        "configuration": trial.configuration,
        "description": trial.configuration.to_string(),
        "metrics": numbers(|m| m.value),
        "standard_errors": numbers(|m| m.standard_error),
        "efficiency_score": figures.score(),
        "accuracy_drop": drop.map(|d| d.percent.value),
        "accuracy_drop_standard_error": drop.map(|d| d.percent.standard_error),
        "accuracy_drop_interval_95": drop.map(|d| d.interval),
        "feasible": figures.feasible,
        "probability_feasible": figures.probability_feasible,
    }))
}

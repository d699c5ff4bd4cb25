//! Short ways to write the study's data in tests.

use crate::*;
use aehost_common::{
    Direction, Domain, EvaluatorDescription, Identity, Metric, Parameter, Settings, Stage, TechniqueDescription, Value,
};

pub fn identity(id: &str) -> Identity {
    Identity { id: id.into(), version: "0.1.0".into(), summary: String::new(), reference: String::new() }
}

pub fn technique(id: &str, stage: Stage, parameters: Vec<Parameter>) -> TechniqueSpace {
    let description = TechniqueDescription {
        identity: identity(id),
        stage,
        order: 0,
        after: vec![],
        conflicts: vec![],
        provides: vec![],
        requires: vec![],
        more: Settings::default(),
    };
    TechniqueSpace { description, parameters }
}

pub fn parameter(name: &str, domain: Domain, default: Value) -> Parameter {
    Parameter { name: name.into(), summary: String::new(), domain, default, active_when: vec![] }
}

pub fn integer(name: &str, min: i64, max: i64) -> Parameter {
    parameter(name, Domain::Integer { min, max, step: 1, log: false }, min.into())
}

pub fn real(name: &str, min: f64, max: f64) -> Parameter {
    parameter(name, Domain::Real { min, max, log: false }, min.into())
}

pub fn flag(name: &str) -> Parameter {
    parameter(name, Domain::Flag, false.into())
}

pub fn text_choice(name: &str, values: &[&str]) -> Parameter {
    let domain = Domain::Choice { values: values.iter().map(|v| (*v).into()).collect(), ordered: false };
    parameter(name, domain, values[0].into())
}

pub fn chosen(technique: &str, settings: &[(&str, Value)]) -> Choice {
    let mut choice = Choice { technique: technique.into(), settings: Settings::default() };
    for (name, value) in settings {
        choice.settings.set(name, value.clone());
    }
    choice
}

/// Metrics by name; `accuracy` metrics are maximised, all others minimised.
pub fn measured(metrics: &[(&str, f64)]) -> Outcome {
    let mut measurements = Measurements::default();
    for (name, value) in metrics {
        let direction = if name.ends_with("acc") { Direction::Maximize } else { Direction::Minimize };
        measurements.metrics.insert((*name).into(), Measurement::exact(*value, "", direction));
    }
    Outcome::Ok { measurements }
}

/// A search trial with one technique for each named integer; trial 0 is the baseline.
pub fn trial(id: u64, settings: &[(&str, i64)], outcome: Outcome) -> Trial {
    let choices = settings.iter().map(|(name, value)| chosen(name, &[("level", (*value).into())])).collect();
    Trial {
        id: TrialId(id),
        purpose: if id == 0 { Purpose::Baseline } else { Purpose::Search },
        confirms: None,
        configuration: Configuration(choices),
        fidelity: 1.0,
        why: String::new(),
        outcome,
        timings: Timings::default(),
        started_at: 0.0,
        finished_at: 0.0,
    }
}

/// A study of `multiple-choice.acc`, latency and peak memory over techniques `a` and `b`, each with a `level` of 1 to 4.
pub fn study(name: &str) -> StudyRecord {
    let accuracy = Metric { name: "multiple-choice.acc".into(), unit: "share".into(), direction: Direction::Maximize };
    let objective = |metric: &str, direction| Objective { metric: metric.into(), direction };
    StudyRecord {
        name: name.into(),
        model: "tiny".into(),
        model_path: "tiny.gguf".into(),
        model_digest: String::new(),
        reference: String::new(),
        model_facts: Settings::default(),
        device: "cpu".into(),
        threads: 2,
        hardware: serde_json::json!({"cpu": "test"}),
        scenario: Scenario::default(),
        conditions: Conditions::default(),
        evaluators: vec![EvaluatorUse {
            label: "multiple-choice".into(),
            id: "multiple-choice".into(),
            data: "openbookqa".into(),
            items: 100,
            confirm_items: 500,
            settings: Settings::default(),
            description: EvaluatorDescription {
                identity: identity("multiple-choice"),
                metrics: vec![accuracy.clone()],
                parameters: vec![],
            },
        }],
        accuracy_metric: accuracy.name.clone(),
        objectives: vec![
            objective("multiple-choice.acc", Direction::Maximize),
            objective(metrics::END_TO_END, Direction::Minimize),
            objective(metrics::PEAK_MEMORY, Direction::Minimize),
        ],
        constraints: vec![Constraint::parse("accuracy drop <= 5 %").unwrap()],
        weights: vec![],
        strategy: "sweep".into(),
        strategy_settings: Settings::default(),
        budget_trials: 12,
        budget_seconds: None,
        until_converged: false,
        earlier: vec![],
        confirm: true,
        seed: 3,
        space: vec![
            technique("a", Stage::Architecture, vec![integer("level", 1, 4)]),
            technique("b", Stage::Inference, vec![integer("level", 1, 4)]),
        ],
        plugins: vec![],
        metrics: metrics::built_in().into_iter().chain([accuracy]).collect(),
        aehost_version: "0.1.0".into(),
        created_at: 1.0,
    }
}

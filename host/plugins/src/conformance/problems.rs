//! The problems that strategies are tried on.

use aehost_common::{Condition, Direction, Domain, Identity, Parameter, Settings, Stage, TechniqueDescription, Value};
use aehost_study::{Configuration, Constraint, MetricValue, Objective, Observed, Problem, Proposal, TechniqueSpace};

/// A parameter of the synthetic problem.
fn parameter(name: &str, domain: Domain, default: impl Into<Value>, active_when: Vec<Condition>) -> Parameter {
    Parameter { name: name.into(), summary: String::new(), domain, default: default.into(), active_when }
}

fn words(values: &[&str]) -> Domain {
    Domain::Choice { values: values.iter().map(|v| (*v).into()).collect(), ordered: true }
}

fn integers(min: i64, max: i64, step: i64) -> Domain {
    Domain::Integer { min, max, step, log: false }
}

fn reals(min: f64, max: f64, log: bool) -> Domain {
    Domain::Real { min, max, log }
}

fn technique(id: &str, stage: Stage, conflicts: &[&str], parameters: Vec<Parameter>) -> TechniqueSpace {
    let identity =
        Identity { id: id.into(), version: "0.1.0".into(), summary: String::new(), reference: String::new() };
    let description = TechniqueDescription {
        identity,
        stage,
        order: 0,
        after: vec![],
        conflicts: conflicts.iter().map(|c| (*c).to_owned()).collect(),
        provides: vec![],
        requires: vec![],
        more: Settings::default(),
    };
    TechniqueSpace { description, parameters }
}

fn space() -> Vec<TechniqueSpace> {
    let windowed = Condition { parameter: "policy".into(), values: vec!["window".into()] };
    let drop = vec![
        parameter("layers", integers(1, 8, 1), 1i64, vec![]),
        parameter("share", reals(0.01, 1.0, true), 0.5, vec![]),
    ];
    let cache = vec![
        parameter("policy", words(&["full", "window"]), "full", vec![]),
        parameter("window", integers(64, 1024, 64), 256i64, vec![windowed]),
    ];
    let bits = parameter("bits", words(&["8", "6", "5", "4"]), "8", vec![]);
    vec![
        technique("drop", Stage::Architecture, &[], drop),
        technique("encode", Stage::Inference, &[], vec![bits]),
        technique("cache", Stage::Inference, &["stream"], cache),
        technique("stream", Stage::Inference, &["cache"], vec![parameter("eager", Domain::Flag, false, vec![])]),
    ]
}

/// Made-up metrics of a configuration: what saves time and memory costs quality.
fn figures(configuration: &Configuration) -> (f64, f64, f64) {
    let (mut quality, mut latency, mut memory) = (0.8, 20.0, 200.0e6);
    for choice in &configuration.0 {
        let number = |name: &str| choice.settings.get(name).and_then(Value::as_real).unwrap_or(0.0);
        let word = |name: &str| choice.settings.get(name).and_then(Value::as_text).unwrap_or_default();
        match choice.technique.as_str() {
            "drop" => {
                quality -= 0.01 * number("layers").powi(2) * number("share");
                latency -= number("layers") * number("share");
                memory -= 5.0e6 * number("layers");
            }
            "encode" => {
                let bits: f64 = word("bits").parse().unwrap_or(16.0);
                quality -= 0.2 / bits;
                latency -= 0.5 * (16.0 - bits);
                memory *= bits / 16.0;
            }
            "cache" if word("policy") == "window" => {
                quality -= 4.0 / number("window");
                latency -= 0.5;
            }
            _ => latency -= 0.1,
        }
    }
    (quality, latency, memory)
}

/// Above this, a configuration is infeasible.
const MEMORY_BYTES: f64 = 180.0e6;

/// What is found of a proposal.
pub(super) type Finding = fn(&Proposal) -> Observed;

/// A search to be made.
pub(super) struct Case {
    /// What the strategy is told at first.
    pub problem: Problem,
    /// What is found of the baseline.
    pub baseline: Observed,
    /// What is found of a proposal.
    pub outcome: Finding,
    /// Proposals that are asked for together.
    pub at_once: u32,
    /// Proposals after which it ends.
    pub most: usize,
}

fn minimized(metric: &str) -> Objective {
    Objective { metric: metric.into(), direction: Direction::Minimize }
}

fn maximized(metric: &str) -> Objective {
    Objective { metric: metric.into(), direction: Direction::Maximize }
}

fn measured(metrics: &[(&str, f64)], standard_error: f64) -> Observed {
    let value = |(metric, value): &(&str, f64)| MetricValue { metric: (*metric).into(), value: *value, standard_error };
    Observed::Measured { metrics: metrics.iter().map(value).collect() }
}

/// Quality against speed in 200 trials, with conditional parameters, conflicts, failures and a limit of memory that only the
/// host knows.
pub(super) fn plain(settings: &Settings) -> Case {
    Case {
        problem: Problem {
            space: space(),
            objectives: vec![maximized("quality"), minimized("latency.tpot_ms")],
            constraints: vec![],
            facts: Settings::default(),
            settings: settings.clone(),
            budget: 201,
            seed: 42,
            earlier: vec![],
        },
        baseline: found(&Configuration::default(), 0.0),
        outcome: |proposal| match too_large(&proposal.configuration) {
            _ if proposal.trial.0 % 23 == 7 => Observed::Failed { message: "the worker crashed".into() },
            Some(amount) => Observed::Infeasible { reason: TOO_LARGE.into(), amount: Some(amount) },
            None => found(&proposal.configuration, 0.01),
        },
        at_once: 1,
        most: 200,
    }
}

/// Why the host refuses a configuration.
pub(super) const TOO_LARGE: &str = "memory.weights_bytes is too large";

/// By how much the plain problem's limit of memory is broken.
pub(super) fn too_large(configuration: &Configuration) -> Option<f64> {
    let (.., memory) = figures(configuration);
    (memory > MEMORY_BYTES).then_some(memory / MEMORY_BYTES - 1.0)
}

/// Bytes of the plain problem.
pub(super) fn memory(configuration: &Configuration) -> f64 {
    figures(configuration).2
}

fn found(configuration: &Configuration, standard_error: f64) -> Observed {
    let (quality, latency, memory) = figures(configuration);
    measured(&[("quality", quality), ("latency.tpot_ms", latency), ("memory.weights_bytes", memory)], standard_error)
}

/// A search of another space, loss against speed.
pub(super) fn awkward(settings: &Settings, space: Vec<TechniqueSpace>) -> Case {
    Case {
        problem: Problem {
            space,
            objectives: vec![minimized("loss"), maximized("speed")],
            constraints: vec![],
            facts: Settings::default(),
            settings: settings.clone(),
            budget: 24,
            seed: 1,
            earlier: vec![],
        },
        baseline: measured(&[("loss", 0.1), ("speed", 1.0), ("size", 1.0)], 0.0),
        outcome: varied,
        at_once: 1,
        most: 40,
    }
}

fn varied(proposal: &Proposal) -> Observed {
    let number = proposal.configuration.to_string().len();
    let of = |modulus: usize| (number % modulus) as f64 / 10.0;
    measured(&[("loss", of(17)), ("speed", of(23)), ("size", of(50))], 0.0)
}

/// Searches of [`mixed`] of which little or nothing is learnt, with a limit on what is measured, budgets of 0 and 1, and trials
/// side by side.
pub(super) fn hard(settings: &Settings) -> Vec<(&'static str, Case)> {
    let outcomes: [(&str, Finding); 6] = [
        ("varied", varied),
        ("failed", |_| Observed::Failed { message: "crashed".into() }),
        ("infeasible", |_| Observed::Infeasible { reason: "too large".into(), amount: None }),
        ("without metrics", |_| measured(&[], 0.0)),
        ("equal", |_| measured(&[("loss", 1.0), ("speed", 1.0), ("size", 1.0)], 0.0)),
        ("extreme", |p| measured(&[("loss", 1e300 * (p.trial.0 % 3) as f64), ("speed", -1e300), ("size", 1e300)], 0.0)),
    ];
    let runs = [(0, 4), (1, 1), (24, 4), (24, 1), (0, 1), (1, 4)];
    let case = |((name, outcome), (budget, at_once))| {
        let mut case = Case { outcome, at_once, ..awkward(settings, mixed()) };
        (case.problem.budget, case.problem.seed) = (budget, u64::MAX);
        case.problem.constraints = vec![Constraint::parse("size <= 2").expect("a sound constraint")];
        (name, case)
    };
    outcomes.into_iter().zip(runs).map(case).collect()
}

/// All kinds of parameters and of relations between techniques.
pub(super) fn mixed() -> Vec<TechniqueSpace> {
    let quantised = || vec!["quantised-weights".to_owned()];
    let is = |parameter: &str, values: &[&str]| Condition {
        parameter: parameter.into(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    let sinks = Condition { parameter: "sinks".into(), values: vec![true.into()] };
    let mut round = technique(
        "round",
        Stage::Inference,
        &[],
        vec![
            parameter("bits", words(&["8", "4", "3"]), "4", vec![]),
            parameter("group", integers(32, 128, 32), 32i64, vec![]),
        ],
    );
    let mut block =
        technique("block", Stage::Inference, &[], vec![parameter("format", words(&["Q8_0", "Q4_K"]), "Q8_0", vec![])]);
    let mut tune =
        technique("tune", Stage::Inference, &[], vec![parameter("rate", reals(1e-5, 1e-2, true), 1e-4, vec![])]);
    round.description.provides = quantised();
    block.description.provides = quantised();
    tune.description.requires = quantised();
    let cache = technique(
        "cache",
        Stage::Inference,
        &[],
        vec![
            parameter("policy", words(&["full", "window", "scored"]), "full", vec![]),
            parameter("window", integers(64, 4096, 64), 256i64, vec![is("policy", &["window", "scored"])]),
            parameter("sinks", Domain::Flag, true, vec![is("policy", &["window"])]),
            parameter("count", integers(1, 16, 1), 4i64, vec![is("policy", &["window"]), sinks]),
        ],
    );
    let prune = technique(
        "prune",
        Stage::Architecture,
        &[],
        vec![
            parameter("share", reals(0.05, 0.6, false), 0.2, vec![]),
            parameter("drop", integers(-3, 11, 7), 4i64, vec![]),
        ],
    );
    vec![round, block, cache, prune, technique("slice", Stage::Architecture, &["prune"], vec![]), tune]
}

/// Five configurations and the baseline.
pub(super) fn little() -> Vec<TechniqueSpace> {
    let one =
        vec![parameter("only", words(&["this"]), "this", vec![]), parameter("number", integers(3, 3, 1), 3i64, vec![])];
    let two =
        vec![parameter("x", Domain::Flag, false, vec![]), parameter("point", reals(0.5, 0.5, false), 0.5, vec![])];
    vec![technique("one", Stage::Inference, &[], one), technique("two", Stage::Inference, &[], two)]
}

/// A technique that requires what no technique provides.
pub(super) fn lonely() -> Vec<TechniqueSpace> {
    let mut tune = technique("tune", Stage::Inference, &[], vec![]);
    tune.description.requires = vec!["quantised-weights".into()];
    vec![tune]
}

/// The widest domains.
pub(super) fn wide() -> Vec<TechniqueSpace> {
    vec![technique(
        "wide",
        Stage::Inference,
        &[],
        vec![
            parameter("huge", integers(-(1 << 61), 1 << 61, 1), 0i64, vec![]),
            parameter("scale", reals(1e-300, 1e300, true), 1.0, vec![]),
            parameter("any", reals(-1e308, 1e308, false), 0.0, vec![]),
        ],
    )]
}

/// Forty techniques of four parameters.
pub(super) fn many() -> Vec<TechniqueSpace> {
    let four = || (0..4).map(|i| parameter(&format!("p{i}"), reals(0.0, 1.0, false), 0.5, vec![])).collect();
    (0..40).map(|i| technique(&format!("t{i}"), Stage::Inference, &[], four())).collect()
}

//! What `aehost plugins test` runs: the promises of the contract that can be checked from outside, on a component by
//! itself. A strategy is run on a synthetic problem with conditional parameters, conflicts, failures and a memory limit;
//! a technique on a model, where one is given.

use crate::Surroundings;
use crate::{Catalog, Options, PluginError, PluginInfo};
use aehost_common::{
    Code, Condition, Direction, Domain, Fault, Identity, Parameter, PluginKind, Settings, Stage, TechniqueDescription,
    Value,
};
use aehost_engine::Variant;
use aehost_study::{
    Configuration, MetricValue, Objective, Observation, Observed, Problem, Proposal, Space, StrategyFactory,
    TechniqueSpace, TrialId,
};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The promise, as a sentence about the plugin.
    pub promise: String,
    /// Whether it was kept.
    pub kept: bool,
    /// Why it was not, or a figure.
    pub detail: String,
}

/// What became of a component's promises.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conformance {
    /// Who was checked.
    pub plugin: PluginInfo,
    /// In the order in which they were checked; after one that fails, what depends on it is left out.
    pub checks: Vec<Check>,
}

impl Conformance {
    /// Whether every promise was kept.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|c| c.kept)
    }
}

/// Trials of the synthetic study.
const TRIALS: u32 = 200;
/// A round of ask and tell at 200 trials may take this long on average.
const ROUND: Duration = Duration::from_millis(200);

/// Checks a component. Techniques are also tried on `model`, an unchanged one; what needs calibration is left out.
///
/// # Errors
/// A component that cannot be loaded at all.
pub fn conformance(component: &Path, options: &Options, model: Option<&Variant>) -> Result<Conformance, PluginError> {
    let catalog = Catalog::single(component, options)?;
    let plugin = catalog.plugins().next().cloned().expect("a catalog of one component holds it");
    let mut checks = Checks::default();
    let told = || match plugin.kind {
        PluginKind::Technique => catalog.technique(&plugin.id)?.describe_again(),
        PluginKind::Evaluator => catalog.evaluator(&plugin.id)?.describe_again(),
        PluginKind::Strategy => catalog.strategy(&plugin.id)?.describe_again(),
        PluginKind::Family => catalog.family(&plugin.id)?.describe_again(),
    };
    checks.same("describes itself in the same words each time", told(), told());
    match plugin.kind {
        PluginKind::Technique => technique(catalog.technique(&plugin.id)?, model, &mut checks),
        PluginKind::Strategy => strategy(catalog.strategy(&plugin.id)?, &mut checks),
        PluginKind::Evaluator => {}
        PluginKind::Family => {
            let some = !plugin.architectures.is_empty();
            checks.add(
                "builds at least one architecture",
                if some { Ok(plugin.architectures.join(", ")) } else { Err("it names none".into()) },
            );
        }
    }
    Ok(Conformance { plugin, checks: checks.0 })
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, promise: &str, outcome: Result<String, String>) -> bool {
        let kept = outcome.is_ok();
        self.0.push(Check { promise: promise.into(), kept, detail: outcome.unwrap_or_else(|why| why) });
        kept
    }

    fn same<T: PartialEq>(&mut self, promise: &str, one: Result<T, Fault>, other: Result<T, Fault>) -> bool {
        self.add(
            promise,
            match (one, other) {
                (Err(fault), _) | (_, Err(fault)) => Err(fault.full()),
                (Ok(one), Ok(other)) if one == other => Ok(String::new()),
                _ => Err("two runs differ".into()),
            },
        )
    }
}

fn technique(technique: &crate::Technique, model: Option<&Variant>, checks: &mut Checks) {
    let description = technique.description();
    let id = &description.identity.id;
    let itself = description.after.contains(id) || description.conflicts.contains(id);
    checks.add(
        "neither follows nor excludes itself",
        if itself { Err(format!("`{id}` stands in its own `after` or `conflicts`")) } else { Ok(String::new()) },
    );
    let Some(model) = model else { return };
    let facts = Settings::default();
    let parameters = match technique.parameters(model, &facts) {
        Err(fault) if fault.code == Code::NotApplicable => {
            checks.add("says why where it is not applicable", Ok(fault.full()));
            return;
        }
        first => {
            let again = technique.parameters(model, &facts);
            let parameters = first.clone().unwrap_or_default();
            if !checks.same("declares the same sound parameters each time", first, again) {
                return;
            }
            parameters
        }
    };
    let defaults = match Parameter::complete(&parameters, &Settings::default()) {
        Ok(settings) => settings,
        Err(error) => {
            checks.add("has defaults that go together", Err(error.to_string()));
            return;
        }
    };
    let surroundings = Surroundings { facts, ..Surroundings::default() };
    let apply = || {
        let mut variant = model.clone();
        let done = technique.apply(&mut variant, &surroundings, &defaults);
        match done {
            Err(fault) if matches!(fault.code, Code::NotApplicable | Code::Unsupported) => Ok(fault.full()),
            Err(fault) => Err(fault),
            Ok(()) => Ok(variant.key()),
        }
    };
    checks.same("applies with its defaults, to the same effect each time", apply(), apply());
}

/// A parameter of the synthetic problem.
fn parameter(name: &str, domain: Domain, default: impl Into<Value>, active_when: Vec<Condition>) -> Parameter {
    Parameter { name: name.into(), summary: String::new(), domain, default: default.into(), active_when }
}

fn space() -> Vec<TechniqueSpace> {
    let technique = |id: &str, stage, conflicts: &[&str], parameters| TechniqueSpace {
        description: TechniqueDescription {
            identity: Identity {
                id: id.into(),
                version: "0.1.0".into(),
                summary: String::new(),
                reference: String::new(),
            },
            stage,
            order: 0,
            after: vec![],
            conflicts: conflicts.iter().map(|c| (*c).to_owned()).collect(),
            provides: vec![],
            requires: vec![],
            more: Settings::default(),
        },
        parameters,
    };
    let words =
        |values: &[&str]| Domain::Choice { values: values.iter().map(|v| (*v).into()).collect(), ordered: true };
    let windowed = Condition { parameter: "policy".into(), values: vec!["window".into()] };
    vec![
        technique(
            "drop",
            Stage::Architecture,
            &[],
            vec![
                parameter("layers", Domain::Integer { min: 1, max: 8, step: 1, log: false }, 1i64, vec![]),
                parameter("share", Domain::Real { min: 0.01, max: 1.0, log: true }, 0.5, vec![]),
            ],
        ),
        technique("encode", Stage::Inference, &[], vec![parameter("bits", words(&["8", "6", "5", "4"]), "8", vec![])]),
        technique(
            "cache",
            Stage::Inference,
            &["stream"],
            vec![
                parameter("policy", words(&["full", "window"]), "full", vec![]),
                parameter(
                    "window",
                    Domain::Integer { min: 64, max: 1024, step: 64, log: false },
                    256i64,
                    vec![windowed],
                ),
            ],
        ),
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

fn problem(settings: Settings) -> Problem {
    let objective = |metric: &str, direction| Objective { metric: metric.into(), direction };
    Problem {
        space: space(),
        objectives: vec![objective("quality", Direction::Maximize), objective("latency.tpot_ms", Direction::Minimize)],
        constraints: vec![],
        facts: Settings::default(),
        settings,
        budget: TRIALS + 1,
        seed: 42,
        earlier: vec![],
    }
}

fn outcome(proposal: &Proposal) -> Observed {
    let (quality, latency, memory) = figures(&proposal.configuration);
    if proposal.trial.0 % 23 == 7 {
        return Observed::Failed { message: "the worker crashed".into() };
    }
    if memory > MEMORY_BYTES {
        let amount = Some(memory / MEMORY_BYTES - 1.0);
        return Observed::Infeasible { reason: "memory.weights_bytes is too large".into(), amount };
    }
    let value = |metric: &str, value| MetricValue { metric: metric.into(), value, standard_error: 0.01 };
    Observed::Measured {
        metrics: vec![
            value("quality", quality),
            value("latency.tpot_ms", latency),
            value("memory.weights_bytes", memory),
        ],
    }
}

/// The whole study: every proposal, and the mean time of a round in the last tenth.
fn study(factory: &crate::LoadedStrategy, settings: &Settings) -> Result<(Vec<Proposal>, Duration), Fault> {
    let mut strategy = factory.start(&problem(settings.clone()))?;
    let baseline = Configuration::default();
    let (quality, latency, memory) = figures(&baseline);
    let value = |metric: &str, value| MetricValue { metric: metric.into(), value, standard_error: 0.0 };
    let metrics =
        vec![value("quality", quality), value("latency.tpot_ms", latency), value("memory.weights_bytes", memory)];
    strategy.tell(&[Observation {
        trial: TrialId(0),
        configuration: baseline,
        fidelity: 1.0,
        outcome: Observed::Measured { metrics },
    }])?;
    let (mut proposals, mut late, mut rounds) = (Vec::new(), Duration::ZERO, 0);
    while (proposals.len() as u32) < TRIALS {
        let begin = Instant::now();
        let Some(proposal) = strategy.ask(1)?.pop() else { break };
        let observation = Observation {
            trial: proposal.trial,
            configuration: proposal.configuration.clone(),
            fidelity: proposal.fidelity,
            outcome: outcome(&proposal),
        };
        strategy.tell(&[observation])?;
        if proposals.len() as u32 >= TRIALS - TRIALS / 10 {
            late += begin.elapsed();
            rounds += 1;
        }
        proposals.push(proposal);
    }
    Ok((proposals, late.checked_div(rounds).unwrap_or_default()))
}

fn strategy(loaded: &crate::LoadedStrategy, checks: &mut Checks) {
    let settings = match Parameter::complete(&loaded.description().parameters, &Settings::default()) {
        Ok(settings) => settings,
        Err(error) => {
            checks.add("has defaults that go together", Err(error.to_string()));
            return;
        }
    };
    let factory = loaded.with_feasibility(Arc::new(|configuration: &Configuration| {
        let (_, _, memory) = figures(configuration);
        if memory > MEMORY_BYTES {
            return Err(Fault::not_applicable("memory.weights_bytes is too large"));
        }
        Ok(vec![("memory.weights_bytes".into(), memory)])
    }));
    let (proposals, round) = match study(&factory, &settings) {
        Ok(done) => done,
        Err(fault) => {
            checks.add("runs a study of 200 trials", Err(fault.full()));
            return;
        }
    };
    let some = if proposals.is_empty() {
        Err("it proposed nothing".into())
    } else {
        Ok(format!("{} trials", proposals.len()))
    };
    checks.add("runs a study of 200 trials", some);
    let space = Space::new(&space()).expect("the synthetic space is sound");
    let outside = proposals
        .iter()
        .find_map(|p| space.complete(&p.configuration).err().map(|e| format!("trial {}: {e}", p.trial)));
    checks.add("stays inside the search space", outside.map_or(Ok(String::new()), Err));
    let numbers: BTreeSet<TrialId> = proposals.iter().map(|p| p.trial).collect();
    let twice =
        if numbers.len() == proposals.len() { Ok(String::new()) } else { Err("a number was used twice".into()) };
    checks.add("numbers every trial once", twice);
    let again = study(&factory, &settings).map(|(proposals, _)| proposals);
    checks.same("proposes the same when it is replayed", Ok(proposals), again);
    let told = format!("{:.3} ms", round.as_secs_f64() * 1e3);
    let promise = format!("asks and tells in under {} ms at 200 trials", ROUND.as_millis());
    checks.add(&promise, if round <= ROUND { Ok(told) } else { Err(told) });
}

//! What `aehost plugins test` runs: the promises of the contract that can be checked from outside, on a component by
//! itself. A strategy is run on synthetic problems, a technique on a model, where one is given.

mod problems;
mod strategy;

pub use strategy::strategy_promises;

use crate::Surroundings;
use crate::{Catalog, Options, PluginError, PluginInfo};
use aehost_common::{Code, Fault, Parameter, PluginKind, Settings};
use aehost_engine::Variant;
use serde::Serialize;
use std::path::Path;

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

/// What the memory of a strategy may grow to.
const STRATEGY_MEMORY: usize = 128 << 20;

/// Checks a component. Techniques are also tried on `model`, an unchanged one; what needs calibration is left out.
///
/// # Errors
/// A component that cannot be loaded at all.
pub fn conformance(component: &Path, options: &Options, model: Option<&Variant>) -> Result<Conformance, PluginError> {
    let mut options = options.clone();
    options.limits.memory_bytes = options.limits.memory_bytes.min(STRATEGY_MEMORY);
    let catalog = Catalog::single(component, &options)?;
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
        PluginKind::Strategy => strategy::check(catalog.strategy(&plugin.id)?, &mut checks),
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

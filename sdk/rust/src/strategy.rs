//! Strategies: they propose configurations and learn from results.
//!
//! A strategy is a pure function of the problem and the sequence of asks and tells; the host logs both and replays them
//! after a crash. Randomness comes from [`crate::Random`] with the problem's seed, never from anywhere else.

use crate::bindings::imports::aehost::plugin::feasibility as host;
use crate::bindings::strategy::exports::aehost::plugin::strategy as exports;
pub use crate::{
    Direction, Error, Identity, Parameter, Random, Setting, Settings, Stage, Value, choice, flag, identity, integer,
    log, real, setting, space::Space,
};
pub use aehost_search as search;
pub use exports::{
    Constraint, Description, EarlierStudy, MetricValue, Objective, Observation, Outcome, Outlook, Problem, Proposal,
    TechniqueSpace, TrialId, Violation,
};
pub use host::Choice;
pub use state::Search;
use std::cell::RefCell;

pub mod breeding;
pub mod candidates;
pub mod denoising;
pub mod design;
pub mod earlier;
pub mod encoding;
pub mod guided;
pub mod history;
pub mod model;
pub mod process;
pub mod share;
pub mod state;
pub mod surrogate;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod worth;

/// Which techniques are on, with their settings, in the order of the problem's space; empty is the baseline.
pub type Configuration = Vec<Choice>;

/// Proposes configurations and learns from results (ask / tell).
pub trait Strategy: Sized + 'static {
    /// Who it is and what its user may set.
    fn describe() -> Description;

    /// Begins a search. Errors: invalid-input, when the problem or the settings make no sense.
    fn start(problem: Problem) -> Result<Self, Error>;

    /// Up to `count` proposals, numbered from 1 over the whole search; fewer, or none, when it waits for results or has
    /// finished. `allowed` tells, without a measurement, whether a configuration can be applied at all.
    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error>;

    /// Results of its proposals, and first of all trial 0, the baseline.
    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error>;

    /// What is still to be gained, if it knows.
    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: Vec::new() }
    }
}

/// Answers whether a configuration is allowed; in tests a closure.
pub trait Feasibility {
    /// Metrics that can be computed without running, in bytes. Errors: not-applicable, saying why it is not allowed.
    fn check(&self, configuration: &[Choice]) -> Result<Vec<(String, f64)>, Error>;
}

impl<F: Fn(&[Choice]) -> Result<Vec<(String, f64)>, Error>> Feasibility for F {
    fn check(&self, configuration: &[Choice]) -> Result<Vec<(String, f64)>, Error> {
        self(configuration)
    }
}

impl Description {
    /// A strategy without parameters that measures everything at full fidelity.
    pub fn new(identity: Identity) -> Self {
        Self { identity, parameters: Vec::new(), multi_fidelity: false }
    }

    /// It measures some configurations on a share of the data.
    #[must_use]
    pub fn multi_fidelity(self) -> Self {
        Self { multi_fidelity: true, ..self }
    }

    /// Adds a parameter that the user of the strategy may set.
    #[must_use]
    pub fn parameter(mut self, parameter: impl Into<Parameter>) -> Self {
        self.parameters.push(parameter.into());
        self
    }
}

impl Constraint {
    /// By how much a value breaks the constraint, as a share of the bound; 0 when it holds. A value that is not a number
    /// breaks it entirely.
    pub fn violation(&self, value: f64) -> f64 {
        let over = if self.at_most { value - self.bound } else { self.bound - value };
        if over.is_nan() { 1.0 } else { over.max(0.0) / self.bound.abs().max(f64::MIN_POSITIVE) }
    }
}

/// Whether a configuration can be applied and breaks no constraint that is known without a measurement. The host is asked
/// only where a constraint is on memory: its answer costs applying the configuration, and what cannot be applied it
/// refuses unmeasured anyway.
pub fn admitted(configuration: &[Choice], allowed: &impl Feasibility, constraints: &[Constraint]) -> bool {
    if !constraints.iter().any(|c| c.metric.starts_with("memory.")) {
        return true;
    }
    let Ok(known) = allowed.check(configuration) else { return false };
    known.iter().all(|(metric, value)| {
        constraints.iter().filter(|c| c.metric == *metric).all(|constraint| constraint.violation(*value) == 0.0)
    })
}

struct Host;

impl Feasibility for Host {
    fn check(&self, configuration: &[Choice]) -> Result<Vec<(String, f64)>, Error> {
        host::check(configuration)
    }
}

/// The exported resource.
#[doc(hidden)]
pub struct Optimizer<T>(RefCell<T>);

impl<T: Strategy> exports::Guest for crate::Component<T> {
    type Optimizer = Optimizer<T>;

    fn describe() -> Description {
        log::forward_panics();
        T::describe()
    }
}

impl<T: Strategy> exports::GuestOptimizer for Optimizer<T> {
    fn start(problem: Problem) -> Result<exports::Optimizer, Error> {
        log::forward_panics();
        Ok(exports::Optimizer::new(Optimizer(RefCell::new(T::start(problem)?))))
    }

    fn ask(&self, count: u32) -> Result<Vec<Proposal>, Error> {
        self.0.borrow_mut().ask(count, &Host)
    }

    fn tell(&self, observations: Vec<Observation>) -> Result<(), Error> {
        self.0.borrow_mut().tell(observations)
    }

    fn outlook(&self) -> Outlook {
        self.0.borrow().outlook()
    }
}

//! The worker as the study's loop and the strategy share it: the loop runs trials with it, and the strategy may ask it,
//! between trials, whether a configuration is allowed.

use aehost_common::{Code, Fault};
use aehost_plugins::Feasibility;
use aehost_study::{Configuration, Job, Outcome, Progress, Runner, Space, Stop, Timings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A runner behind a lock that is never contended: loop and strategy live in one thread.
pub struct Shared<R>(Arc<Mutex<R>>);

impl<R: Runner> Shared<R> {
    /// Shares a runner.
    pub fn new(runner: R) -> Self {
        Self(Arc::new(Mutex::new(runner)))
    }

    fn runner(&self) -> MutexGuard<'_, R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runner + Send + 'static> Shared<R> {
    /// The strategy's question: the metrics that follow without running, or why the configuration is not allowed. A
    /// plugin that fails is no reason to pass a configuration over in silence: the trial that it costs says what happened.
    pub fn feasibility(&self, space: Space) -> Arc<Feasibility> {
        let shared = Self(self.0.clone());
        Arc::new(move |configuration: &Configuration| {
            let configuration = space.complete(configuration).map_err(|e| Fault::not_applicable(e.to_string()))?;
            match shared.runner().predict(&configuration, 1.0) {
                Ok(known) => Ok(known.into_iter().collect()),
                Err(fault) if fault.code == Code::NotApplicable => Err(fault),
                Err(_) => Ok(Vec::new()),
            }
        })
    }
}

impl<R: Runner> Runner for Shared<R> {
    fn predict(&mut self, configuration: &Configuration, fidelity: f64) -> Result<BTreeMap<String, f64>, Fault> {
        self.runner().predict(configuration, fidelity)
    }

    fn predicting_seconds(&self) -> f64 {
        self.runner().predicting_seconds()
    }

    fn run(&mut self, job: &Job, stop: &Stop, progress: &mut dyn FnMut(Progress)) -> (Outcome, Timings) {
        self.runner().run(job, stop, progress)
    }
}

//! What the study sees of the rest: strategies that propose, a runner that measures, and an observer that shows how far
//! it is. Everything else about plugins, processes and terminals stays outside this crate.

use crate::{Configuration, Constraint, Objective, Outcome, Purpose, TechniqueSpace, Timings, Trial, TrialId};
use aehost_common::{Fault, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All that a strategy is told before its first ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What may be chosen.
    pub space: Vec<TechniqueSpace>,
    /// What is searched for.
    pub objectives: Vec<Objective>,
    /// Hard limits; the metric may be `accuracy.drop`, which observations carry like any other.
    pub constraints: Vec<Constraint>,
    /// Facts about the model, the scenario and the machine.
    pub facts: Settings,
    /// The strategy's own settings, complete.
    pub settings: Settings,
    /// Trials at most, the baseline included.
    pub budget: u32,
    /// The seed of everything random.
    pub seed: u64,
    /// What other studies measured.
    #[serde(default)]
    pub earlier: Vec<crate::EarlierStudy>,
}

/// One configuration that a strategy wants measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The strategy's own number for it, from 1; told back with the result.
    pub trial: TrialId,
    /// What is on.
    pub configuration: Configuration,
    /// Share of the evaluation data, in (0, 1].
    pub fidelity: f64,
    /// The strategy's words.
    pub why: String,
}

/// What came of a proposal. Trial 0 is the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The proposal's number.
    pub trial: TrialId,
    /// Its configuration, in canonical form.
    pub configuration: Configuration,
    /// Its fidelity.
    pub fidelity: f64,
    /// Its result.
    pub outcome: Observed,
}

/// A result as a strategy sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Observed {
    /// Finite values; a metric that is absent was unavailable.
    Measured {
        /// By metric name.
        metrics: Vec<MetricValue>,
    },
    /// Rejected before it was measured.
    Infeasible {
        /// Which rule or constraint.
        reason: String,
        /// By how much, as a share of the bound, where there is one.
        amount: Option<f64>,
    },
    /// Anything else that ended without figures.
    Failed {
        /// What happened.
        message: String,
    },
}

/// One figure of an observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// Its dotted name.
    pub metric: String,
    /// In the metric's unit.
    pub value: f64,
    /// Of `value`.
    pub standard_error: f64,
}

/// What a strategy thinks is still to be gained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Share of the hypervolume, if it knows.
    pub remaining_gain: Option<f64>,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// Proposes configurations and learns from results; a pure function of the problem and of the sequence of asks and tells.
pub trait Strategy {
    /// Up to `count` proposals; fewer, or none, when it waits for results or has finished.
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault>;
    /// Results, in the order in which they came.
    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault>;
    /// What is still to be gained.
    fn outlook(&mut self) -> Outlook;
}

/// Starts a strategy afresh: once a study, and once more at each resumption, to be replayed.
pub trait StrategyFactory {
    /// A strategy that was asked and told nothing yet.
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault>;
}

/// One trial as the runner gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number in the study.
    pub trial: TrialId,
    /// What to apply, in canonical form and order.
    pub configuration: Configuration,
    /// Why it is run.
    pub purpose: Purpose,
    /// Share of the screening items, in (0, 1].
    pub fidelity: f64,
    /// How much of which data each evaluator uses, in the order of the study's evaluators.
    pub items: Vec<Items>,
}

/// How many items an evaluator uses; which ones follows from [`crate::subset`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// The evaluator's label in the study.
    pub evaluator: String,
    /// Items wanted; all there are when the data set is smaller.
    pub count: u32,
    /// Seed of the selection: the study's, so that all trials see the same items.
    pub seed: u64,
}

/// How far the trial at work is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The phase: `apply`, `measure`, `evaluate`.
    pub phase: String,
    /// What exactly, for people.
    pub what: String,
    /// Share of the phase that is done, in [0, 1], where it is known.
    pub done: Option<f64>,
}

/// Applies, measures and evaluates configurations; the workers.
pub trait Runner {
    /// Metrics that follow without running (`memory.weights_bytes`, `memory.cache_bytes`). A fault of code
    /// not-applicable makes the configuration infeasible; any other is the trial's outcome. It may apply the
    /// configuration at that fidelity, for `run` to use: its time counts as applying.
    fn predict(&mut self, configuration: &Configuration, fidelity: f64) -> Result<BTreeMap<String, f64>, Fault>;
    /// Seconds spent on predictions so far, those that a strategy asked for included.
    fn predicting_seconds(&self) -> f64 {
        0.0
    }
    /// Runs one trial. Timings: seconds by phase, `apply`, `measure` and `evaluate`, each with an optional part after a
    /// dot (`evaluate.perplexity`), without overlap; what else the worker does stands under other names.
    /// `stop` asks it to end early; it then answers with whatever outcome, which is discarded.
    fn run(&mut self, job: &Job, stop: &Stop, progress: &mut dyn FnMut(Progress)) -> (Outcome, Timings);
}

/// Set by Ctrl-C: the loop ends after discarding the trial at work, and the study can be resumed.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the loop to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked to.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Where the study stands, for the progress line.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Trials that were run, the baseline included.
    pub trials_done: u32,
    /// Trials at most, the baseline included.
    pub trials_budget: u32,
    /// What the loop is doing.
    pub phase: StudyPhase,
    /// Best efficiency score of a feasible trial so far, with its trial.
    pub best: Option<(TrialId, f64)>,
    /// Seconds that the study has taken, earlier sessions included.
    pub elapsed_seconds: f64,
    /// Expected seconds until the end, once there is something to go by.
    pub seconds_left: Option<f64>,
}

/// The three parts of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudyPhase {
    /// Measuring trial 0.
    Baseline,
    /// Measuring what the strategy proposes.
    Search,
    /// Measuring points of the front again.
    Confirmation,
}

/// Watches a study run. All methods do nothing unless overridden.
pub trait Events {
    /// A trial is about to run.
    fn started(&mut self, _job: &Job, _standing: &Standing) {}
    /// The trial at work moved on.
    fn progress(&mut self, _job: &Job, _standing: &Standing, _progress: &Progress) {}
    /// A trial was stored.
    fn finished(&mut self, _trial: &Trial, _standing: &Standing) {}
    /// Something that a person should know: a duplicate proposal, an early end.
    fn note(&mut self, _message: &str) {}
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Events for Quiet {}

//! The data of a study: what was proposed, what was measured, and what the user asked for. Everything here is plain data
//! with a JSON form; the store keeps it, the report draws it, workers send it.

use crate::Weight;
use aehost_common::{
    Code, Curve, Direction, EvaluatorDescription, Fault, Metric, Parameter, Settings, Stage, TechniqueDescription,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The number of a trial in its study; 0 is the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialId(pub u64);

impl std::fmt::Display for TrialId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One technique that is on, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The technique's id.
    pub technique: String,
    /// All of its active settings.
    pub settings: Settings,
}

/// Which techniques are on, in the order in which they apply. Empty is the baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Configuration(pub Vec<Choice>);

/// The part of the search space that one technique spans on the study's base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TechniqueSpace {
    /// Who it is and how it combines with others.
    pub description: TechniqueDescription,
    /// What may be chosen.
    pub parameters: Vec<Parameter>,
}

/// How the model will be used; the meter measures this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scenario {
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// Tokens generated for each prompt.
    pub output_tokens: u32,
    /// Prompts at once.
    pub batch: u32,
    /// Counted repeats, after the warm-up.
    pub repeats: u32,
    /// Discarded runs before.
    pub warmup: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self { prompt_tokens: 256, output_tokens: 32, batch: 1, repeats: 5, warmup: 1 }
    }
}

/// Whether a number was read from the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Provenance {
    /// Read from the machine, or counted.
    Measured,
    /// Computed from a formula that the user declared.
    Estimated {
        /// The formula.
        formula: String,
        /// Its inputs.
        inputs: BTreeMap<String, f64>,
    },
}

/// One metric of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The headline: a median for the meter's metrics, a (transformed) weighted mean for evaluators'.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// Standard error of `value`.
    pub standard_error: f64,
    /// Repeats or items, in order; empty for quantities that do not vary.
    pub samples: Vec<f64>,
    /// Weights of the samples; empty means equal.
    pub weights: Vec<f64>,
    /// `identity` or `exp`: value = transform(weighted mean of samples).
    pub transform: String,
    /// Measured or estimated.
    pub provenance: Provenance,
}

/// All metrics of a trial by dotted name; a metric that could not be measured stands in `unavailable` with the reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// What was measured. Names: `latency.ttft_ms`, `latency.tpot_ms`, `latency.e2e_ms`, `throughput.prefill_tokens_per_s`,
    /// `throughput.decode_tokens_per_s`, `memory.peak_bytes`, `memory.weights_bytes`, `memory.cache_bytes`,
    /// `energy.joules_per_token`, and `<evaluator id>.<metric>`; `<evaluator id>@<data>.<metric>` where an evaluator is used twice.
    pub metrics: BTreeMap<String, Measurement>,
    /// Metric to reason.
    pub unavailable: BTreeMap<String, String>,
    /// What a person should know about the quality of these numbers (noisy machine, ...).
    pub warnings: Vec<String>,
    /// How losses fell, where something was trained, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<Curve>,
}

/// What became of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// Measured; whether it satisfies the constraints is computed from the metrics.
    Ok {
        /// The metrics.
        measurements: Measurements,
    },
    /// Rejected before it was measured.
    Infeasible {
        /// Which rule or constraint.
        reason: String,
        /// By how much, as a share of the bound, where there is one.
        amount: Option<f64>,
    },
    /// Memory ran out, or the kernel killed the worker for it.
    OutOfMemory {
        /// What was being done.
        message: String,
    },
    /// The trial's time limit passed.
    Timeout {
        /// What was being done.
        message: String,
    },
    /// A plugin trapped, broke its limits or its contract, or returned an error.
    PluginError {
        /// Plugin, version, function and what happened.
        fault: Fault,
    },
    /// The model's numbers became NaN or infinite.
    Diverged {
        /// Where.
        message: String,
    },
    /// The worker died.
    Crashed {
        /// Signal or exit status, and what was being done.
        message: String,
    },
}

impl Outcome {
    /// The typed outcome of a fault: the one place that maps codes.
    pub fn from_fault(fault: Fault) -> Self {
        match fault.code {
            Code::NotApplicable => Outcome::Infeasible { reason: fault.full(), amount: None },
            Code::OutOfMemory => Outcome::OutOfMemory { message: fault.full() },
            Code::Diverged => Outcome::Diverged { message: fault.full() },
            _ => Outcome::PluginError { fault },
        }
    }

    /// The word for tables: ok, infeasible, out-of-memory, timeout, plugin-error, diverged, crashed.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Ok { .. } => "ok",
            Outcome::Infeasible { .. } => "infeasible",
            Outcome::OutOfMemory { .. } => "out-of-memory",
            Outcome::Timeout { .. } => "timeout",
            Outcome::PluginError { .. } => "plugin-error",
            Outcome::Diverged { .. } => "diverged",
            Outcome::Crashed { .. } => "crashed",
        }
    }

    /// What happened, for people; none where there are figures.
    pub fn message(&self) -> Option<String> {
        match self {
            Outcome::Ok { .. } => None,
            Outcome::Infeasible { reason, .. } => Some(reason.clone()),
            Outcome::PluginError { fault } => Some(fault.full()),
            Outcome::OutOfMemory { message }
            | Outcome::Timeout { message }
            | Outcome::Diverged { message }
            | Outcome::Crashed { message } => Some(message.clone()),
        }
    }

    /// The metrics, if it was measured.
    pub fn measurements(&self) -> Option<&Measurements> {
        if let Outcome::Ok { measurements } = self { Some(measurements) } else { None }
    }
}

/// Seconds spent in each phase of a trial, as measured by the worker (and `ask`, `tell`, `store`, `wait` by the host).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timings(pub BTreeMap<String, f64>);

/// Why a trial was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Trial 0.
    Baseline,
    /// Proposed by the strategy.
    Search,
    /// A point of the front measured again at full fidelity.
    Confirmation,
}

/// One configuration measured once at one fidelity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number.
    pub id: TrialId,
    /// Why it was run.
    pub purpose: Purpose,
    /// For a confirmation, the trial that it confirms.
    pub confirms: Option<TrialId>,
    /// What was on.
    pub configuration: Configuration,
    /// Share of the evaluation data, in (0, 1].
    pub fidelity: f64,
    /// The strategy's words.
    pub why: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Where its time went.
    pub timings: Timings,
    /// Unix time in seconds when it started.
    pub started_at: f64,
    /// Unix time in seconds when it was stored.
    pub finished_at: f64,
}

/// One of the things to be minimised or maximised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// The metric.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
}

/// An evaluator with its data and settings, as the study uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluatorUse {
    /// The prefix of its metrics: the evaluator's id, with `@data` where it is used more than once.
    pub label: String,
    /// The evaluator's id.
    pub id: String,
    /// Name or path of the data set.
    pub data: String,
    /// Items at screening (fidelity 1 of the search).
    pub items: u32,
    /// Items at confirmation.
    pub confirm_items: u32,
    /// The evaluator's own settings, complete.
    pub settings: Settings,
    /// What it says of itself.
    pub description: EvaluatorDescription,
}

/// A plugin as it was loaded for the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Its id.
    pub id: String,
    /// family, technique, evaluator or strategy.
    pub kind: aehost_common::PluginKind,
    /// Its version.
    pub version: String,
    /// The stage, for a technique.
    pub stage: Option<Stage>,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Where it was loaded from.
    pub path: String,
}

/// What the study was run on and with: stored once, shown in every report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// The study's name.
    pub name: String,
    /// Name or path of the model, as given.
    pub model: String,
    /// The file or folder.
    pub model_path: String,
    /// SHA-256 of the checkpoint.
    pub model_digest: String,
    /// How the reference was made (`Q4_1 file dequantised to f16`).
    pub reference: String,
    /// Facts about the model and the machine, as strategies are told them.
    pub model_facts: Settings,
    /// cpu or cuda:N.
    pub device: String,
    /// Threads of the engine.
    pub threads: u32,
    /// The hardware profile, as the meter gives it.
    pub hardware: serde_json::Value,
    /// How the model will be used.
    pub scenario: Scenario,
    /// What trials are run under besides.
    #[serde(default)]
    pub conditions: crate::Conditions,
    /// The evaluators.
    pub evaluators: Vec<EvaluatorUse>,
    /// The metric that the accuracy drop is computed from.
    pub accuracy_metric: String,
    /// What is searched for.
    pub objectives: Vec<Objective>,
    /// Hard limits.
    pub constraints: Vec<crate::Constraint>,
    /// What counts in the efficiency score; [`Weight::default_ones`] when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Weight>,
    /// The strategy's id.
    pub strategy: String,
    /// Its settings, complete.
    pub strategy_settings: Settings,
    /// Trials at most, the baseline included, confirmations apart.
    pub budget_trials: u32,
    /// Seconds at most, if limited.
    pub budget_seconds: Option<f64>,
    /// Whether the search also ends when the strategy expects little more.
    #[serde(default)]
    pub until_converged: bool,
    /// What the strategy is told of other studies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<crate::EarlierStudy>,
    /// Whether the front is confirmed at the end.
    pub confirm: bool,
    /// The seed of everything random.
    pub seed: u64,
    /// The search space.
    pub space: Vec<TechniqueSpace>,
    /// The plugins.
    pub plugins: Vec<PluginRecord>,
    /// Every metric that can appear.
    pub metrics: Vec<Metric>,
    /// aehost's version.
    pub aehost_version: String,
    /// Unix time in seconds.
    pub created_at: f64,
}

impl StudyRecord {
    /// What counts in the efficiency score, and how much.
    pub fn weights(&self) -> Cow<'_, [Weight]> {
        match self.weights.is_empty() {
            true => Cow::Owned(Weight::default_ones().into()),
            false => Cow::Borrowed(&self.weights),
        }
    }

    /// Whether a configuration trains the model, which may make it better.
    pub fn trains(&self, configuration: &Configuration) -> bool {
        let stage = |id: &str| self.space.iter().find(|t| t.description.identity.id == id).map(|t| t.description.stage);
        configuration.0.iter().any(|choice| stage(&choice.technique) == Some(Stage::FineTuning))
    }
}

//! The words that every other crate shares, the Rust twin of the contract's `common` interface: values and settings,
//! parameters and their domains, who a plugin is, and the error that crosses every boundary.

mod curve;
mod domain;
mod value;

pub use curve::{Curve, Point};
pub use domain::{Condition, Domain, DomainError, Parameter};
pub use value::{Setting, Settings, Value};

use serde::{Deserialize, Serialize};

/// A named fact about the model, the scenario or the machine, under a dotted name with its unit.
pub type Fact = Setting;

/// Techniques apply in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Changes of the model's structure.
    Architecture,
    /// Changes of the weights by training.
    FineTuning,
    /// Changes of how the model is stored and run.
    Inference,
}

impl Stage {
    /// In the order in which they apply.
    pub const ALL: [Self; 3] = [Self::Architecture, Self::FineTuning, Self::Inference];
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Stage::Architecture => "architecture",
            Stage::FineTuning => "fine-tuning",
            Stage::Inference => "inference",
        })
    }
}

/// Whether less or more of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Less is better.
    Minimize,
    /// More is better.
    Maximize,
}

/// The four kinds of plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    /// Turns a checkpoint into a graph.
    Family,
    /// Makes a model cheaper or better.
    Technique,
    /// Measures quality.
    Evaluator,
    /// Proposes configurations.
    Strategy,
}

impl std::fmt::Display for PluginKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            PluginKind::Family => "family",
            PluginKind::Technique => "technique",
            PluginKind::Evaluator => "evaluator",
            PluginKind::Strategy => "strategy",
        })
    }
}

/// Who a plugin is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Lower-case, with hyphens.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// The paper or specification that it follows.
    pub reference: String,
}

/// What a technique says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TechniqueDescription {
    /// Who it is.
    pub identity: Identity,
    /// When it applies.
    pub stage: Stage,
    /// Order within the stage, after `after` has been honoured.
    pub order: i32,
    /// Ids of techniques that must apply before it.
    pub after: Vec<String>,
    /// Ids of techniques that cannot be on together with it.
    pub conflicts: Vec<String>,
    /// Tags that hold once it has applied.
    pub provides: Vec<String>,
    /// Tags that must hold before it applies.
    pub requires: Vec<String>,
    /// Open-ended remarks.
    pub more: Settings,
}

/// One metric of an evaluator or the meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Dotted name (`multiple-choice.acc`, `latency.tpot_ms`).
    pub name: String,
    /// The unit, for people (`nats/token`, `ms`, `bytes`, `share`).
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
}

/// What an evaluator says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluatorDescription {
    /// Who it is.
    pub identity: Identity,
    /// What it measures; the first is its main metric.
    pub metrics: Vec<Metric>,
    /// What its user may set.
    pub parameters: Vec<Parameter>,
}

/// What a strategy says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrategyDescription {
    /// Who it is.
    pub identity: Identity,
    /// What its user may set.
    pub parameters: Vec<Parameter>,
    /// Whether it proposes fidelities below 1.
    pub multi_fidelity: bool,
}

/// What a family says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyDescription {
    /// Who it is.
    pub identity: Identity,
    /// GGUF `general.architecture` and config.json `model_type` values that it builds.
    pub architectures: Vec<String>,
}

/// What went wrong, in terms a person can act on; the twin of the contract's `common.error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Which kind of thing went wrong.
    pub code: Code,
    /// What, where, and what to do.
    pub message: String,
    /// From the nearest cause to the first.
    pub causes: Vec<String>,
}

/// The kinds of fault that a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The caller's input is wrong.
    InvalidInput,
    /// This host or device cannot do it.
    Unsupported,
    /// It makes no sense for this model or after these techniques.
    NotApplicable,
    /// Memory ran out.
    OutOfMemory,
    /// Numbers became NaN or infinite.
    Diverged,
    /// The user stopped it.
    Cancelled,
    /// A permission is missing.
    Denied,
    /// A bug.
    Internal,
}

impl Code {
    /// The word used in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidInput => "invalid-input",
            Code::Unsupported => "unsupported",
            Code::NotApplicable => "not-applicable",
            Code::OutOfMemory => "out-of-memory",
            Code::Diverged => "diverged",
            Code::Cancelled => "cancelled",
            Code::Denied => "denied",
            Code::Internal => "internal",
        }
    }

    /// The reverse of [`Code::as_str`]; unknown words are `Internal`.
    pub fn parse(word: &str) -> Self {
        match word {
            "invalid-input" => Code::InvalidInput,
            "unsupported" => Code::Unsupported,
            "not-applicable" => Code::NotApplicable,
            "out-of-memory" => Code::OutOfMemory,
            "diverged" => Code::Diverged,
            "cancelled" => Code::Cancelled,
            "denied" => Code::Denied,
            _ => Code::Internal,
        }
    }
}

impl Fault {
    /// A fault without causes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new() }
    }

    /// The caller's input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidInput, message)
    }

    /// This host or device cannot do it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, message)
    }

    /// It makes no sense for this model or after these techniques.
    pub fn not_applicable(message: impl Into<String>) -> Self {
        Self::new(Code::NotApplicable, message)
    }

    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The same fault seen from further out: `what` becomes the message, and the message a cause.
    #[must_use]
    pub fn within(mut self, what: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, what.into());
        self.causes.insert(0, inner);
        self
    }

    /// Message and causes in one line.
    pub fn full(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

//! What trials are run under besides the scenario. It is of no use to a strategy, so it is no fact of the problem.

use aehost_common::{Settings, Value};
use serde::{Deserialize, Serialize};

/// As given by the user; what is none was left to the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Name or path of the text that techniques may collect statistics on.
    pub calibration: Option<String>,
    /// Tokens of it at most.
    pub calibration_tokens: Option<u32>,
    /// Name or path of what is trained on.
    #[serde(default)]
    pub training: Option<String>,
    /// One of so many examples is held out.
    #[serde(default)]
    pub training_held_out: Option<u32>,
    /// The declared power of the device.
    pub power: Option<DeclaredPower>,
    /// Seconds that one trial may take.
    pub trial_seconds: Option<f64>,
    /// What the base model's matrices are kept as.
    #[serde(default)]
    pub reference: Reference,
    /// Models that techniques may use beside the one studied.
    #[serde(default)]
    pub companions: Vec<Companion>,
}

/// A model beside the one studied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// Name or path.
    pub model: String,
    /// SHA-256 of the checkpoint.
    pub digest: String,
}

/// What the matrices of the base model are kept as before techniques apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// IEEE half precision.
    #[default]
    Float16,
    /// IEEE single precision.
    Float32,
    /// bfloat16.
    Bfloat16,
    /// As the file has them.
    File,
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "float16" => Ok(Self::Float16),
            "float32" => Ok(Self::Float32),
            "bfloat16" => Ok(Self::Bfloat16),
            "file" => Ok(Self::File),
            _ => Err(format!("`{word}` is no reference: use float16, float32, bfloat16 or file")),
        }
    }
}

/// What the user declared about the device's power.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeclaredPower {
    /// While it works.
    pub watts_busy: f64,
    /// While it waits.
    pub watts_idle: Option<f64>,
}

impl Conditions {
    /// As older records keep them: among the facts, which their strategies saw and go on seeing.
    pub(crate) fn among_facts(facts: &Settings) -> Self {
        let fact = |name: &str| facts.get(&format!("run.{name}"));
        let real = |name: &str| fact(name).and_then(Value::as_real);
        Self {
            calibration: fact("calibration_data").and_then(Value::as_text).map(str::to_owned),
            calibration_tokens: fact("calibration_tokens").and_then(Value::as_integer).and_then(|n| n.try_into().ok()),
            training: None,
            training_held_out: None,
            power: real("watts_busy").map(|watts_busy| DeclaredPower { watts_busy, watts_idle: real("watts_idle") }),
            trial_seconds: real("trial_seconds"),
            reference: Reference::default(),
            companions: vec![],
        }
    }
}

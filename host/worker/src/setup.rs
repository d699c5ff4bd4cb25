//! What a workbench is made from, and what it then says of itself.

use aehost_common::{Metric, Settings};
use aehost_engine::FloatType;
use aehost_study::{EvaluatorUse, PluginRecord, Scenario, TechniqueSpace};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// All that a workbench needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// A .gguf file, or a folder with config.json and safetensors.
    pub model_path: PathBuf,
    /// Models with the same vocabulary that techniques may use beside it.
    pub companions: Vec<PathBuf>,
    /// Folders with components.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where compiled plugins are kept; nowhere when none.
    pub plugin_cache: Option<PathBuf>,
    /// Where a supervisor has a folder of its own for the weights that its trials share; without one, each trial encodes
    /// them again.
    pub variants: Option<PathBuf>,
    /// Permissions that the user granted beyond the contract's own interfaces.
    pub granted: Vec<String>,
    /// cpu or cuda:N.
    pub device: String,
    /// Threads of the engine.
    pub threads: usize,
    /// Type of the reference's matrices; none keeps them as the file stores them.
    pub reference: Option<FloatType>,
    /// How the model will be used.
    pub scenario: Scenario,
    /// What measures quality.
    pub evaluators: Vec<EvaluatorUse>,
    /// Text that techniques may collect statistics on.
    pub calibration: Option<CalibrationSetup>,
    /// What techniques may train on.
    pub training: Option<TrainingSetup>,
    /// The declared power of the device.
    pub energy: Option<PowerModelSetup>,
    /// Seconds that one trial may take.
    pub trial_seconds: f64,
    /// Whether measuring takes the device for itself, across processes.
    pub lease: bool,
}

/// Calibration text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CalibrationSetup {
    /// A data set whose rows have a `text`.
    pub data: PathBuf,
    /// Tokens used at most.
    pub tokens: usize,
}

/// Training data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainingSetup {
    /// A data set whose rows have a `text`, `prompt` and `answer`, or `context`, `choices` and `answer`.
    pub data: PathBuf,
    /// One of so many examples is held out; none where it is 0.
    pub held_out: usize,
    /// Where results are kept; nowhere when none.
    pub results: Option<PathBuf>,
}

/// What the user declared about the device's power.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PowerModelSetup {
    /// While it works.
    pub watts_busy: f64,
    /// While it waits.
    pub watts_idle: Option<f64>,
}

/// What a workbench found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// SHA-256 of the checkpoint.
    pub model_digest: String,
    /// SHA-256 of each companion's checkpoint, in the order given.
    pub companion_digests: Vec<String>,
    /// How the reference was made.
    pub reference: String,
    /// Facts about the model.
    pub model_facts: Settings,
    /// The hardware profile.
    pub hardware: serde_json::Value,
    /// The profile's facts that do not change from run to run.
    pub hardware_facts: Settings,
    /// The search space.
    pub space: Vec<TechniqueSpace>,
    /// Techniques that have no use here, and why.
    pub not_applicable: Vec<(String, String)>,
    /// What was loaded.
    pub plugins: Vec<PluginRecord>,
    /// Every metric that can appear.
    pub metrics: Vec<Metric>,
}

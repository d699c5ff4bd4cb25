//! The study file: what a user wants searched, in TOML, every key optional. Flags are laid over it, and defaults fill the
//! rest, so that `aehost run` without a file is the default study.

mod resolve;
#[cfg(test)]
mod tests;

pub use resolve::Overrides;

use crate::{Constraint, Reference, Scenario};
use aehost_common::Settings;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Stands in an objective for the study's accuracy metric, the main metric of its first evaluator.
pub const ACCURACY: &str = "accuracy";

/// A study file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudyFile {
    /// What is studied, and what for.
    pub study: StudySection,
    /// What quality means: `[[evaluator]]`, in order; the first one's main metric is the accuracy.
    pub evaluator: Vec<EvaluatorSection>,
    /// How the model will be used.
    pub scenario: Scenario,
    /// Who proposes configurations.
    pub strategy: StrategySection,
    /// When to stop.
    pub budget: BudgetSection,
    /// A declared power model, where energy cannot be measured.
    pub energy: Option<EnergySection>,
    /// Text for techniques that need calibration.
    pub calibration: CalibrationSection,
    /// What techniques of the fine-tuning stage train on.
    pub training: TrainingSection,
}

/// `[study]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StudySection {
    /// Name in the store; made from model and time when absent.
    pub name: Option<String>,
    /// Name or path of the model.
    pub model: String,
    /// Names or paths of models with the same vocabulary that techniques may use beside it, as to draft tokens.
    pub companions: Vec<String>,
    /// What the model's matrices are kept as before techniques apply; the baseline is the model so.
    pub reference: Reference,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads of the engine; all physical cores when absent.
    pub threads: Option<u32>,
    /// Seed of everything random.
    pub seed: u64,
    /// Folders of plugins; the installed ones when empty.
    pub plugins: Vec<PathBuf>,
    /// Techniques that take part, with what their parameters are limited to ([`crate::narrowed`]); all when empty.
    pub techniques: Vec<String>,
    /// Metrics to improve; `accuracy` stands for the accuracy metric.
    pub objectives: Vec<String>,
    /// Hard limits.
    pub constraints: Vec<Constraint>,
    /// What counts in the efficiency score, as `latency.e2e=2`; latency, memory and energy equally when empty.
    pub weights: Vec<String>,
    /// Whether the baseline, the recommended point and its neighbours are measured again on more data at the end.
    pub confirm: bool,
}

impl Default for StudySection {
    fn default() -> Self {
        Self {
            name: None,
            model: "smollm2-135m-instruct".into(),
            companions: Vec::new(),
            reference: Reference::default(),
            device: "cpu".into(),
            threads: None,
            seed: 0,
            plugins: Vec::new(),
            techniques: Vec::new(),
            objectives: [ACCURACY, "latency.e2e", "memory.peak"].map(String::from).into(),
            constraints: vec![Constraint::parse("accuracy drop <= 1.2 %").expect("the default constraint is valid")],
            weights: Vec::new(),
            confirm: true,
        }
    }
}

/// `[[evaluator]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvaluatorSection {
    /// The evaluator's id.
    pub id: String,
    /// Name or path of its data set; the evaluator's default when absent.
    pub data: Option<String>,
    /// Items at screening; the evaluator's default when absent.
    pub items: Option<u32>,
    /// Items at confirmation; the evaluator's default when absent.
    pub confirm_items: Option<u32>,
    /// The evaluator's own settings.
    #[serde(default)]
    pub settings: Settings,
}

/// `[strategy]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StrategySection {
    /// The strategy's id.
    pub id: String,
    /// Whether it is told what earlier studies of the store measured.
    pub warm_start: bool,
    /// Its own settings.
    pub settings: Settings,
}

impl Default for StrategySection {
    fn default() -> Self {
        Self { id: "ae-llm".into(), warm_start: true, settings: Settings::default() }
    }
}

/// `[budget]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BudgetSection {
    /// Trials at most, the baseline included, confirmations apart; 24, or 200 until converged.
    pub trials: Option<u32>,
    /// Wall-clock time at most, confirmations included: `90s`, `30m`, `1h30m`; `none` for no limit. 15 minutes, or no limit until
    /// converged.
    pub time: Option<TimeLimit>,
    /// Whether the search also ends when the strategy expects little more.
    pub until_converged: bool,
}

impl BudgetSection {
    /// Trials at most.
    pub fn trials(&self) -> u32 {
        self.trials.unwrap_or(if self.until_converged { 200 } else { 24 })
    }

    /// Time at most.
    pub fn time(&self) -> TimeLimit {
        self.time.unwrap_or(TimeLimit(if self.until_converged { None } else { Some(900.0) }))
    }
}

/// `[energy]`: watts of the whole machine, for an estimate that says so.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnergySection {
    /// When it does nothing.
    pub watts_idle: f64,
    /// When the engine runs.
    pub watts_busy: f64,
}

/// `[calibration]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSection {
    /// Name or path of the text; the default text when absent.
    pub data: Option<String>,
    /// Tokens at most that techniques may use; no limit when absent.
    pub tokens: Option<u32>,
}

/// `[training]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrainingSection {
    /// Name or path of the data: rows with a `text`, with `prompt` and `answer`, or of multiple choice. Nothing is trained when
    /// absent.
    pub data: Option<String>,
    /// One of so many examples, the last ones, are not trained on, and tell when to stop; 20 when absent, 0 for none.
    pub held_out: Option<u32>,
}

/// A limit of time in seconds, or none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeLimit(pub Option<f64>);

/// Why a study file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the study file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no valid study file.
    #[error("study file {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, the line itself and what is wrong.
        message: String,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

impl StudyFile {
    /// Reads a study file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a study file; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text)
            .map_err(|e| ConfigError::Parse { path: path.to_owned(), message: e.to_string().trim_end().to_owned() })
    }
}

impl std::str::FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time: write it like 90s, 30m, 1h30m, or none");
        let text = text.trim();
        if text == "none" {
            return Ok(Self(None));
        }
        let mut seconds = 0.0;
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
            let (number, unit) = rest.split_at(end);
            let factor = match unit.chars().next() {
                Some('h') => 3600.0,
                Some('m') => 60.0,
                Some('s') => 1.0,
                _ => return Err(wrong()),
            };
            seconds += number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
            rest = unit[1..].trim_start();
        }
        if seconds > 0.0 { Ok(Self(Some(seconds))) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for TimeLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TimeLimit> for String {
    fn from(limit: TimeLimit) -> Self {
        limit.0.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds}s"))
    }
}

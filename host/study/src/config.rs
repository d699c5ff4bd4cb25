//! The study file: what a user wants searched, in TOML, every key optional. Flags are laid over it, and defaults fill the
//! rest, so that `aehost run` without a file is the default study.

use crate::{Constraint, Scenario};
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
}

/// `[study]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StudySection {
    /// Name in the store; made from model and time when absent.
    pub name: Option<String>,
    /// Name or path of the model.
    pub model: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads of the engine; all physical cores when absent.
    pub threads: Option<u32>,
    /// Seed of everything random.
    pub seed: u64,
    /// Folders of plugins; the installed ones when empty.
    pub plugins: Vec<PathBuf>,
    /// Metrics to improve; `accuracy` stands for the accuracy metric.
    pub objectives: Vec<String>,
    /// Hard limits.
    pub constraints: Vec<Constraint>,
    /// Whether the baseline, the recommended point and its neighbours are measured again on more data at the end.
    pub confirm: bool,
}

impl Default for StudySection {
    fn default() -> Self {
        Self {
            name: None,
            model: "smollm2-135m-instruct".into(),
            device: "cpu".into(),
            threads: None,
            seed: 0,
            plugins: Vec::new(),
            objectives: [ACCURACY, "latency.e2e", "memory.peak"].map(String::from).into(),
            constraints: vec![Constraint::parse("accuracy drop <= 1.2 %").expect("the default constraint is valid")],
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
#[serde(deny_unknown_fields, default)]
pub struct StrategySection {
    /// The strategy's id.
    pub id: String,
    /// Its own settings.
    pub settings: Settings,
}

impl Default for StrategySection {
    fn default() -> Self {
        Self { id: "nsga2".into(), settings: Settings::default() }
    }
}

/// `[budget]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSection {
    /// Trials at most, the baseline included, confirmations apart.
    pub trials: u32,
    /// Wall-clock time at most, confirmations included: `90s`, `30m`, `1h30m`; `none` for no limit.
    pub time: TimeLimit,
}

impl Default for BudgetSection {
    fn default() -> Self {
        Self { trials: 24, time: TimeLimit(Some(900.0)) }
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

/// A limit of time in seconds, or none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeLimit(pub Option<f64>);

/// Flags of the command line, each laid over the file's value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--study`
    pub name: Option<String>,
    /// `--model`
    pub model: Option<String>,
    /// `--device`
    pub device: Option<String>,
    /// `--threads`
    pub threads: Option<u32>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--plugins`, replacing the file's when any is given
    pub plugins: Vec<PathBuf>,
    /// `--evaluator ID[:DATA]`, replacing the file's when any is given
    pub evaluators: Vec<String>,
    /// `--objective`, replacing the file's when any is given
    pub objectives: Vec<String>,
    /// `--constraint`, replacing the file's when any is given
    pub constraints: Vec<Constraint>,
    /// `--strategy`; another strategy drops the file's settings
    pub strategy: Option<String>,
    /// `--trials`
    pub trials: Option<u32>,
    /// `--time`
    pub time: Option<TimeLimit>,
    /// `--confirm`, `--no-confirm`
    pub confirm: Option<bool>,
}

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

    /// Lays flags over the file, fills the defaults of evaluators, and checks the numbers. What depends on plugins (known
    /// metrics, settings) is checked later.
    pub fn resolve(mut self, flags: &Overrides) -> Result<Self, ConfigError> {
        fn lay<T: Clone>(over: &Option<T>, value: &mut T) {
            if let Some(over) = over {
                *value = over.clone();
            }
        }
        fn lay_list<T: Clone>(over: &[T], values: &mut Vec<T>) {
            if !over.is_empty() {
                *values = over.to_vec();
            }
        }
        let study = &mut self.study;
        study.name = flags.name.clone().or(study.name.take());
        study.threads = flags.threads.or(study.threads);
        lay(&flags.model, &mut study.model);
        lay(&flags.device, &mut study.device);
        lay(&flags.seed, &mut study.seed);
        lay(&flags.confirm, &mut study.confirm);
        lay_list(&flags.plugins, &mut study.plugins);
        lay_list(&flags.objectives, &mut study.objectives);
        lay_list(&flags.constraints, &mut study.constraints);
        lay(&flags.trials, &mut self.budget.trials);
        lay(&flags.time, &mut self.budget.time);
        if let Some(id) = flags.strategy.as_ref().filter(|id| **id != self.strategy.id) {
            self.strategy = StrategySection { id: id.clone(), settings: Settings::default() };
        }
        if !flags.evaluators.is_empty() {
            self.evaluator = flags.evaluators.iter().map(|words| self.evaluator_flag(words)).collect();
        }
        if self.evaluator.is_empty() {
            self.evaluator = ["multiple-choice", "perplexity", "divergence"].map(EvaluatorSection::of).into();
        }
        self.evaluator.iter_mut().for_each(EvaluatorSection::fill);
        self.check()?;
        Ok(self)
    }

    /// `ID[:DATA]`; settings and numbers of items come from the file's section of the same id, if there is one.
    fn evaluator_flag(&self, words: &str) -> EvaluatorSection {
        let (id, data) = words.split_once(':').map_or((words, None), |(id, data)| (id, Some(data.to_owned())));
        let mut section =
            self.evaluator.iter().find(|e| e.id == id).cloned().unwrap_or_else(|| EvaluatorSection::of(id));
        section.data = data.or(section.data);
        section
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |message: &str| Err(ConfigError::Value(message.to_owned()));
        let scenario = &self.scenario;
        if self.budget.trials == 0 {
            return fail("budget.trials is 0: the baseline is the first trial, so write at least 1");
        }
        if self.study.threads == Some(0) {
            return fail("study.threads is 0: write at least 1, or leave it out for all physical cores");
        }
        if self.study.objectives.is_empty() {
            return fail("study.objectives is empty: name at least one metric, or leave it out for the default three");
        }
        if scenario.prompt_tokens == 0 || scenario.output_tokens == 0 || scenario.batch == 0 || scenario.repeats == 0 {
            return fail("scenario: prompt-tokens, output-tokens, batch and repeats must be at least 1");
        }
        if let Some(evaluator) = self.evaluator.iter().find(|e| e.items == Some(0) || e.confirm_items == Some(0)) {
            return fail(&format!("evaluator {}: items and confirm-items must be at least 1", evaluator.id));
        }
        if let Some(EnergySection { watts_idle, watts_busy }) = self.energy
            && !(watts_idle >= 0.0 && watts_busy > watts_idle && watts_busy.is_finite())
        {
            return fail("energy: watts-idle must be at least 0, and watts-busy more than watts-idle");
        }
        Ok(())
    }
}

impl EvaluatorSection {
    fn of(id: &str) -> Self {
        Self { id: id.to_owned(), data: None, items: None, confirm_items: None, settings: Settings::default() }
    }

    /// Screening of a default study takes seconds; confirmation uses at least 500 choices and 16,000 tokens (36 rows of
    /// about 512).
    fn fill(&mut self) {
        let (items, confirm_items) = match self.id.as_str() {
            "perplexity" | "divergence" => (6, 36),
            _ => (100, 500),
        };
        if self.id == "multiple-choice" && self.data.is_none() {
            self.data = Some("openbookqa".into());
        }
        let items = *self.items.get_or_insert(items);
        self.confirm_items.get_or_insert(confirm_items.max(items));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StudyFile, ConfigError> {
        StudyFile::parse(text, Path::new("study.toml"))
    }

    fn message(text: &str) -> String {
        match parse(text).and_then(|file| file.resolve(&Overrides::default())) {
            Ok(_) => panic!("it should be refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_empty_file_is_the_default_study() {
        let file = parse("").unwrap().resolve(&Overrides::default()).unwrap();
        assert_eq!(file.study.model, "smollm2-135m-instruct");
        let evaluators: Vec<_> =
            file.evaluator.iter().map(|e| (e.id.as_str(), e.data.as_deref(), e.items, e.confirm_items)).collect();
        assert_eq!(
            evaluators,
            [
                ("multiple-choice", Some("openbookqa"), Some(100), Some(500)),
                ("perplexity", None, Some(6), Some(36)),
                ("divergence", None, Some(6), Some(36)),
            ]
        );
        assert_eq!((file.strategy.id.as_str(), file.budget.trials), ("nsga2", 24));
        assert_eq!(file.budget.time, TimeLimit(Some(900.0)));
        assert!(file.study.confirm);
    }

    #[test]
    fn a_full_file_is_understood() {
        let file = parse(
            r#"
            [study]
            name = "mine"
            model = "models/tiny.gguf"
            device = "cuda:0"
            threads = 2
            seed = 7
            plugins = ["plugins"]
            objectives = ["accuracy", "energy"]
            constraints = ["memory.peak <= 150 MiB"]
            confirm = false

            [[evaluator]]
            id = "perplexity"
            data = "book.txt"
            items = 50
            settings = { window = 256 }

            [scenario]
            prompt-tokens = 128

            [strategy]
            id = "random"
            settings = { share = 0.5 }

            [budget]
            trials = 200
            time = "1h30m"

            [energy]
            watts-idle = 12
            watts-busy = 65.5

            [calibration]
            data = "novels"
            tokens = 4096
            "#,
        )
        .unwrap()
        .resolve(&Overrides::default())
        .unwrap();
        assert_eq!(file.study.constraints[0].bound, 157_286_400.0);
        assert_eq!((file.scenario.prompt_tokens, file.scenario.output_tokens), (128, 32));
        assert_eq!(file.evaluator[0].settings.get("window"), Some(&256i64.into()));
        assert_eq!(file.evaluator[0].confirm_items, Some(50));
        assert_eq!(file.budget.time, TimeLimit(Some(5400.0)));
        assert_eq!(file.energy.unwrap().watts_busy, 65.5);
        assert_eq!(file.calibration.tokens, Some(4096));
    }

    #[test]
    fn flags_are_laid_over_the_file() {
        let file = parse(
            "[study]\nname = 'a'\nseed = 1\nthreads = 4\n[[evaluator]]\nid = 'multiple-choice'\ndata = 'piqa'\nitems = 7\n\
             [strategy]\nid = 'grid'\nsettings = { x = 1 }",
        )
        .unwrap();
        let flags = Overrides {
            seed: Some(2),
            evaluators: vec!["multiple-choice".into(), "perplexity:book.txt".into()],
            strategy: Some("grid".into()),
            time: Some("2m".parse().unwrap()),
            ..Overrides::default()
        };
        let file = file.resolve(&flags).unwrap();
        assert_eq!((file.study.name.as_deref(), file.study.seed, file.study.threads), (Some("a"), 2, Some(4)));
        assert_eq!((file.evaluator[0].data.as_deref(), file.evaluator[0].items), (Some("piqa"), Some(7)));
        assert_eq!((file.evaluator[1].data.as_deref(), file.evaluator[1].items), (Some("book.txt"), Some(6)));
        assert_eq!(file.strategy.settings.get("x"), Some(&1i64.into()));
        assert_eq!(file.budget.time, TimeLimit(Some(120.0)));
        let other = Overrides { strategy: Some("random".into()), ..Overrides::default() };
        assert_eq!(file.resolve(&other).unwrap().strategy.settings, Settings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
        assert_eq!(
            message("[study]\nseed = 1\n\n[budget]\ntrails = 30\n"),
            "study file study.toml: TOML parse error at line 5, column 1\n  |\n5 | trails = 30\n  | ^^^^^^\n\
             unknown field `trails`, expected `trials` or `time`"
        );
        assert_eq!(
            message("[studdy]\nseed = 1\n"),
            "study file study.toml: TOML parse error at line 1, column 2\n  |\n1 | [studdy]\n  |  ^^^^^^\n\
             unknown field `studdy`, expected one of `study`, `evaluator`, `scenario`, `strategy`, `budget`, `energy`, \
             `calibration`"
        );
    }

    #[test]
    fn wrong_values_are_explained() {
        assert_eq!(
            message("[budget]\ntime = \"soon\"\n"),
            "study file study.toml: TOML parse error at line 2, column 8\n  |\n2 | time = \"soon\"\n  |        ^^^^^^\n\
             `soon` is no time: write it like 90s, 30m, 1h30m, or none"
        );
        assert_eq!(
            message("[study]\nconstraints = [\"memory.peak <= 3 apples\"]\n"),
            "study file study.toml: TOML parse error at line 2, column 15\n  |\n\
             2 | constraints = [\"memory.peak <= 3 apples\"]\n  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^\n\
             constraint \"memory.peak <= 3 apples\": unknown unit `apples`; known units: B, KB, MB, GB, KiB, MiB, GiB, \
             ms, s, %, J, tokens/s"
        );
        assert_eq!(
            message("[budget]\ntrials = 0\n"),
            "budget.trials is 0: the baseline is the first trial, so write at least 1"
        );
        assert_eq!(
            message("[energy]\nwatts-idle = 20\nwatts-busy = 10\n"),
            "energy: watts-idle must be at least 0, and watts-busy more than watts-idle"
        );
        assert_eq!(
            message("[[evaluator]]\nid = 'perplexity'\nitems = 0\n"),
            "evaluator perplexity: items and confirm-items must be at least 1"
        );
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90.0), ("30m", 1800.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("1h 5s", 3605.0)]
        {
            assert_eq!(text.parse::<TimeLimit>(), Ok(TimeLimit(Some(seconds))), "{text}");
        }
        for text in ["", "30", "m", "-5m", "5 days"] {
            assert!(text.parse::<TimeLimit>().is_err(), "{text}");
        }
    }
}

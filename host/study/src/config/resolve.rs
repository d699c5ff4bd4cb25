//! From a study file and flags to a study that says everything: flags over the file, defaults for the rest.

use super::{ConfigError, EnergySection, EvaluatorSection, StrategySection, StudyFile, TimeLimit};
use crate::{Constraint, Reference};
use aehost_common::Settings;
use std::path::PathBuf;

/// Flags of the command line, each laid over the file's value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--study`
    pub name: Option<String>,
    /// `--model`
    pub model: Option<String>,
    /// `--companion`, replacing the file's when any is given
    pub companions: Vec<String>,
    /// `--training`
    pub training: Option<String>,
    /// `--reference`
    pub reference: Option<Reference>,
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
    /// `--technique`, replacing the file's when any is given
    pub techniques: Vec<String>,
    /// `--objective`, replacing the file's when any is given
    pub objectives: Vec<String>,
    /// `--constraint`, replacing the file's when any is given
    pub constraints: Vec<Constraint>,
    /// `--weight`, replacing the file's when any is given
    pub weights: Vec<String>,
    /// `--strategy`; another strategy drops the file's settings
    pub strategy: Option<String>,
    /// `--cold`
    pub cold: bool,
    /// `--trials`
    pub trials: Option<u32>,
    /// `--time`
    pub time: Option<TimeLimit>,
    /// `--until-converged`
    pub until_converged: bool,
    /// `--confirm`, `--no-confirm`
    pub confirm: Option<bool>,
}

impl StudyFile {
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
        lay(&flags.reference, &mut study.reference);
        lay(&flags.device, &mut study.device);
        lay(&flags.seed, &mut study.seed);
        lay(&flags.confirm, &mut study.confirm);
        lay_list(&flags.companions, &mut study.companions);
        if flags.training.is_some() {
            self.training.data.clone_from(&flags.training);
        }
        lay_list(&flags.plugins, &mut study.plugins);
        lay_list(&flags.techniques, &mut study.techniques);
        lay_list(&flags.objectives, &mut study.objectives);
        lay_list(&flags.constraints, &mut study.constraints);
        lay_list(&flags.weights, &mut study.weights);
        self.budget.trials = flags.trials.or(self.budget.trials);
        self.budget.time = flags.time.or(self.budget.time);
        self.budget.until_converged |= flags.until_converged;
        (self.budget.trials, self.budget.time) = (Some(self.budget.trials()), Some(self.budget.time()));
        if let Some(id) = flags.strategy.as_ref().filter(|id| **id != self.strategy.id) {
            let (id, settings) = (id.clone(), Settings::default());
            self.strategy = StrategySection { id, settings, ..self.strategy };
        }
        self.strategy.warm_start &= !flags.cold;
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
        if self.budget.trials() == 0 {
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
            // Rows of a text data set have some 500 to 600 tokens; 27 make the 16,000 of a confirmation.
            "perplexity" => (2, 27),
            "divergence" => (1, 6),
            _ => (200, 500),
        };
        if self.id == "multiple-choice" && self.data.is_none() {
            self.data = Some("openbookqa".into());
        }
        let items = *self.items.get_or_insert(items);
        self.confirm_items.get_or_insert(confirm_items.max(items));
    }
}

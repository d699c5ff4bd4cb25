//! How to train: settings of the contract's `training`.

use crate::EngineError;
use aehost_common::Setting;
use serde::{Deserialize, Serialize};

/// What is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// Cross-entropy with the next token.
    CrossEntropy,
    /// Divergence from the base model's next-token distribution.
    Distillation,
    /// Distance of the hidden states after each layer from the base model's.
    HiddenStates,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// In a straight line to 0.
    Linear,
    /// As a half of a cosine to 0.
    Cosine,
}

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingOptions {
    /// What is made smaller.
    pub objective: Objective,
    /// Of distillation.
    pub temperature: f64,
    /// Whether only answers count, where examples have a prompt and an answer.
    pub answers_only: bool,
    /// Updates.
    pub steps: usize,
    /// Sequences that are gone through at once.
    pub batch: usize,
    /// Of which so many make an update.
    pub accumulation: usize,
    /// Tokens of a sequence at most.
    pub sequence_tokens: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Updates until it is reached, in a straight line from 0.
    pub warm_up: usize,
    /// By which weights decay, times the learning rate (AdamW, arXiv 1711.05101).
    pub weight_decay: f64,
    /// Of the running means of gradients and of their squares.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// The norm to which longer gradients are shortened; 0 for none.
    pub clip: f64,
    /// Whether values are computed again when the gradient comes, instead of kept.
    pub checkpointing: bool,
    /// Updates between two looks at the held-out examples; 0 for none but the last.
    pub evaluate_every: usize,
    /// Looks without a better loss after which training stops; 0 for never.
    pub patience: usize,
    /// Of the order of the examples.
    pub seed: u64,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            objective: Objective::CrossEntropy,
            temperature: 1.0,
            answers_only: true,
            steps: 100,
            batch: 4,
            accumulation: 1,
            sequence_tokens: 256,
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warm_up: 10,
            weight_decay: 0.0,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            clip: 1.0,
            checkpointing: false,
            evaluate_every: 25,
            patience: 0,
            seed: 0,
        }
    }
}

impl TrainingOptions {
    /// The same for a share of the steps, the warm-up with them. At least one step is left where there is one.
    #[must_use]
    pub fn shortened(self, share: f64) -> Self {
        let of = |steps: usize| (steps as f64 * share).ceil() as usize;
        Self { steps: of(self.steps), warm_up: of(self.warm_up), ..self }
    }

    /// What a plugin asks for; what it does not say is as the default.
    ///
    /// # Errors
    /// `Unsupported` for a setting that is unknown, `Invalid` for a value outside its range.
    pub fn of(settings: &[Setting]) -> Result<Self, EngineError> {
        let mut options = Self::default();
        settings.iter().try_for_each(|setting| options.set(setting))?;
        Ok(options)
    }

    fn set(&mut self, setting: &Setting) -> Result<(), EngineError> {
        let wrong = |expected: &str| {
            EngineError::Invalid(format!("training `{}` = {} must be {expected}", setting.name, setting.value))
        };
        let count = |least: i64, most: i64| match setting.value.as_integer() {
            Some(v) if (least..=most).contains(&v) => Ok(v as usize),
            _ => Err(wrong(&format!("a whole number from {least} to {most}"))),
        };
        let real = |least: f64, most: f64| match setting.value.as_real() {
            Some(v) if (least..=most).contains(&v) => Ok(v),
            _ => Err(wrong(&format!("a number from {least} to {most}"))),
        };
        let flag = || setting.value.as_flag().ok_or_else(|| wrong("true or false"));
        const MANY: i64 = 1 << 30;
        match (setting.name.as_str(), setting.value.as_text()) {
            ("objective", Some("cross-entropy")) => self.objective = Objective::CrossEntropy,
            ("objective", Some("distillation")) => self.objective = Objective::Distillation,
            ("objective", Some("hidden-states")) => self.objective = Objective::HiddenStates,
            ("objective", _) => return Err(wrong("cross-entropy, distillation or hidden-states")),
            ("schedule", Some("constant")) => self.schedule = Schedule::Constant,
            ("schedule", Some("linear")) => self.schedule = Schedule::Linear,
            ("schedule", Some("cosine")) => self.schedule = Schedule::Cosine,
            ("schedule", _) => return Err(wrong("constant, linear or cosine")),
            ("temperature", _) => self.temperature = real(0.01, 100.0)?,
            ("answers-only", _) => self.answers_only = flag()?,
            ("steps", _) => self.steps = count(0, MANY)?,
            ("batch", _) => self.batch = count(1, 1 << 16)?,
            ("accumulation", _) => self.accumulation = count(1, 1 << 16)?,
            ("sequence-tokens", _) => self.sequence_tokens = count(2, MANY)?,
            ("learning-rate", _) => self.learning_rate = real(0.0, 10.0)?,
            ("warm-up", _) => self.warm_up = count(0, MANY)?,
            ("weight-decay", _) => self.weight_decay = real(0.0, 10.0)?,
            ("beta1", _) => self.betas.0 = real(0.0, 0.999_999)?,
            ("beta2", _) => self.betas.1 = real(0.0, 0.999_999)?,
            ("epsilon", _) => self.epsilon = real(1e-16, 1.0)?,
            ("clip", _) => self.clip = real(0.0, 1e9)?,
            ("checkpointing", _) => self.checkpointing = flag()?,
            ("evaluate-every", _) => self.evaluate_every = count(0, MANY)?,
            ("patience", _) => self.patience = count(0, MANY)?,
            ("seed", _) => self.seed = count(0, i64::MAX)? as u64,
            (other, _) => return Err(EngineError::Unsupported(format!("training setting `{other}` is unknown"))),
        }
        Ok(())
    }

    /// The learning rate of an update, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let left = self.steps.saturating_sub(self.warm_up).max(1) as f64;
        let done = (step - self.warm_up) as f64 / left;
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - done,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::TrainingOptions;

    #[test]
    fn a_share_of_the_steps_keeps_one_where_there_is_one() {
        let shortened = |steps, share| {
            let options = TrainingOptions { steps, warm_up: 10, ..TrainingOptions::default() }.shortened(share);
            (options.steps, options.warm_up)
        };
        assert_eq!([shortened(160, 0.25), shortened(3, 0.1), shortened(0, 0.1)], [(40, 3), (1, 1), (0, 1)]);
        assert_eq!(shortened(160, 1.0), (160, 10));
    }
}

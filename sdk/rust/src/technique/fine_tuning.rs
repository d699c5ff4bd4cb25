//! What techniques that train have in common: how long and how fast, as parameters of a search and settings of the host.

use super::{
    Editor, Error, Facts, Model, Parameter, Setting, Settings, Trainable, choice, integer, real, setting, training,
};

/// How long and how fast a technique trains.
pub struct FineTuning;

impl FineTuning {
    /// Its parameters; they are searched with the technique's own, and the product of the three counts says what it costs.
    ///
    /// # Errors
    /// not-applicable where the study has no training data.
    pub fn parameters(model: &Model, facts: &Facts, learning_rate: f64) -> Result<Vec<Parameter>, Error> {
        if facts.get("training.data").is_none() {
            let remedy =
                "the study has no training data: name some by --training, or under `training` in the study file";
            return Err(Error::not_applicable(remedy));
        }
        let context = model.fact("context").and_then(|v| v.as_integer()).unwrap_or(i64::MAX);
        let mut lengths = vec![64i64, 128, 256, 512, 1024];
        lengths.retain(|length| *length <= context);
        if lengths.is_empty() {
            lengths.push(context);
        }
        let usual = lengths.iter().copied().rfind(|length| *length <= 256).unwrap_or(lengths[0]);
        let towards = "The next token of the data, or what the base model makes of it, which restores what was lost: its \
                       predictions, or its hidden states after each layer.";
        Ok(vec![
            choice("objective", towards, ["cross-entropy", "distillation", "hidden-states"]).into(),
            integer("steps", "Updates of the weights.", 1..=5000).log().default(100).into(),
            choice("batch", "Sequences of an update.", [1i64, 2, 4, 8, 16, 32]).ordered().default(4).into(),
            choice("sequence-tokens", "Tokens of a sequence at most.", lengths).ordered().default(usual).into(),
            real("learning-rate", "The highest learning rate.", 1e-6..=1e-1).log().default(learning_rate).into(),
        ])
    }

    /// What a search chose, as the host takes it, and more of its settings.
    ///
    /// # Errors
    /// internal, where a setting is missing.
    pub fn settings(chosen: &Settings, more: &[Setting]) -> Result<Vec<Setting>, Error> {
        let steps = chosen.integer("steps")?;
        let mut settings = vec![
            setting("objective", chosen.text("objective")?),
            setting("steps", steps),
            setting("batch", chosen.integer("batch")?),
            setting("sequence-tokens", chosen.integer("sequence-tokens")?),
            setting("learning-rate", chosen.real("learning-rate")?),
            setting("warm-up", (steps / 20).min(100)),
        ];
        settings.extend_from_slice(more);
        Ok(settings)
    }

    /// Trains, and tells what became of the loss.
    ///
    /// # Errors
    /// Those of the host.
    pub fn train(model: &Editor, trainable: &[Trainable], settings: &[Setting]) -> Result<(), Error> {
        model.check()?;
        let curve = training::train(model, trainable, settings)?;
        if let [first, .., last] = &curve.points[..] {
            let held_out = last.held_out.map(|loss| format!(", {loss:.3} on held-out examples")).unwrap_or_default();
            crate::info!("the loss went from {:.3} to {:.3} a token{held_out}", first.loss, last.loss);
        }
        Ok(())
    }
}

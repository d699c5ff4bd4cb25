//! Gradient training of some weights of a variant, on the CPU: the same steps that inference runs, forwards and backwards.
//! What is not trained stays in its representation; gradients go through it without a second copy.

mod adamw;
mod attention;
mod dropout;
mod examples;
mod gemm;
mod hidden_states;
mod kept;
mod loss;
mod network;
mod options;
mod room;
mod run;
mod slopes;
mod tape;
mod teacher;
#[cfg(test)]
mod tests;
mod trainer;

use crate::{EngineError, Variant};
use aehost_common::{Curve, Point};
use candle_core::{Device, Tensor};
pub use examples::Example;
use network::{Network, Parameter};
pub use options::{Objective, Schedule, TrainingOptions};
use run::{ROWS, Run};
use serde::{Deserialize, Serialize};
use std::path::Path;
use teacher::Teacher;
pub use trainer::{Trainer, TrainingData};

/// A weight to train, and a factor on its learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trainable {
    /// Its dotted name.
    pub weight: String,
    /// At least 0.
    pub rate: f64,
}

/// What is to be trained.
pub struct Training<'a> {
    /// The model.
    pub variant: &'a Variant,
    /// Whose distribution distillation is towards.
    pub teacher: &'a Variant,
    /// Its weights that change.
    pub trainable: &'a [Trainable],
    /// What it learns from.
    pub examples: &'a [Example],
    /// What it is judged by meanwhile.
    pub held_out: &'a [Example],
    /// How.
    pub options: &'a TrainingOptions,
    /// Threads.
    pub threads: usize,
    /// Bytes that it may take.
    pub memory: u64,
}

/// What came of it.
pub struct Trained {
    /// The weights, float32, by name.
    pub weights: Vec<(String, Tensor)>,
    /// The loss.
    pub curve: Curve,
}

impl Training<'_> {
    /// Trains; `see` is shown each point, and ends training with an error of its own.
    ///
    /// # Errors
    /// `Invalid` where there is nothing to train (on) or an example does not fit the model, `Unsupported` for a weight that no op
    /// passes a gradient to, `OutOfMemory` where it would take more than it may, `Diverged` where loss or gradient are no longer numbers.
    pub fn run(&self, see: &mut dyn FnMut(&Point) -> Result<(), EngineError>) -> Result<Trained, EngineError> {
        self.run_from(None, &mut |point, _| see(point))
    }

    /// The same from where a file says that it was before, if it does.
    fn run_from(
        &self,
        state: Option<&Path>,
        see: &mut dyn FnMut(&Point, &Run<'_>) -> Result<(), EngineError>,
    ) -> Result<Trained, EngineError> {
        let (pool, mut run) = self.ready()?;
        if let Some(state) = state {
            run.read(state);
        }
        while !run.done() {
            let point = pool.install(|| run.update())?;
            see(&point, &run)?;
        }
        Ok(pool.install(|| run.finish()))
    }

    /// The loss of the first update's examples, in the order given, and its gradients by weight, float32.
    ///
    /// # Errors
    /// As [`Training::run`].
    pub fn gradients(&self) -> Result<(f64, Vec<(String, Tensor)>), EngineError> {
        let (pool, run) = self.ready()?;
        let examples = self.examples.iter().take(self.options.batch);
        let (loss, parameters) = pool.install(|| run.gradients_of(examples));
        let tensor = |p: Parameter| Ok((p.name, Tensor::from_vec(p.gradient, p.shape, &Device::Cpu)?));
        Ok((loss, parameters.into_iter().map(tensor).collect::<Result<_, EngineError>>()?))
    }

    /// Refuses examples that the model cannot be given.
    fn check_examples(&self, network: &Network) -> Result<(), EngineError> {
        let context = self.variant.graph().fact("context").and_then(aehost_common::Value::as_integer);
        let length = self.options.sequence_tokens;
        if let Some(context) = context.filter(|context| length as i64 > *context) {
            let message = format!("sequences of {length} tokens go beyond the model's context of {context}");
            return Err(EngineError::Invalid(message));
        }
        let limit = network.ids().min(network.vocabulary()) as u32;
        let all = self.examples.iter().chain(self.held_out).flat_map(|example| &example.tokens);
        match all.into_iter().find(|token| **token >= limit) {
            Some(token) => Err(EngineError::Invalid(format!(
                "the training data has token {token}, and the model knows only those below {limit}"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses what would take too much, before it does.
    fn check_memory(
        &self,
        network: &Network,
        teacher: Option<&Teacher>,
        parameters: &[Parameter],
    ) -> Result<(), EngineError> {
        // Value, gradient and two means of each number.
        let trained: usize = parameters.iter().map(|p| p.value.len() * 4 * size_of::<f32>()).sum();
        let longest = self.examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0).min(self.options.sequence_tokens);
        let tokens = longest * self.options.batch;
        let logits = tokens.min(ROWS) * network.vocabulary() * size_of::<f32>();
        let taught = teacher.map_or(0, Teacher::bytes_per_token);
        let needed =
            |checkpointing| ((network.bytes_per_token(checkpointing) + taught) * tokens + trained + logits) as u64;
        let needs = needed(self.options.checkpointing);
        if needs <= self.memory {
            return Ok(());
        }
        let mebibytes = |bytes: u64| bytes >> 20;
        let remedy = match self.options.checkpointing || needed(true) > self.memory {
            true => "train fewer weights, or take a smaller batch or shorter sequences",
            false => "set checkpointing, or take a smaller batch or shorter sequences",
        };
        Err(EngineError::OutOfMemory(format!(
            "training on {tokens} tokens at once takes {} MiB, and {} are available: {remedy}",
            mebibytes(needs),
            mebibytes(self.memory)
        )))
    }

    fn ready(&self) -> Result<(rayon::ThreadPool, Run<'_>), EngineError> {
        if self.trainable.is_empty() {
            return Err(EngineError::Invalid("there is no weight to train".into()));
        }
        if self.examples.is_empty() {
            return Err(EngineError::Invalid("there is nothing to train on".into()));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.max(1))
            .thread_name(|i| format!("training-{i}"))
            .build()
            .map_err(|e| EngineError::Unsupported(format!("the threads of training cannot be started: {e}")))?;
        let run = pool.install(|| Run::new(self))?;
        Ok((pool, run))
    }
}

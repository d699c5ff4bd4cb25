//! Training as a service to techniques: what they train on, and what was trained before.

use super::examples::Example;
use super::kept;
use super::options::{Objective, TrainingOptions};
use super::{Trainable, Training};
use crate::{EngineError, FloatType, Variant};
use aehost_common::{Curve, Point};
use candle_core::Tensor;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What models are trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainingData {
    /// Running text, which is cut into sequences.
    pub text: Vec<u32>,
    /// Prompts with answers.
    pub pairs: Vec<Example>,
    /// One of so many examples, the last ones, are held out; none where it is 0.
    pub held_out: usize,
}

impl TrainingData {
    /// The examples that are trained on, and those that are held out.
    fn examples(&self, length: usize) -> (Vec<Example>, Vec<Example>) {
        let mut all = Example::of_text(&self.text, length);
        let mut pairs = self.pairs.clone();
        let mut held_out = Vec::new();
        for examples in [&mut all, &mut pairs].into_iter().filter(|_| self.held_out > 0) {
            let share = examples.len().div_ceil(self.held_out);
            let count = if examples.len() > 1 { share } else { 0 };
            held_out.extend(examples.drain(examples.len() - count..));
        }
        all.append(&mut pairs);
        (all, held_out)
    }
}

/// Reads training data when it is first needed.
pub type Source = Box<dyn Fn() -> Result<TrainingData, EngineError> + Send + Sync>;

/// Bytes of results that are kept at most.
const KEPT_BYTES: u64 = 4 << 30;
/// How often what training has come to is written down.
const WRITTEN_EVERY: Duration = Duration::from_secs(30);

/// Trains variants of one model. Equal training is done once: results are kept by what they follow from, and so is how far
/// training got that was interrupted.
pub struct Trainer {
    source: Source,
    data: OnceLock<TrainingData>,
    base: Variant,
    threads: usize,
    memory: fn() -> u64,
    folder: Option<PathBuf>,
    /// Of what was trained since they were last taken.
    curves: Mutex<Vec<Curve>>,
}

impl Trainer {
    /// For a base model; `source` is asked for training data when it is first needed, and `memory` for the bytes that training
    /// may take.
    pub fn new(base: Variant, threads: usize, memory: fn() -> u64, source: Source) -> Self {
        Self { source, data: OnceLock::new(), base, threads, memory, folder: None, curves: Mutex::default() }
    }

    /// Keeps results in a folder.
    pub fn keeping_in(self, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..self }
    }

    /// How losses fell in what was trained since this was last asked.
    pub fn take_curves(&self) -> Vec<Curve> {
        std::mem::take(&mut self.curves.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn told(&self, curve: Curve) -> Curve {
        self.curves.lock().unwrap_or_else(PoisonError::into_inner).push(curve.clone());
        curve
    }

    /// Trains some weights of a variant, which then has them, as float32. `see` is shown each point and how many updates there will
    /// be; an error of its ends training.
    ///
    /// # Errors
    /// As [`Training::run`], and those of reading the data.
    pub fn train(
        &self,
        variant: &mut Variant,
        trainable: &[Trainable],
        options: &TrainingOptions,
        see: &mut dyn FnMut(&Point, usize) -> Result<(), EngineError>,
    ) -> Result<Curve, EngineError> {
        let data = match self.data.get() {
            Some(data) => data,
            None => {
                let read = (self.source)()?;
                self.data.get_or_init(|| read)
            }
        };
        let (mut result, mut state) = (None, None);
        if let Some(folder) = &self.folder {
            let key = self.key(variant, trainable, options, data)?;
            let file = |ending: &str| Some(folder.join(format!("{key}.{ending}")));
            (result, state) = (file("trained"), file("training"));
        }
        let known = result.as_deref().and_then(kept::read::<Curve>);
        if let Some((tensors, curve)) =
            known.filter(|(tensors, _)| trainable.iter().all(|t| tensors.contains_key(&t.weight)))
        {
            put(variant, tensors.iter().map(|(name, value)| (name.as_str(), value)))?;
            return Ok(self.told(curve));
        }
        let (examples, held_out) = data.examples(options.sequence_tokens);
        let training = Training {
            variant,
            teacher: &self.base,
            trainable,
            examples: &examples,
            held_out: &held_out,
            options,
            threads: self.threads,
            memory: (self.memory)(),
        };
        let mut written = Instant::now();
        let trained = training.run_from(state.as_deref(), &mut |point, run| {
            if let Some(state) = state.as_deref().filter(|_| written.elapsed() > WRITTEN_EVERY) {
                // Training goes on without: what is lost is only the way back.
                let _ = run.write(state);
                written = Instant::now();
            }
            see(point, options.steps).inspect_err(|_| _ = state.as_deref().map(|state| run.write(state)))
        })?;
        if let (Some(result), Some(state)) = (&result, &state) {
            let tensors = trained.weights.iter().cloned().collect();
            if kept::write(result, tensors, &trained.curve).is_ok() {
                kept::prune(result.parent().unwrap_or(Path::new(".")), KEPT_BYTES, result);
            }
            let _ = std::fs::remove_file(state);
        }
        put(variant, trained.weights.iter().map(|(name, value)| (name.as_str(), value)))?;
        Ok(self.told(trained.curve))
    }

    /// Equal for training that comes to the same.
    fn key(
        &self,
        variant: &Variant,
        trainable: &[Trainable],
        options: &TrainingOptions,
        data: &TrainingData,
    ) -> Result<String, EngineError> {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(variant.checkpoint().digest()?);
        hash.update(variant.key());
        if options.objective != Objective::CrossEntropy {
            hash.update(self.base.key());
        }
        hash.update(serde_json::to_vec(trainable).expect("names and rates have a JSON form"));
        hash.update(serde_json::to_vec(options).expect("options have a JSON form"));
        data.text.iter().for_each(|token| hash.update(token.to_le_bytes()));
        hash.update(data.held_out.to_le_bytes());
        for pair in &data.pairs {
            hash.update(pair.answer.to_le_bytes());
            pair.tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        }
        Ok(hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect())
    }
}

fn put<'w>(variant: &mut Variant, weights: impl Iterator<Item = (&'w str, &'w Tensor)>) -> Result<(), EngineError> {
    weights.into_iter().try_for_each(|(name, value)| variant.put_weight(name, value, FloatType::F32))
}

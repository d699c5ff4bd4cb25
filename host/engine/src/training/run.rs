//! Training at work: updates, looks at held-out examples, and what is written down to go on from.

use super::adamw::{Moments, gradient_norm, update};
use super::examples::{Example, Pass, mixed, order};
use super::kept;
use super::loss::{Goal, loss};
use super::network::{Network, Parameter};
use super::room::Room;
use super::tape::{Keep, Tape};
use super::teacher::{Lesson, Teacher};
use super::{Trained, Training};
use crate::EngineError;
use crate::rope::Angles;
use aehost_common::{Curve, Point};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Rows whose logits are computed at once: those of all would take more than the rest.
pub(super) const ROWS: usize = 256;

/// One training.
pub(super) struct Run<'a> {
    of: &'a Training<'a>,
    network: Network,
    teacher: Option<Teacher>,
    parameters: Vec<Parameter>,
    room: Room,
    /// Tokens of the last pass.
    tokens: usize,
    moments: Vec<Moments>,
    rates: Vec<f64>,
    /// Examples still to come before the next time through, the next one last.
    queue: Vec<usize>,
    /// Times through.
    through: u64,
    /// Updates that were made.
    step: usize,
    curve: Curve,
    best: Option<Best>,
    /// Looks at the held-out examples since the best one.
    worse: usize,
    stopped: bool,
}

/// What is written down of a run besides its numbers.
#[derive(Serialize, Deserialize)]
struct State {
    queue: Vec<usize>,
    through: u64,
    step: usize,
    curve: Curve,
    best: Option<f64>,
    worse: usize,
    stopped: bool,
}

/// The parameters with the least loss on the held-out examples.
struct Best {
    loss: f64,
    values: Vec<Vec<f32>>,
}

impl<'a> Run<'a> {
    pub fn new(of: &'a Training<'a>) -> Result<Self, EngineError> {
        let parameters: Vec<Parameter> =
            of.trainable.iter().map(|t| Parameter::of(of.variant, &t.weight)).collect::<Result<_, _>>()?;
        let mut network = Network::new(of.variant, &parameters)?;
        let teacher = Teacher::of(of, &network)?;
        of.check_examples(&network)?;
        of.check_memory(&network, teacher.as_ref(), &parameters)?;
        network.renew(&parameters);
        Ok(Self {
            of,
            network,
            teacher,
            moments: parameters.iter().map(Moments::of).collect(),
            rates: of.trainable.iter().map(|t| t.rate).collect(),
            parameters,
            room: Room::default(),
            tokens: 0,
            queue: vec![],
            through: 0,
            step: 0,
            curve: Curve::default(),
            best: None,
            worse: 0,
            stopped: false,
        })
    }

    /// Whether there is nothing more to do.
    pub fn done(&self) -> bool {
        self.stopped || self.step >= self.of.options.steps
    }

    /// The mean loss of some examples, and the parameters with its gradients.
    pub fn gradients_of(mut self, examples: impl Iterator<Item = &'a Example>) -> (f64, Vec<Parameter>) {
        let pass = self.pass(examples);
        let rows = pass.targets.len().max(1);
        let sum = self.gradients(&pass, 1.0 / rows as f32, None);
        (sum / rows as f64, self.parameters)
    }

    /// The next examples, each time through in another order.
    fn next(&mut self) -> &'a Example {
        if self.queue.is_empty() {
            self.queue = order(self.of.examples.len(), self.of.options.seed, self.through);
            self.queue.reverse();
            self.through += 1;
        }
        let at = self.queue.pop().expect("there are examples");
        &self.of.examples[at]
    }

    fn pass<'e>(&self, examples: impl IntoIterator<Item = &'e Example>) -> Pass {
        Pass::of(examples, self.of.options.sequence_tokens, self.of.options.answers_only)
    }

    pub fn update(&mut self) -> Result<Point, EngineError> {
        let options = self.of.options;
        let start = Instant::now();
        let passes: Vec<Pass> = (0..options.accumulation)
            .map(|_| {
                let examples: Vec<&Example> = (0..options.batch).map(|_| self.next()).collect();
                self.pass(examples)
            })
            .collect();
        let rows: usize = passes.iter().map(|pass| pass.targets.len()).sum();
        let mut sum = 0.0;
        for (number, pass) in passes.iter().enumerate() {
            let chance = mixed(options.seed, self.step as u64, number as u64);
            sum += self.gradients(pass, 1.0 / rows.max(1) as f32, Some(chance));
            self.curve.tokens += pass.batch.tokens.len() as u64;
        }
        let loss = sum / rows.max(1) as f64;
        let norm = gradient_norm(&self.parameters);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(EngineError::Diverged(format!(
                "training diverged at update {}: the loss is {loss}, the norm of its gradient {norm}; a lower learning rate than {} may help",
                self.step + 1,
                options.learning_rate
            )));
        }
        let factor = if options.clip > 0.0 && norm > options.clip { options.clip / norm } else { 1.0 };
        update(&mut self.parameters, &mut self.moments, &self.rates, options, self.step, factor);
        self.network.renew(&self.parameters);
        self.step += 1;
        self.curve.seconds += start.elapsed().as_secs_f64();
        let last = self.step == options.steps;
        let look = last || (options.evaluate_every > 0 && self.step.is_multiple_of(options.evaluate_every));
        let held_out = if look { self.judge() } else { None };
        let point = Point { step: self.step, loss, held_out };
        self.curve.points.push(point);
        Ok(point)
    }

    /// The loss on the held-out examples; the best parameters are kept where training may stop early.
    fn judge(&mut self) -> Option<f64> {
        if self.of.held_out.is_empty() {
            return None;
        }
        let (mut sum, mut rows) = (0.0, 0);
        for examples in self.of.held_out.chunks(self.of.options.batch) {
            let pass = self.pass(examples);
            sum += self.loss_of(&pass);
            rows += pass.targets.len();
        }
        let loss = sum / rows.max(1) as f64;
        if self.of.options.patience > 0 {
            if self.best.as_ref().is_none_or(|best| loss < best.loss) {
                let values = self.parameters.iter().map(|p| p.value.clone()).collect();
                self.best = Some(Best { loss, values });
                self.worse = 0;
            } else {
                self.worse += 1;
                self.stopped = self.worse >= self.of.options.patience;
            }
        }
        Some(loss)
    }

    /// The sum of the losses of a pass.
    fn loss_of(&self, pass: &Pass) -> f64 {
        let network = &self.network;
        let angles = angles(network, pass);
        let taught = self.teacher.as_ref().map(|teacher| teacher.angles(pass));
        let lesson = self.teacher.as_ref().zip(taught.as_deref());
        let lesson = lesson.map(|(teacher, angles)| teacher.teach(pass, angles, &self.room));
        let by_layer = lesson.as_ref().filter(|lesson| lesson.is_of_hidden_states());
        let mut tape = Tape::new(network, &pass.batch, &angles, &self.room);
        let keep = if by_layer.is_some() { Keep::Borders } else { Keep::Nothing };
        tape.forward(network.body(), &self.parameters, keep);
        if let Some(lesson) = by_layer {
            return lesson.hidden_states(&mut tape, None);
        }
        let rows = tape.take_value(network.selected);
        let mut sum = 0.0;
        for part in parts(pass.targets.len()) {
            let chunk = rows_of(network, &rows, &part);
            let mut tape = Tape::of_rows(network, &pass.batch, &angles, &self.room, chunk);
            tape.forward(network.tail(), &self.parameters, Keep::Nothing);
            let mut logits = tape.take_value(network.logits);
            sum += self.loss(pass, &part, lesson.as_ref(), &mut logits, 0.0);
        }
        sum
    }

    /// The loss of some rows, whose logits become their gradients.
    fn loss(&self, pass: &Pass, part: &Range<usize>, by: Option<&Lesson<'_>>, logits: &mut [f32], scale: f32) -> f64 {
        match by {
            Some(lesson) => lesson.logits(pass, part, &self.room, logits, scale),
            None => loss(logits, &vec![1f32; part.len()], &Goal::Tokens(&pass.targets[part.clone()]), scale),
        }
    }

    /// Adds the gradients of `scale` times the losses of a pass, whose sum it gives; `chance` is what dropout goes by.
    fn gradients(&mut self, pass: &Pass, scale: f32, chance: Option<u64>) -> f64 {
        // Buffers of other lengths would only stand about.
        if std::mem::replace(&mut self.tokens, pass.batch.tokens.len()) != pass.batch.tokens.len() {
            self.room.clear();
        }
        let mut parameters = std::mem::take(&mut self.parameters);
        let network = &self.network;
        let angles = angles(network, pass);
        let taught = self.teacher.as_ref().map(|teacher| teacher.angles(pass));
        let lesson = self.teacher.as_ref().zip(taught.as_deref());
        let lesson = lesson.map(|(teacher, angles)| teacher.teach(pass, angles, &self.room));
        let mut tape = Tape::new(network, &pass.batch, &angles, &self.room).by_chance(chance);
        let checkpointing = self.of.options.checkpointing;
        let keep = if checkpointing { Keep::Borders } else { Keep::All };
        tape.forward(network.body(), &parameters, keep);
        let sum = match lesson.as_ref().filter(|lesson| lesson.is_of_hidden_states()) {
            Some(lesson) => lesson.hidden_states(&mut tape, Some(scale)),
            None => self.gradients_of_end(pass, lesson.as_ref(), &mut tape, &mut parameters, scale),
        };
        for segment in network.segments.iter().rev() {
            if checkpointing {
                tape.forward(segment.clone(), &parameters, Keep::All);
            }
            tape.backward(segment.clone(), &mut parameters);
        }
        drop(tape);
        drop(lesson);
        self.parameters = parameters;
        sum
    }

    /// The same of the steps after the selection, some rows at a time; the gradient of the selected rows is then in the tape.
    fn gradients_of_end(
        &self,
        pass: &Pass,
        lesson: Option<&Lesson<'_>>,
        tape: &mut Tape<'_>,
        parameters: &mut [Parameter],
        scale: f32,
    ) -> f64 {
        let network = &self.network;
        let rows = tape.take_value(network.selected);
        let mut gradient = Vec::with_capacity(rows.len());
        let mut sum = 0.0;
        for part in parts(pass.targets.len()) {
            let mut end = tape.end(rows_of(network, &rows, &part), part.start);
            end.forward(network.tail(), parameters, Keep::All);
            let mut logits = end.take_value(network.logits);
            sum += self.loss(pass, &part, lesson, &mut logits, scale);
            end.set_gradient(network.logits, logits);
            end.backward(network.tail(), parameters);
            gradient.extend(end.take_gradient(network.selected).unwrap_or_default());
        }
        if network.active[network.selected] && !gradient.is_empty() {
            tape.set_gradient(network.selected, gradient);
        }
        sum
    }

    /// Writes down all that training goes on from.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let mut tensors = HashMap::new();
        let mut put = |name: String, values: &[f32]| {
            let made = Tensor::from_slice(values, values.len(), &Device::Cpu);
            made.map(|tensor| _ = tensors.insert(name, tensor))
        };
        for (i, (parameter, moments)) in self.parameters.iter().zip(&self.moments).enumerate() {
            put(format!("{i}.value"), &parameter.value)?;
            put(format!("{i}.first"), &moments.first)?;
            put(format!("{i}.second"), &moments.second)?;
            if let Some(best) = &self.best {
                put(format!("{i}.best"), &best.values[i])?;
            }
        }
        let state = State {
            queue: self.queue.clone(),
            through: self.through,
            step: self.step,
            curve: self.curve.clone(),
            best: self.best.as_ref().map(|best| best.loss),
            worse: self.worse,
            stopped: self.stopped,
        };
        kept::write(path, tensors, &state)
    }

    /// Goes on from what was written down, where that is there and whole.
    pub fn read(&mut self, path: &Path) {
        let Some((tensors, state)) = kept::read::<State>(path) else { return };
        let numbers = |i: usize, name: &str| {
            let found = tensors.get(&format!("{i}.{name}"))?.to_vec1::<f32>().ok()?;
            Some(found).filter(|found| found.len() == self.parameters[i].value.len())
        };
        let all = |name: &str| (0..self.parameters.len()).map(|i| numbers(i, name)).collect::<Option<Vec<_>>>();
        let (Some(values), Some(first), Some(second)) = (all("value"), all("first"), all("second")) else { return };
        self.best = state.best.and_then(|loss| Some(Best { loss, values: all("best")? }));
        self.parameters.iter_mut().zip(values).for_each(|(parameter, value)| parameter.value = value);
        self.network.renew(&self.parameters);
        self.moments = first.into_iter().zip(second).map(|(first, second)| Moments { first, second }).collect();
        let State { queue, through, step, curve, worse, stopped, .. } = state;
        (self.queue, self.through, self.step, self.curve) = (queue, through, step, curve);
        (self.worse, self.stopped) = (worse, stopped);
    }

    pub fn finish(self) -> Trained {
        let best = self.best.map(|best| best.values);
        let values = best.unwrap_or_else(|| self.parameters.iter().map(|p| p.value.clone()).collect());
        let tensor = |(parameter, value): (&Parameter, Vec<f32>)| {
            let made = Tensor::from_vec(value, parameter.shape.clone(), &Device::Cpu);
            (parameter.name.clone(), made.expect("a parameter has as many numbers as its shape says"))
        };
        Trained { weights: self.parameters.iter().zip(values).map(tensor).collect(), curve: self.curve }
    }
}

pub(super) fn angles(network: &Network, pass: &Pass) -> Vec<Angles> {
    network.ropes.iter().map(|rope| rope.angles(&pass.batch.positions)).collect()
}

fn parts(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(ROWS).map(move |first| first..(first + ROWS).min(rows))
}

pub(super) fn rows_of(network: &Network, rows: &[f32], part: &Range<usize>) -> Vec<f32> {
    let width = network.slots[network.selected].width;
    rows[part.start * width..part.end * width].to_vec()
}

//! One pass over packed sequences: forwards, keeping what gradients are computed from, and backwards.

mod backward;

use super::attention::Attention;
use super::dropout::drop_out;
use super::examples::mixed;
use super::gemm::{Into, Threads, View, multiply};
use super::network::{Network, Parameter, Stage};
use super::room::Room;
use crate::attention::AttentionSpec;
use crate::batch::Batch;
use crate::kernels;
use crate::matrix::Matrix;
use crate::program::{Gate, Op, RowSpace};
use crate::rope::Angles;
use crate::routing::{Grouped, Grouping, Routing};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Numbers that a thread takes at once.
const CHUNK: usize = 1 << 14;

/// What is kept of values after the last step that reads them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing: no gradient will be asked for.
    Nothing,
    /// What segments are computed again from.
    Borders,
    /// What gradients are computed from.
    All,
}

/// Values and gradients of a pass.
pub(super) struct Tape<'a> {
    network: &'a Network,
    batch: &'a Batch,
    /// Rows of what stands after the selection.
    selected: usize,
    angles: &'a [Angles],
    room: &'a Room,
    /// What numbers are left out by, where they are.
    chance: Option<u64>,
    values: Vec<Option<Arc<Vec<f32>>>>,
    gradients: Vec<Option<Arc<Vec<f32>>>>,
    routings: Vec<Routing>,
    /// Gradients of the shares of each router, `[tokens, top_k]`.
    d_shares: Vec<Vec<f32>>,
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        let all = self.values.iter_mut().chain(&mut self.gradients);
        all.for_each(|buffer| self.room.give(buffer.take()));
    }
}

/// How a value goes with one of more rows or columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// Every number with its own.
    No,
    /// One row with every row.
    Row,
    /// One column with every column.
    Column,
}

impl Spread {
    fn at(self, row: usize, column: usize, width: usize) -> usize {
        match self {
            Spread::No => row * width + column,
            Spread::Row => column,
            Spread::Column => row,
        }
    }
}

impl<'a> Tape<'a> {
    /// An empty one.
    pub fn new(network: &'a Network, batch: &'a Batch, angles: &'a [Angles], room: &'a Room) -> Self {
        Self {
            network,
            batch,
            selected: batch.rows.len(),
            angles,
            room,
            chance: None,
            values: vec![None; network.slots.len()],
            gradients: vec![None; network.slots.len()],
            routings: (0..network.routings).map(|_| Routing::default()).collect(),
            d_shares: vec![Vec::new(); network.routings],
        }
    }

    /// One for some of the selected rows, which stand where they were selected to.
    pub fn of_rows(
        network: &'a Network,
        batch: &'a Batch,
        angles: &'a [Angles],
        room: &'a Room,
        rows: Vec<f32>,
    ) -> Self {
        let width = network.slots[network.selected].width;
        let mut tape = Self::new(network, batch, angles, room);
        tape.selected = rows.len() / width;
        tape.values[network.selected] = Some(Arc::new(rows));
        tape
    }

    /// Leaves numbers out where the network says so; equal keys leave out the same.
    pub fn by_chance(mut self, key: Option<u64>) -> Self {
        self.chance = key;
        self
    }

    /// One for some of its selected rows, from the number `first` on.
    pub fn end(&self, rows: Vec<f32>, first: usize) -> Self {
        let key = self.chance.map(|key| mixed(key, first as u64, 1));
        Self::of_rows(self.network, self.batch, self.angles, self.room, rows).by_chance(key)
    }

    /// Takes a value out, or a copy where a gradient will be computed from it.
    pub fn take_value(&mut self, slot: usize) -> Vec<f32> {
        let value = if self.network.kept[slot] { self.values[slot].clone() } else { self.values[slot].take() };
        Arc::unwrap_or_clone(value.expect("the value was computed"))
    }

    /// Takes a gradient out; none where nothing that is trained lies before the value.
    pub fn take_gradient(&mut self, slot: usize) -> Option<Vec<f32>> {
        self.gradients[slot].take().map(Arc::unwrap_or_clone)
    }

    /// Begins going backwards.
    pub fn set_gradient(&mut self, slot: usize, gradient: Vec<f32>) {
        self.gradients[slot] = Some(Arc::new(gradient));
    }

    fn rows(&self, slot: usize) -> usize {
        match self.network.slots[slot].rows {
            RowSpace::Selected => self.selected,
            space => self.batch.count(space),
        }
    }

    fn len(&self, slot: usize) -> usize {
        self.rows(slot) * self.network.slots[slot].width
    }

    /// Numbers of a row of a value.
    pub fn width(&self, slot: usize) -> usize {
        self.network.slots[slot].width
    }

    /// Whether a gradient passes a value.
    pub fn is_active(&self, slot: usize) -> bool {
        self.network.active[slot]
    }

    /// Which rows of a value the selected tokens are.
    pub fn selected_rows(&self, slot: usize) -> Vec<usize> {
        match self.network.slots[slot].rows {
            RowSpace::Selected => (0..self.selected).collect(),
            _ => self.batch.rows.iter().map(|row| *row as usize).collect(),
        }
    }

    /// A value that was computed, and is kept.
    pub fn value(&self, slot: usize) -> &[f32] {
        self.values[slot].as_ref().expect("steps are in order, and what gradients need is kept")
    }

    /// Computes some steps.
    pub fn forward(&mut self, range: Range<usize>, parameters: &[Parameter], keep: Keep) {
        let network = self.network;
        for at in range {
            let stage = &network.stages[at];
            self.step(stage, parameters);
            for slot in &stage.release {
                let kept = match keep {
                    Keep::Nothing => false,
                    Keep::Borders => network.borders[*slot],
                    Keep::All => network.borders[*slot] || network.kept[*slot],
                };
                if !kept {
                    self.room.give(self.values[*slot].take());
                }
            }
        }
    }

    fn step(&mut self, stage: &Stage, parameters: &[Parameter]) {
        let Some(&output) = stage.outputs.first() else {
            if let Op::Route { spec, routing } = &stage.op {
                let mut made = std::mem::take(&mut self.routings[*routing]);
                made.route(spec, self.value(stage.inputs[0]));
                self.routings[*routing] = made;
            }
            return;
        };
        let input = |i: usize| self.value(stage.inputs[i]);
        let weight = stage.weight.map(|p| &parameters[p].value[..]);
        let width = self.network.slots[output].width;
        let mut y = self.room.take(self.len(output));
        match &stage.op {
            Op::Embedding { weight: frozen, scale } => {
                let factor = scale.map_or(1.0, |scale| scale as f32);
                y.par_chunks_mut(width).zip(&self.batch.tokens).for_each(|(y, token)| {
                    match weight {
                        Some(weight) => y.copy_from_slice(&weight[*token as usize * width..][..width]),
                        None => frozen.row(*token as usize, y),
                    }
                    y.iter_mut().for_each(|y| *y *= factor);
                });
            }
            Op::Linear { weight: frozen, bias } => {
                product(frozen, weight, input(0), &mut y);
                let bias = stage.bias.map(|p| &parameters[p].value[..]).or(bias.as_deref());
                if let Some(bias) = bias {
                    y.par_chunks_mut(width).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
                }
            }
            Op::GroupedLinear { weights, by } => {
                let (x, grouped) = (input(0), self.grouped(*by));
                let x_width = weights[0].shape().1;
                for (group, frozen) in weights.iter().enumerate() {
                    let rows = grouped.rows(group);
                    let weight = weight.map(|all| &all[group * width * x_width..][..width * x_width]);
                    let to = &mut y[rows.start * width..rows.end * width];
                    product(frozen, weight, &x[rows.start * x_width..rows.end * x_width], to);
                }
            }
            Op::Take(by) => {
                let (x, grouped, from) = (input(0), self.grouped(*by), self.network.slots[stage.inputs[0]].width);
                y.par_chunks_mut(width).enumerate().for_each(|(row, y)| grouped.take(row, x, from, y));
            }
            Op::Give(by) => {
                let (x, grouped, from) = (input(0), self.grouped(*by), self.network.slots[stage.inputs[0]].width);
                y.par_chunks_mut(width).enumerate().for_each(|(token, y)| grouped.give(token, x, from, y));
            }
            Op::RmsNorm { weight: frozen, epsilon } => {
                let weight = effective(weight, stage.offset, frozen);
                let n = weight.len();
                let groups = y.par_chunks_mut(n).zip(input(0).par_chunks(n));
                groups.for_each(|(y, x)| kernels::root_mean_square_norm(x, &weight, *epsilon as f32, y));
            }
            Op::LayerNorm { weight: frozen, bias, epsilon } => {
                let weight = weight.unwrap_or(frozen);
                let bias = stage.bias.map(|p| &parameters[p].value[..]).or(bias.as_deref());
                let groups = y.par_chunks_mut(weight.len()).zip(input(0).par_chunks(weight.len()));
                groups.for_each(|(y, x)| kernels::layer_norm(x, weight, bias, *epsilon as f32, y));
            }
            Op::Rope(rope) => {
                y.copy_from_slice(input(0));
                let (rope, angles) = (&self.network.ropes[*rope], &self.angles[*rope]);
                let rows = y.par_chunks_mut(width).enumerate();
                rows.for_each(|(token, y)| rope.rotate(y, width, angles, token));
            }
            Op::Cache(_) => {
                for (output, input) in stage.outputs.iter().zip(&stage.inputs).take(2) {
                    self.values[*output] = self.values[*input].clone();
                }
                self.room.give(Some(Arc::new(y)));
                return;
            }
            Op::Attention { spec, cache } => {
                self.attention(stage, spec, *cache).forward(&mut y);
            }
            Op::Add => self.combine(stage, output, &mut y, |a, b| a + b),
            Op::Mul => self.combine(stage, output, &mut y, |a, b| a * b),
            Op::Gated(Gate::Silu) => gated(input(0), input(1), &mut y, kernels::mul_silu),
            Op::Gated(Gate::GeluTanh) => gated(input(0), input(1), &mut y, kernels::mul_gelu_tanh),
            Op::Silu => apply(input(0), &mut y, kernels::silu),
            Op::GeluTanh => apply(input(0), &mut y, kernels::gelu_tanh),
            Op::Tanh => apply(input(0), &mut y, kernels::tanh),
            Op::Sigmoid => apply(input(0), &mut y, kernels::sigmoid),
            Op::Gelu => apply(input(0), &mut y, |x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = kernels::gelu(*x))),
            Op::Relu => apply(input(0), &mut y, |x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0))),
            Op::Scale(factor) => {
                let factor = *factor as f32;
                apply(input(0), &mut y, |x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor));
            }
            Op::Softmax => {
                y.copy_from_slice(input(0));
                y.par_chunks_mut(width).for_each(kernels::softmax);
            }
            Op::Concat(groups) => {
                let (a, b) = (self.network.slots[stage.inputs[0]].width, self.network.slots[stage.inputs[1]].width);
                let (a, b) = (a / groups, b / groups);
                let parts = input(0).chunks_exact(a).zip(input(1).chunks_exact(b));
                for ((left, right), y) in parts.zip(y.chunks_exact_mut(a + b)) {
                    y[..a].copy_from_slice(left);
                    y[a..].copy_from_slice(right);
                }
            }
            Op::Dropout(rate) => match self.chance_of(output) {
                Some(key) => drop_out(*rate, key, input(0), &mut y),
                None => y.copy_from_slice(input(0)),
            },
            // Training data has no images.
            Op::Overlay => y.copy_from_slice(input(0)),
            Op::Given => unreachable!("`decode` is given token ids alone"),
            Op::Parameter(frozen) => y.copy_from_slice(weight.unwrap_or(frozen)),
            Op::SelectRows => {
                let x = input(0);
                let rows = y.par_chunks_mut(width).zip(&self.batch.rows);
                rows.for_each(|(y, row)| y.copy_from_slice(&x[*row as usize * width..][..width]));
            }
            Op::Route { .. } => unreachable!("a router makes no value"),
        }
        self.values[output] = Some(Arc::new(y));
    }

    /// What numbers of a slot are left out by.
    fn chance_of(&self, slot: usize) -> Option<u64> {
        self.chance.map(|key| mixed(key, slot as u64, 0))
    }

    fn grouped(&self, by: Grouping) -> Grouped<'_> {
        match by {
            Grouping::Routed(routing) => Grouped::Routed(&self.routings[routing]),
            Grouping::Stretches(_) => Grouped::Stretches { tokens: self.batch.tokens.len() },
        }
    }

    fn attention<'t>(&'t self, stage: &Stage, spec: &'t AttentionSpec, cache: usize) -> Attention<'t> {
        let [q, k, v] = [0, 1, 2].map(|i| self.value(stage.inputs[i]));
        Attention { spec, cache: &self.network.caches[cache], q, k, v, parts: &self.batch.parts }
    }

    fn spread(&self, slot: usize, output: usize) -> Spread {
        match (self.rows(slot) == self.rows(output), self.network.slots[slot].width) {
            (_, width) if width != self.network.slots[output].width => Spread::Column,
            (true, _) => Spread::No,
            (false, _) => Spread::Row,
        }
    }

    fn combine(&self, stage: &Stage, output: usize, y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy + Sync) {
        let width = self.network.slots[output].width;
        let [a, b] = [0, 1].map(|i| (self.value(stage.inputs[i]), self.spread(stage.inputs[i], output)));
        if (a.1, b.1) == (Spread::No, Spread::No) {
            let parts = y.par_chunks_mut(CHUNK).zip(a.0.par_chunks(CHUNK)).zip(b.0.par_chunks(CHUNK));
            parts.for_each(|((y, a), b)| y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = f(*a, *b)));
            return;
        }
        y.par_chunks_mut(width).enumerate().for_each(|(row, y)| {
            for (column, y) in y.iter_mut().enumerate() {
                *y = f(a.0[a.1.at(row, column, width)], b.0[b.1.at(row, column, width)]);
            }
        });
    }
}

/// A norm's weight with what is added to it.
fn effective<'w>(trained: Option<&'w [f32]>, offset: f32, frozen: &'w [f32]) -> std::borrow::Cow<'w, [f32]> {
    match trained {
        Some(weight) if offset != 0.0 => weight.iter().map(|w| w + offset).collect(),
        Some(weight) => weight.into(),
        None => frozen.into(),
    }
}

/// x W'.
fn product(frozen: &Matrix, trained: Option<&[f32]>, x: &[f32], y: &mut [f32]) {
    match trained {
        _ if x.is_empty() => {}
        Some(weight) => {
            let columns = frozen.shape().1;
            multiply(View::of(x, columns), View::of(weight, columns).turned(), y, Into::Replace, Threads::All);
        }
        None => frozen.linear(x, y),
    }
}

fn apply(x: &[f32], y: &mut [f32], f: impl Fn(&[f32], &mut [f32]) + Sync) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f(x, y));
}

fn gated(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) {
    let parts = y.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK));
    parts.for_each(|((y, a), b)| f(a, b, y));
}

//! One pass through a plan, as each member of the team goes through it.

use super::Arena;
use super::plan::{Place, Plan, PlanStep, Work};
use super::team::Member;
use crate::attention::{self, Block, Queries};
use crate::batch::{Batch, Sequence};
use crate::kernels;
use crate::lanes::{LANES, Level};
use crate::matrix::Matrix;
use crate::packed::Rounded;
use crate::program::{Gate, Op};
use crate::rope::{Angles, Rope};
use crate::routing::{Grouped, Grouping, Routing};
use std::ops::Range;
use std::sync::atomic::AtomicUsize;

/// Elements below which spreading a step costs more than doing it.
const SPREAD: usize = 4096;

/// A pointer that the team shares.
struct Shared<T>(*mut T);
// SAFETY: who uses what when is settled by the plan: see `Pass`.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

/// A step's batch, caches and buffers. Members write disjoint parts of a step's outputs, and the plan has them wait before
/// they read what others wrote, or write what others may still read; all `unsafe` below leans on that.
pub(super) struct Pass<'a> {
    plan: &'a Plan,
    batch: &'a Batch,
    ropes: &'a [Rope],
    angles: Vec<Angles>,
    blocks: Vec<Block>,
    buffers: Vec<Shared<f32>>,
    rounded: Rounded,
    level: Level,
    routings: Shared<Routing>,
    sequences: Shared<Sequence<'a>>,
    sequence_count: usize,
    /// How much of each step's work is taken.
    taken: Vec<AtomicUsize>,
}

impl<'a> Pass<'a> {
    pub fn new(
        plan: &'a Plan,
        batch: &'a Batch,
        ropes: &'a [Rope],
        sequences: &mut [Sequence<'_>],
        arena: &mut Arena,
    ) -> Self {
        Self {
            plan,
            batch,
            ropes,
            angles: ropes.iter().map(|rope| rope.angles(&batch.positions)).collect(),
            blocks: attention::blocks(&batch.parts),
            buffers: arena.buffers.iter_mut().map(|buffer| Shared(buffer.as_mut_ptr())).collect(),
            rounded: arena.rounded.view(0, 0),
            level: Level::best(),
            routings: Shared(arena.routings.as_mut_ptr()),
            sequence_count: sequences.len(),
            sequences: Shared(sequences.as_mut_ptr().cast()),
            taken: plan.steps.iter().map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn rows(&self, place: &Place) -> usize {
        self.batch.count(self.plan.buffers[place.buffer].rows)
    }

    /// All of a value.
    pub fn values(&self, place: &Place) -> &[f32] {
        self.read(place, 0..self.rows(place))
    }

    /// Rows of a value.
    fn read(&self, place: &Place, rows: Range<usize>) -> &[f32] {
        debug_assert!(rows.end <= self.rows(place));
        // SAFETY: the buffer has room for all rows of its widest value, and the plan keeps writers away meanwhile.
        unsafe {
            let start = self.buffers[place.buffer].0.add(rows.start * place.width);
            std::slice::from_raw_parts(start, rows.len() * place.width)
        }
    }

    /// Rows of a value, to be written.
    ///
    /// # Safety
    /// No other member may write, and none may read, these rows before the plan has all wait.
    #[allow(clippy::mut_from_ref, reason = "members share the pass and write disjoint rows")]
    unsafe fn write(&self, place: &Place, rows: Range<usize>) -> &mut [f32] {
        debug_assert!(rows.end <= self.rows(place));
        // SAFETY: as in `read`; the rows are the caller's.
        unsafe {
            let start = self.buffers[place.buffer].0.add(rows.start * place.width);
            std::slice::from_raw_parts_mut(start, rows.len() * place.width)
        }
    }

    /// This member's rows of a step's output; all of them are member 0's where there are few numbers.
    fn share(&self, member: &Member<'_>, place: &Place) -> Range<usize> {
        let rows = self.rows(place);
        match rows * place.width < SPREAD {
            true if member.index == 0 => 0..rows,
            true => 0..0,
            false => member.share(rows, 1),
        }
    }

    /// Does this member's share of a step.
    pub fn step(&self, index: usize, member: &Member<'_>) {
        let step = &self.plan.steps[index];
        if step.wait {
            member.barrier();
        }
        let op = match &step.work {
            Work::Round => return self.round(step, member),
            Work::Observe(cache) if member.index == 0 => return self.observe(step, *cache),
            Work::Observe(_) => return,
            Work::Op(op) => op,
        };
        match op {
            Op::Linear { weight, bias } => self.linear(step, index, weight, bias.as_deref(), member),
            Op::GroupedLinear { weights, by } => self.grouped_linear(step, index, weights, *by, member),
            Op::Route { spec, routing } => {
                if member.index == 0 {
                    // SAFETY: one member routes, and the plan has all wait before and after.
                    let routing = unsafe { &mut *self.routings.0.add(*routing) };
                    routing.route(spec, self.values(&step.inputs[0]));
                }
            }
            Op::Cache(cache) => {
                if member.index == 0 {
                    self.append(step, *cache);
                }
            }
            Op::Attention { spec, cache } => {
                let (q, out) = (&step.inputs[0], &step.outputs[0]);
                let tasks = self.blocks.len() * spec.kv_heads;
                while let Some(tasks) = member.claim(&self.taken[index], tasks, 1) {
                    for task in tasks {
                        let block = self.blocks[task / spec.kv_heads];
                        // SAFETY: nobody appends to caches before all are done here.
                        let sequence = unsafe { &*self.sequences.0.add(block.sequence) };
                        let layer = &sequence.cache.layers[*cache];
                        let queries = Queries::of(self.batch, block, self.values(q), q.width, layer);
                        // SAFETY: the task has these heads of these tokens to itself.
                        unsafe {
                            let out = self.buffers[out.buffer].0.add(block.first * out.width);
                            attention::attend(spec, &queries, task % spec.kv_heads, out);
                        }
                    }
                }
            }
            row_wise => self.row_wise(step, row_wise, member),
        }
    }

    fn linear(&self, step: &PlanStep, index: usize, weight: &Matrix, bias: Option<&[f32]>, member: &Member<'_>) {
        let (input, out) = (&step.inputs[0], &step.outputs[0]);
        let rows = self.rows(out);
        if rows == 0 {
            return;
        }
        let y = self.buffers[out.buffer].0;
        let add_bias = |columns: Range<usize>| {
            let Some(bias) = bias else { return };
            for row in 0..rows {
                // SAFETY: these columns are this member's.
                let y =
                    unsafe { std::slice::from_raw_parts_mut(y.add(row * out.width + columns.start), columns.len()) };
                y.iter_mut().zip(&bias[columns.clone()]).for_each(|(y, b)| *y += b);
            }
        };
        let (units, chunk) = units(weight, member.size());
        while let Some(units) = member.claim(&self.taken[index], units, chunk) {
            // SAFETY: the units' columns are this member's.
            unsafe { self.multiply(weight, units.clone(), input, 0..rows, y) };
            add_bias(columns(weight, units));
        }
    }

    /// The products of rows and the matrices of their groups.
    fn grouped_linear(&self, step: &PlanStep, index: usize, weights: &[Matrix], by: Grouping, member: &Member<'_>) {
        let (input, out) = (&step.inputs[0], &step.outputs[0]);
        let grouped = self.grouped(by);
        // Parts of a small matrix that are larger are read faster.
        let each = units(&weights[0], member.size()).0;
        let chunk = each.div_ceil(member.size());
        while let Some(units) = member.claim(&self.taken[index], each * weights.len(), chunk) {
            let groups = units.start / each..units.end.div_ceil(each);
            for (group, weight) in groups.clone().zip(&weights[groups]) {
                let rows = grouped.rows(group);
                let mine =
                    units.start.max(group * each) - group * each..units.end.min((group + 1) * each) - group * each;
                if !rows.is_empty() {
                    // SAFETY: these columns of the group's rows are this member's.
                    unsafe {
                        let y = self.buffers[out.buffer].0.add(rows.start * out.width);
                        self.multiply(weight, mine, input, rows, y);
                    }
                }
            }
        }
    }

    /// Some units of a product of rows of a value, `y` being the first row's.
    ///
    /// # Safety
    /// The units' columns of `y` must be the caller's, and what is to be multiplied must have been made and rounded.
    unsafe fn multiply(&self, weight: &Matrix, units: Range<usize>, input: &Place, rows: Range<usize>, y: *mut f32) {
        match weight {
            Matrix::Packed(packed) => {
                let x = self.rounded.shaped(self.rows(input), input.width).part(rows);
                // SAFETY: the caller's promise.
                unsafe { packed.linear_tiles(self.level, units, x, y) };
            }
            // SAFETY: as above.
            Matrix::Dense(dense) => unsafe { dense.linear_tiles(self.level, units, self.read(input, rows), y) },
            Matrix::Device(_) | Matrix::DeviceBlocked(..) => unreachable!("a plan is made of matrices on the CPU"),
        }
    }

    /// Rows by matrix, in this pass.
    fn grouped(&self, by: Grouping) -> Grouped<'_> {
        match by {
            // SAFETY: the plan keeps the router away meanwhile.
            Grouping::Routed(routing) => Grouped::Routed(unsafe { &*self.routings.0.add(routing) }),
            Grouping::Stretches(_) => Grouped::Stretches { tokens: self.batch.tokens.len() },
        }
    }

    fn round(&self, step: &PlanStep, member: &Member<'_>) {
        let input = &step.inputs[0];
        let rows = self.share(member, input);
        if !rows.is_empty() {
            let room = self.rounded.shaped(self.rows(input), input.width);
            // SAFETY: these rows are this member's, and the room was made as large before the pass.
            unsafe { room.round(rows.start, self.read(input, rows.clone())) };
        }
    }

    /// Appends keys and values to every sequence's cache; for one member.
    fn append(&self, step: &PlanStep, cache: usize) {
        let (k, v) = (&step.inputs[0], &step.inputs[1]);
        for (i, part) in self.batch.parts.iter().enumerate() {
            debug_assert!(i < self.sequence_count);
            // SAFETY: one member appends, and the plan has all wait before attention reads.
            let sequence = unsafe { &mut *self.sequences.0.add(i) };
            sequence.cache.layers[cache].append(
                self.read(k, part.clone()),
                self.read(v, part.clone()),
                &self.batch.positions[part.clone()],
                &self.batch.branches[part.clone()],
            );
        }
    }

    /// Shows queries to every sequence's cache; for one member.
    fn observe(&self, step: &PlanStep, cache: usize) {
        for (i, part) in self.batch.parts.iter().enumerate() {
            // SAFETY: as in `append`; the plan has all be done with reading before.
            let sequence = unsafe { &mut *self.sequences.0.add(i) };
            sequence.cache.layers[cache].observe(self.read(&step.inputs[0], part.clone()));
        }
    }

    /// Steps that make each row from the same rows of their inputs.
    fn row_wise(&self, step: &PlanStep, op: &Op<Vec<f32>>, member: &Member<'_>) {
        let out = &step.outputs[0];
        let rows = self.share(member, out);
        if rows.is_empty() {
            return;
        }
        // SAFETY: these rows are this member's.
        let y = unsafe { self.write(out, rows.clone()) };
        let input = |i: usize| self.read(&step.inputs[i], rows.clone());
        match op {
            Op::Embedding { weight, scale } => {
                for (token, y) in self.batch.tokens[rows.clone()].iter().zip(y.chunks_exact_mut(out.width)) {
                    weight.row(*token as usize, y);
                }
                if let Some(scale) = scale.map(|scale| scale as f32) {
                    y.iter_mut().for_each(|y| *y *= scale);
                }
            }
            Op::Take(by) => {
                let (x, grouped) = (&step.inputs[0], self.grouped(*by));
                let x_values = self.values(x);
                rows.zip(y.chunks_exact_mut(out.width)).for_each(|(row, y)| grouped.take(row, x_values, x.width, y));
            }
            Op::Give(by) => {
                let (x, grouped) = (&step.inputs[0], self.grouped(*by));
                let x_values = self.values(x);
                rows.zip(y.chunks_exact_mut(out.width))
                    .for_each(|(token, y)| grouped.give(token, x_values, x.width, y));
            }
            Op::Concat(groups) => {
                let (a, b) = (step.inputs[0].width / groups, step.inputs[1].width / groups);
                let parts = input(0).chunks_exact(a).zip(input(1).chunks_exact(b));
                for ((left, right), y) in parts.zip(y.chunks_exact_mut(a + b)) {
                    y[..a].copy_from_slice(left);
                    y[a..].copy_from_slice(right);
                }
            }
            Op::RmsNorm { weight, epsilon } => {
                let groups = input(0).chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len()));
                groups.for_each(|(x, y)| kernels::root_mean_square_norm(x, weight, *epsilon as f32, y));
            }
            Op::LayerNorm { weight, bias, epsilon } => {
                let groups = input(0).chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len()));
                groups.for_each(|(x, y)| kernels::layer_norm(x, weight, bias.as_deref(), *epsilon as f32, y));
            }
            Op::Rope(rope) => {
                y.copy_from_slice(input(0));
                self.ropes[*rope].rotate(y, out.width, &self.angles[*rope], rows.start);
            }
            Op::Silu => kernels::silu(input(0), y),
            Op::Gelu => apply(input(0), y, kernels::gelu),
            Op::GeluTanh => kernels::gelu_tanh(input(0), y),
            Op::Tanh => kernels::tanh(input(0), y),
            Op::Sigmoid => kernels::sigmoid(input(0), y),
            Op::Relu => apply(input(0), y, |x| x.max(0.0)),
            Op::Gated(Gate::Silu) => kernels::mul_silu(input(0), input(1), y),
            Op::Gated(Gate::GeluTanh) => kernels::mul_gelu_tanh(input(0), input(1), y),
            Op::Add => self.combine(step, rows, y, |a, b| a + b),
            Op::Mul => self.combine(step, rows, y, |a, b| a * b),
            Op::Scale(factor) => {
                let factor = *factor as f32;
                apply(input(0), y, |x| x * factor);
            }
            Op::Softmax => {
                y.copy_from_slice(input(0));
                y.chunks_exact_mut(out.width).for_each(kernels::softmax);
            }
            Op::Dropout(_) => y.copy_from_slice(input(0)),
            Op::Given => {
                y.copy_from_slice(&self.batch.given[rows.start * out.width..rows.end * out.width]);
            }
            Op::Overlay => {
                y.copy_from_slice(input(0));
                self.batch.overlay(rows, out.width, y);
            }
            Op::SelectRows => {
                for (row, y) in self.batch.rows[rows].iter().zip(y.chunks_exact_mut(out.width)) {
                    let row = *row as usize;
                    y.copy_from_slice(self.read(&step.inputs[0], row..row + 1));
                }
            }
            Op::Linear { .. }
            | Op::GroupedLinear { .. }
            | Op::Route { .. }
            | Op::Cache(_)
            | Op::Attention { .. }
            | Op::Parameter(_) => unreachable!("these are not done row by row"),
        }
    }

    /// A function of two values; a weight's one row goes with every row, and one column with every column.
    fn combine(&self, step: &PlanStep, rows: Range<usize>, y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy) {
        let width = step.outputs[0].width;
        let of = |place: &Place, row: usize| match self.rows(place) {
            1 => self.read(place, 0..1),
            _ => self.read(place, row..row + 1),
        };
        let (left, right) = (&step.inputs[0], &step.inputs[1]);
        for (row, y) in rows.zip(y.chunks_exact_mut(width)) {
            match (of(left, row), of(right, row)) {
                (a, b) if a.len() == b.len() => y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = f(*a, *b)),
                (a, [b]) => y.iter_mut().zip(a).for_each(|(y, a)| *y = f(*a, *b)),
                (a, b) => y.iter_mut().zip(b).for_each(|(y, b)| *y = f(a[0], *b)),
            }
        }
    }
}

/// The tiles of rows by which a product is shared out, and how many a member takes at once.
fn units(weight: &Matrix, members: usize) -> (usize, usize) {
    let tiles = match weight {
        Matrix::Packed(packed) => packed.tiles(),
        Matrix::Dense(dense) => dense.tiles(),
        Matrix::Device(_) | Matrix::DeviceBlocked(..) => unreachable!("a plan is made of matrices on the CPU"),
    };
    (tiles, tiles.div_ceil(members * 8).max(1))
}

/// The columns of a product that tiles make.
fn columns(weight: &Matrix, tiles: Range<usize>) -> Range<usize> {
    tiles.start * LANES..(tiles.end * LANES).min(weight.shape().0)
}

fn apply(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
}

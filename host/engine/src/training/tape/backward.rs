//! Going backwards: from the gradients of what steps made to those of what they read, and of parameters.

use super::super::attention::Gradients;
use super::super::dropout::drop_out;
use super::super::gemm::{Into, Threads, View, add_column_sums, multiply, through};
use super::super::network::{Parameter, Stage};
use super::super::room::Room;
use super::super::slopes;
use super::{CHUNK, Spread, Tape, effective};
use crate::kernels;
use crate::matrix::Matrix;
use crate::program::{Gate, Op};
use crate::routing::{Grouped, Grouping, Routing};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// A function of many numbers, one by one.
type Numbers = fn(&[f32], &mut [f32]);

impl Tape<'_> {
    /// The gradient of a slot, to be added to.
    fn gradient(&mut self, slot: usize) -> &mut [f32] {
        let (gradient, into) = self.gradient_or_room(slot);
        if into == Into::Replace {
            gradient.par_chunks_mut(CHUNK).for_each(|chunk| chunk.fill(0.0));
        }
        gradient
    }

    /// The gradient of a slot, to be added to, or room for the first that comes.
    fn gradient_or_room(&mut self, slot: usize) -> (&mut [f32], Into) {
        let into = if self.gradients[slot].is_some() { Into::Add } else { Into::Replace };
        let (len, room) = (self.len(slot), self.room);
        let gradient = self.gradients[slot].get_or_insert_with(|| Arc::new(room.take(len)));
        (Arc::make_mut(gradient).as_mut_slice(), into)
    }

    /// Adds to the gradient of a slot what is its own already.
    fn give(&mut self, slot: usize, gradient: Arc<Vec<f32>>) {
        if self.gradients[slot].is_none() {
            self.gradients[slot] = Some(gradient);
            return;
        }
        let to = self.gradient(slot).par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        to.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
        self.room.give(Some(gradient));
    }

    /// The same of a value that may have gone with every row or column of `output`, whose gradient this is.
    fn give_spread(&mut self, slot: usize, output: usize, gradient: Arc<Vec<f32>>) {
        match self.spread(slot, output) {
            Spread::No => self.give(slot, gradient),
            Spread::Row => add_column_sums(&gradient, self.gradient(slot)),
            Spread::Column => {
                let width = self.network.slots[output].width;
                let rows = self.gradient(slot).iter_mut().zip(gradient.chunks_exact(width));
                rows.for_each(|(to, row)| *to += row.iter().sum::<f32>());
            }
        }
    }

    /// Goes back over some steps. Gradients of parameters are added to; values that the steps made are let go of.
    pub fn backward(&mut self, range: Range<usize>, parameters: &mut [Parameter]) {
        let network = self.network;
        for at in range.rev() {
            let stage = &network.stages[at];
            if stage.active {
                self.step_back(stage, parameters);
            }
            for slot in &stage.outputs {
                self.room.give(self.values[*slot].take());
                self.room.give(self.gradients[*slot].take());
            }
        }
    }

    fn step_back(&mut self, stage: &Stage, parameters: &mut [Parameter]) {
        let network = self.network;
        let active = |i: usize| network.active[stage.inputs[i]];
        if let Op::Route { spec, routing } = &stage.op {
            let d_shares = std::mem::take(&mut self.d_shares[*routing]);
            let logits = self.values[stage.inputs[0]].clone().expect("the logits are kept");
            if active(0) && !d_shares.is_empty() {
                let routing = std::mem::take(&mut self.routings[*routing]);
                routing.back(spec, &logits, &d_shares, self.gradient(stage.inputs[0]));
            }
            return;
        }
        if let Op::Cache(_) = &stage.op {
            for (output, input) in stage.outputs.iter().zip(&stage.inputs).take(2) {
                if let Some(gradient) = self.gradients[*output].take().filter(|_| network.active[*input]) {
                    self.give(*input, gradient);
                }
            }
            return;
        }
        let output = stage.outputs[0];
        let Some(dy) = self.gradients[output].take() else { return };
        let width = network.slots[output].width;
        let input = |tape: &Self, i: usize| tape.values[stage.inputs[i]].clone().expect("what gradients need is kept");
        match &stage.op {
            Op::Embedding { scale, .. } => {
                let Some(p) = stage.weight else { return };
                let factor = scale.map_or(1.0, |scale| scale as f32);
                for (dy, token) in dy.chunks_exact(width).zip(&self.batch.tokens) {
                    let to = &mut parameters[p].gradient[*token as usize * width..][..width];
                    to.iter_mut().zip(dy).for_each(|(to, d)| *to += d * factor);
                }
            }
            Op::Linear { weight: frozen, .. } => {
                if let Some(p) = stage.bias {
                    add_column_sums(&dy, &mut parameters[p].gradient);
                }
                if let Some(p) = stage.weight {
                    let x = input(self, 0);
                    add_outer(&dy, width, &x, &mut parameters[p].gradient);
                }
                if active(0) {
                    let weight = stage.weight.map(|p| &parameters[p].value[..]);
                    let room = self.room;
                    let (dx, into) = self.gradient_or_room(stage.inputs[0]);
                    back_through(frozen, weight, &dy, (dx, into), room);
                }
            }
            Op::GroupedLinear { weights, by } => {
                let by_group: Vec<Range<usize>> = (0..weights.len()).map(|g| self.grouped(*by).rows(g)).collect();
                let x_width = weights[0].shape().1;
                for (group, (frozen, rows)) in weights.iter().zip(by_group).enumerate() {
                    let own = group * width * x_width..(group + 1) * width * x_width;
                    let dy = &dy[rows.start * width..rows.end * width];
                    let at = rows.start * x_width..rows.end * x_width;
                    if let Some(p) = stage.weight {
                        let x = input(self, 0);
                        add_outer(dy, width, &x[at.clone()], &mut parameters[p].gradient[own.clone()]);
                    }
                    if active(0) {
                        let weight = stage.weight.map(|p| &parameters[p].value[own]);
                        let room = self.room;
                        let dx = &mut self.gradient(stage.inputs[0])[at];
                        back_through(frozen, weight, dy, (dx, Into::Add), room);
                    }
                }
            }
            Op::Take(by) => {
                let routing = self.lend(*by);
                let grouped = routing.grouped(self.batch.tokens.len());
                let from = network.slots[stage.inputs[0]].width;
                let rows = self.gradient(stage.inputs[0]).par_chunks_mut(from).enumerate();
                rows.for_each(|(token, dx)| grouped.take_back(token, &dy, width, dx));
                self.put_back(*by, routing);
            }
            Op::Give(by) => {
                let routing = self.lend(*by);
                let grouped = routing.grouped(self.batch.tokens.len());
                let from = network.slots[stage.inputs[0]].width;
                if let Some((number, routing)) = by.routed().zip(routing.0.as_ref())
                    && network.trained_routers[number]
                {
                    let rows = input(self, 0);
                    self.d_shares[number] = routing.share_gradients(&dy, &rows, width);
                }
                if active(0) {
                    let rows = self.gradient(stage.inputs[0]).par_chunks_mut(from).enumerate();
                    rows.for_each(|(row, dx)| grouped.give_back(row, &dy, width, dx));
                }
                self.put_back(*by, routing);
            }
            Op::RmsNorm { weight: frozen, epsilon } => {
                let weight = effective(stage.weight.map(|p| &parameters[p].value[..]), stage.offset, frozen);
                let x = input(self, 0);
                let slope = |x: &[f32], dy: &[f32], dx: &mut [f32], d_weight: &mut [f32]| {
                    kernels::root_mean_square_norm_back(x, &weight, *epsilon as f32, dy, dx, d_weight);
                };
                let d_weight = self.norm_back(stage.inputs[0], weight.len(), &x, &dy, slope);
                if let Some(p) = stage.weight {
                    parameters[p].add(&d_weight);
                }
            }
            Op::LayerNorm { weight: frozen, epsilon, .. } => {
                if let Some(p) = stage.bias {
                    add_column_sums(&dy, &mut parameters[p].gradient);
                }
                let weight = stage.weight.map_or(&frozen[..], |p| &parameters[p].value[..]);
                let x = input(self, 0);
                let slope = |x: &[f32], dy: &[f32], dx: &mut [f32], d_weight: &mut [f32]| {
                    slopes::layer_norm(x, weight, *epsilon as f32, dy, dx, d_weight);
                };
                let d_weight = self.norm_back(stage.inputs[0], weight.len(), &x, &dy, slope);
                if let Some(p) = stage.weight {
                    parameters[p].add(&d_weight);
                }
            }
            Op::Rope(rope) => {
                let mut dx = Arc::unwrap_or_clone(dy);
                let (rope, angles) = (&network.ropes[*rope], &self.angles[*rope]);
                let rows = dx.par_chunks_mut(width).enumerate();
                rows.for_each(|(token, dx)| rope.rotate_back(dx, width, angles, token));
                return self.give(stage.inputs[0], Arc::new(dx));
            }
            Op::Attention { spec, cache } => {
                let y = self.values[output].clone().expect("what came out is kept");
                let [q, k, v] = [0, 1, 2].map(|i| self.room.take(self.len(stage.inputs[i])));
                let mut made = Gradients { q, k, v };
                self.attention(stage, spec, *cache).backward(&y, &dy, &mut made);
                for (i, gradient) in [made.q, made.k, made.v].into_iter().enumerate() {
                    let gradient = Arc::new(gradient);
                    match active(i) {
                        true => self.give(stage.inputs[i], gradient),
                        false => self.room.give(Some(gradient)),
                    }
                }
            }
            Op::Add => {
                for i in (0..2).filter(|i| active(*i)) {
                    self.give_spread(stage.inputs[i], output, dy.clone());
                }
            }
            Op::Mul => {
                for i in (0..2).filter(|i| active(*i)) {
                    let (slot, other) = (stage.inputs[i], stage.inputs[1 - i]);
                    let (spread, value) = (self.spread(other, output), input(self, 1 - i));
                    let mut product = dy.as_ref().clone();
                    product.par_chunks_mut(width).enumerate().for_each(|(row, d)| {
                        d.iter_mut().enumerate().for_each(|(column, d)| *d *= value[spread.at(row, column, width)]);
                    });
                    self.give_spread(slot, output, Arc::new(product));
                }
            }
            Op::Gated(gate) => {
                let (value, slope): (Numbers, Numbers) = match gate {
                    Gate::Silu => (kernels::silu, kernels::silu_slope),
                    Gate::GeluTanh => (kernels::gelu_tanh, kernels::gelu_tanh_slope),
                };
                let (x, up) = (input(self, 0), input(self, 1));
                if active(0) {
                    self.add_products(stage.inputs[0], &x, slope, &dy, Some(&up));
                }
                if active(1) {
                    self.add_products(stage.inputs[1], &x, value, &dy, None);
                }
            }
            Op::Silu => self.add_products(stage.inputs[0], &input(self, 0), kernels::silu_slope, &dy, None),
            Op::GeluTanh => self.add_products(stage.inputs[0], &input(self, 0), kernels::gelu_tanh_slope, &dy, None),
            Op::Gelu => self.slope(stage.inputs[0], &input(self, 0), &dy, slopes::gelu),
            Op::Tanh => self.slope_of_output(stage, output, &dy, |y| 1.0 - y * y),
            Op::Sigmoid => self.slope_of_output(stage, output, &dy, |y| y * (1.0 - y)),
            Op::Relu => self.slope_of_output(stage, output, &dy, |y| if y > 0.0 { 1.0 } else { 0.0 }),
            Op::Scale(factor) => {
                let factor = *factor as f32;
                let mut dx = Arc::unwrap_or_clone(dy);
                dx.par_chunks_mut(CHUNK).for_each(|dx| dx.iter_mut().for_each(|d| *d *= factor));
                return self.give(stage.inputs[0], Arc::new(dx));
            }
            Op::Softmax => {
                let y = self.values[output].clone().expect("what came out is kept");
                let rows = self.gradient(stage.inputs[0]).par_chunks_mut(width);
                let rows = rows.zip(y.par_chunks(width)).zip(dy.par_chunks(width));
                rows.for_each(|((dx, y), dy)| slopes::softmax(y, dy, dx));
            }
            Op::Dropout(rate) => {
                let Some(key) = self.chance_of(output) else { return self.give(stage.inputs[0], dy) };
                let mut dx = self.room.take(dy.len());
                drop_out(*rate, key, &dy, &mut dx);
                self.give(stage.inputs[0], Arc::new(dx));
            }
            Op::Overlay => return self.give(stage.inputs[0], dy),
            Op::Given => unreachable!("`decode` is given token ids alone"),
            Op::Concat(groups) => {
                let [a, b] = [0, 1].map(|i| network.slots[stage.inputs[i]].width / groups);
                for (i, (own, skip)) in [(a, 0), (b, a)].into_iter().enumerate().filter(|(i, _)| active(*i)) {
                    let to = self.gradient(stage.inputs[i]).chunks_exact_mut(own);
                    for (to, from) in to.zip(dy.chunks_exact(a + b)) {
                        to.iter_mut().zip(&from[skip..skip + own]).for_each(|(to, from)| *to += from);
                    }
                }
            }
            Op::Parameter(_) => {
                if let Some(p) = stage.weight {
                    parameters[p].add(&dy);
                }
            }
            Op::SelectRows => {
                let rows = &self.batch.rows;
                let to = self.gradient(stage.inputs[0]);
                for (row, from) in rows.iter().zip(dy.chunks_exact(width)) {
                    let to = &mut to[*row as usize * width..][..width];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
            Op::Route { .. } | Op::Cache(_) => unreachable!("these were done above"),
        }
        self.room.give(Some(dy));
    }

    /// Adds to the gradient of a norm's input, group by group, and gives that of its weight.
    fn norm_back(
        &mut self,
        slot: usize,
        n: usize,
        x: &[f32],
        dy: &[f32],
        slope: impl Fn(&[f32], &[f32], &mut [f32], &mut [f32]) + Sync,
    ) -> Vec<f32> {
        const GROUPS: usize = 32;
        let parts = self.gradient(slot).par_chunks_mut(n * GROUPS).zip(x.par_chunks(n * GROUPS));
        let parts = parts.zip(dy.par_chunks(n * GROUPS)).map(|((dx, x), dy)| {
            let mut d_weight = vec![0f32; n];
            for ((dx, x), dy) in dx.chunks_exact_mut(n).zip(x.chunks_exact(n)).zip(dy.chunks_exact(n)) {
                slope(x, dy, dx, &mut d_weight);
            }
            d_weight
        });
        // In order, so that the same sums come out whatever the threads do.
        let parts: Vec<Vec<f32>> = parts.collect();
        let mut all = vec![0f32; n];
        parts.iter().for_each(|part| all.iter_mut().zip(part).for_each(|(to, d)| *to += d));
        all
    }

    /// Adds f(x) dy, or f(x) dy times another value, to a gradient.
    fn add_products(&mut self, slot: usize, x: &[f32], f: Numbers, dy: &[f32], times: Option<&[f32]>) {
        let (gradient, into) = self.gradient_or_room(slot);
        let parts = gradient.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
        parts.enumerate().for_each_init(Vec::new, |made, (part, ((to, x), dy))| {
            made.resize(x.len(), 0f32);
            f(x, made);
            if let Some(times) = times {
                made.iter_mut().zip(&times[part * CHUNK..]).for_each(|(made, times)| *made *= times);
            }
            match into {
                Into::Replace => to.iter_mut().zip(made).zip(dy).for_each(|((to, made), d)| *to = d * *made),
                Into::Add => to.iter_mut().zip(made).zip(dy).for_each(|((to, made), d)| *to += d * *made),
            }
        });
    }

    fn slope(&mut self, slot: usize, at: &[f32], dy: &[f32], slope: fn(f32) -> f32) {
        let to = self.gradient(slot).par_iter_mut().zip(at).zip(dy).with_min_len(CHUNK);
        to.for_each(|((to, at), d)| *to += d * slope(*at));
    }

    fn slope_of_output(&mut self, stage: &Stage, output: usize, dy: &[f32], slope: fn(f32) -> f32) {
        let y = self.values[output].clone().expect("what came out is kept");
        self.slope(stage.inputs[0], &y, dy, slope);
    }

    /// Takes a routing out, so that gradients can be written meanwhile.
    fn lend(&mut self, by: Grouping) -> Lent {
        Lent(by.routed().map(|number| std::mem::take(&mut self.routings[number])))
    }

    fn put_back(&mut self, by: Grouping, lent: Lent) {
        if let Some((number, routing)) = by.routed().zip(lent.0) {
            self.routings[number] = routing;
        }
    }
}

/// A routing that was taken out.
struct Lent(Option<Routing>);

impl Lent {
    fn grouped(&self, tokens: usize) -> Grouped<'_> {
        self.0.as_ref().map_or(Grouped::Stretches { tokens }, Grouped::Routed)
    }
}

/// dx = dy W, or dx + dy W.
fn back_through(frozen: &Matrix, trained: Option<&[f32]>, dy: &[f32], (dx, into): (&mut [f32], Into), room: &Room) {
    let (rows, columns) = frozen.shape();
    match trained {
        _ if dy.is_empty() => {}
        Some(weight) => multiply(View::of(dy, rows), View::of(weight, columns), dx, into, Threads::All),
        None => through(frozen, dy, dx, into, room),
    }
}

/// dW = dW + dy' x.
fn add_outer(dy: &[f32], width: usize, x: &[f32], to: &mut [f32]) {
    if !dy.is_empty() {
        let columns = to.len() / width.max(1);
        multiply(View::of(dy, width).turned(), View::of(x, columns), to, Into::Add, Threads::All);
    }
}

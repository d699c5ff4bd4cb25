//! Attention without a cache, forwards and backwards, a block of queries at a time: nothing is kept between the two but what
//! came out, and shares are computed again (Dao et al., arXiv 2205.14135, algorithms 1 and 4).

use super::gemm::{Into, Threads, View, multiply};
use crate::attention::AttentionSpec;
use crate::cache::CacheSpec;
use crate::kernels;
use rayon::prelude::*;
use std::ops::Range;

/// Queries whose scores are computed at once.
const QUERIES: usize = 64;

/// Queries, keys and values of packed sequences, `[tokens, width]` each.
pub(super) struct Attention<'a> {
    pub spec: &'a AttentionSpec,
    pub cache: &'a CacheSpec,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    /// The tokens of each sequence.
    pub parts: &'a [Range<usize>],
}

/// Gradients of queries, keys and values, shaped like them.
pub(super) struct Gradients {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
}

/// The heads that share keys and values, of one sequence.
#[derive(Clone, Copy)]
struct Task {
    part: usize,
    kv: usize,
}

/// Queries of a block and the keys that any of them sees, as tokens of the sequence.
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Attention<'_> {
    fn tasks(&self) -> Vec<Task> {
        let heads = 0..self.spec.kv_heads;
        (0..self.parts.len()).flat_map(|part| heads.clone().map(move |kv| Task { part, kv })).collect()
    }

    fn group(&self) -> usize {
        self.spec.heads / self.spec.kv_heads
    }

    fn blocks(&self, tokens: usize) -> impl Iterator<Item = Block> + use<'_> {
        // Sinks lie before any window.
        let window = [self.spec.window, if self.cache.sinks == 0 { self.cache.window } else { 0 }];
        let window = window.into_iter().filter(|window| *window > 0).min().unwrap_or(usize::MAX);
        (0..tokens).step_by(QUERIES).map(move |first| {
            let end = (first + QUERIES).min(tokens);
            Block { queries: first..end, keys: (first + 1).saturating_sub(window)..end }
        })
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        let within = |window: usize| window == 0 || query - key < window;
        key <= query && within(self.spec.window) && (within(self.cache.window) || key < self.cache.sinks)
    }

    /// The columns of a head of some tokens of a sequence.
    fn head<'x>(&self, x: &'x [f32], task: Task, tokens: &Range<usize>, columns: Range<usize>) -> View<'x> {
        let part = &self.parts[task.part];
        let width = x.len() / self.parts.iter().map(ExactSizeIterator::len).sum::<usize>().max(1);
        View::of(x, width).rows(part.start + tokens.start..part.start + tokens.end).columns(columns)
    }

    fn query_columns(&self, head: usize) -> Range<usize> {
        head * self.spec.head_dim..(head + 1) * self.spec.head_dim
    }

    fn key_columns(&self, kv: usize) -> Range<usize> {
        self.query_columns(kv)
    }

    /// Values that are the first elements of keys stand as far apart as those.
    fn value_columns(&self, kv: usize) -> Range<usize> {
        let start = kv * if self.cache.values_are_keys { self.spec.head_dim } else { self.spec.value_dim };
        start..start + self.spec.value_dim
    }

    fn output_columns(&self, head: usize) -> Range<usize> {
        head * self.spec.value_dim..(head + 1) * self.spec.value_dim
    }

    /// Scores of a block, scaled and capped; of keys that a query does not see negative infinity.
    fn scores(&self, task: Task, head: usize, block: &Block, scores: &mut Vec<f32>) {
        let (queries, keys) = (block.queries.len(), block.keys.len());
        scores.resize(queries * keys, 0.0);
        let q = self.head(self.q, task, &block.queries, self.query_columns(head));
        let k = self.head(self.k, task, &block.keys, self.key_columns(task.kv));
        multiply(q, k.turned(), scores, Into::Replace, Threads::One);
        scores.iter_mut().for_each(|s| *s *= self.spec.scale);
        if let Some(cap) = self.spec.softcap {
            kernels::cap(scores, cap);
        }
        for (row, query) in scores.chunks_exact_mut(keys).zip(block.queries.clone()) {
            for (score, key) in row.iter_mut().zip(block.keys.clone()) {
                if !self.sees(query, key) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// What comes out, `[tokens, heads * value_dim]`.
    pub fn forward(&self, y: &mut [f32]) {
        let tasks = self.tasks();
        let made: Vec<Vec<f32>> = tasks.par_iter().map(|task| self.forward_task(*task)).collect();
        for (task, of) in tasks.iter().zip(made) {
            let length = self.parts[task.part].len() * self.spec.value_dim;
            for (product, of_head) in of.chunks_exact(length).enumerate() {
                self.place(of_head, *task, self.output_columns(task.kv * self.group() + product), y);
            }
        }
    }

    /// The outputs of a task's heads, `[group, tokens, value_dim]`.
    fn forward_task(&self, task: Task) -> Vec<f32> {
        let (tokens, dim) = (self.parts[task.part].len(), self.spec.value_dim);
        let mut y = vec![0f32; self.group() * tokens * dim];
        let mut shares = Vec::new();
        for product in 0..self.group() {
            let head = task.kv * self.group() + product;
            for block in self.blocks(tokens) {
                self.scores(task, head, &block, &mut shares);
                shares.chunks_exact_mut(block.keys.len()).for_each(kernels::softmax);
                let v = self.head(self.v, task, &block.keys, self.value_columns(task.kv));
                let to = &mut y[(product * tokens + block.queries.start) * dim..][..block.queries.len() * dim];
                multiply(View::of(&shares, block.keys.len()), v, to, Into::Replace, Threads::One);
            }
        }
        y
    }

    /// From the gradient of what came out; `to` is overwritten.
    pub fn backward(&self, y: &[f32], dy: &[f32], to: &mut Gradients) {
        let tasks = self.tasks();
        let made: Vec<Gradients> = tasks.par_iter().map(|task| self.backward_task(*task, y, dy)).collect();
        if self.cache.values_are_keys {
            // Values are only the first elements of keys; the others have no gradient.
            to.v.fill(0.0);
        }
        for (task, of) in tasks.iter().zip(made) {
            let tokens = self.parts[task.part].len();
            for product in 0..self.group() {
                let columns = self.query_columns(task.kv * self.group() + product);
                let from = &of.q[product * tokens * self.spec.head_dim..][..tokens * self.spec.head_dim];
                self.place(from, *task, columns, &mut to.q);
            }
            self.place(&of.k, *task, self.key_columns(task.kv), &mut to.k);
            self.place(&of.v, *task, self.value_columns(task.kv), &mut to.v);
        }
    }

    /// Puts the rows of a head where they belong.
    fn place(&self, from: &[f32], task: Task, columns: Range<usize>, to: &mut [f32]) {
        let all = self.parts.iter().map(ExactSizeIterator::len).sum::<usize>();
        let width = to.len() / all.max(1);
        for (row, token) in from.chunks_exact(columns.len()).zip(self.parts[task.part].clone()) {
            to[token * width..][columns.clone()].copy_from_slice(row);
        }
    }

    /// Gradients of a task's queries `[group, tokens, head_dim]`, and of its keys and values.
    fn backward_task(&self, task: Task, y: &[f32], dy: &[f32]) -> Gradients {
        let tokens = self.parts[task.part].len();
        let (dim, value_dim, heads) = (self.spec.head_dim, self.spec.value_dim, self.spec.heads);
        let mut of = Gradients {
            q: vec![0f32; self.group() * tokens * dim],
            k: vec![0f32; tokens * dim],
            v: vec![0f32; tokens * value_dim],
        };
        let (mut shares, mut d_scores, mut slopes) = (Vec::new(), Vec::new(), Vec::new());
        for product in 0..self.group() {
            let head = task.kv * self.group() + product;
            for block in self.blocks(tokens) {
                let keys = block.keys.len();
                self.scores(task, head, &block, &mut shares);
                slopes.clear();
                if let Some(cap) = self.spec.softcap {
                    // What a query does not see has no share, so its slope does not matter.
                    slopes.extend(shares.iter().map(|s| 1.0 - (s.max(-cap) / cap) * (s.max(-cap) / cap)));
                }
                shares.chunks_exact_mut(keys).for_each(kernels::softmax);
                d_scores.resize(shares.len(), 0.0);
                let of_head = self.head(dy, task, &block.queries, self.output_columns(head));
                let v = self.head(self.v, task, &block.keys, self.value_columns(task.kv));
                multiply(of_head, v.turned(), &mut d_scores, Into::Replace, Threads::One);
                let rows = shares.chunks_exact(keys).zip(d_scores.chunks_exact_mut(keys));
                for ((shares, gradients), query) in rows.zip(block.queries.clone()) {
                    let start = ((self.parts[task.part].start + query) * heads + head) * value_dim;
                    let own = start..start + value_dim;
                    // The sum over keys of share and its gradient is that over the output and its gradient.
                    let whole: f32 = dy[own.clone()].iter().zip(&y[own]).map(|(a, b)| a * b).sum();
                    for (share, gradient) in shares.iter().zip(gradients) {
                        *gradient = share * (*gradient - whole) * self.spec.scale;
                    }
                }
                d_scores.iter_mut().zip(&slopes).for_each(|(d, slope)| *d *= slope);
                let q = self.head(self.q, task, &block.queries, self.query_columns(head));
                let k = self.head(self.k, task, &block.keys, self.key_columns(task.kv));
                let (d, shares) = (View::of(&d_scores, keys), View::of(&shares, keys));
                let to = &mut of.q[(product * tokens + block.queries.start) * dim..][..block.queries.len() * dim];
                multiply(d, k, to, Into::Replace, Threads::One);
                let to = &mut of.k[block.keys.start * dim..block.keys.end * dim];
                multiply(d.turned(), q, to, Into::Add, Threads::One);
                let to = &mut of.v[block.keys.start * value_dim..block.keys.end * value_dim];
                multiply(shares.turned(), of_head, to, Into::Add, Threads::One);
            }
        }
        of
    }
}

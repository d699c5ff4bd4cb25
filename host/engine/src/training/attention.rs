//! Attention without a cache, forwards and backwards, a block of queries at a time: what is kept between the two is one number
//! a query and head, by which shares are computed again (Dao et al., arXiv 2205.14135, algorithms 1 and 4).

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

/// What comes out: `[tokens, heads * value_dim]`, and ln of the sum of exponentials of each query's scores,
/// `[tokens, heads]`.
pub(super) struct Attended {
    pub y: Vec<f32>,
    pub log_sums: Vec<f32>,
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

    /// All queries.
    pub fn forward(&self) -> Attended {
        let (heads, value_dim, group) = (self.spec.heads, self.spec.value_dim, self.group());
        let all = self.parts.iter().map(ExactSizeIterator::len).sum::<usize>();
        let tasks = self.tasks();
        let made: Vec<(Vec<f32>, Vec<f32>)> = tasks.par_iter().map(|task| self.forward_task(*task)).collect();
        let mut done = Attended { y: vec![0f32; all * heads * value_dim], log_sums: vec![0f32; all * heads] };
        for (task, (y, log_sums)) in tasks.iter().zip(made) {
            let part = self.parts[task.part].clone();
            for product in 0..group {
                let head = task.kv * group + product;
                let of_head = product * part.len();
                for (i, token) in part.clone().enumerate() {
                    let columns = self.output_columns(head);
                    done.y[token * heads * value_dim..][columns]
                        .copy_from_slice(&y[(of_head + i) * value_dim..][..value_dim]);
                    done.log_sums[token * heads + head] = log_sums[of_head + i];
                }
            }
        }
        done
    }

    /// The outputs of a task's heads, `[group, tokens, value_dim]`, and their log-sums.
    fn forward_task(&self, task: Task) -> (Vec<f32>, Vec<f32>) {
        let (tokens, dim) = (self.parts[task.part].len(), self.spec.value_dim);
        let mut y = vec![0f32; self.group() * tokens * dim];
        let mut log_sums = vec![0f32; self.group() * tokens];
        let mut scores = Vec::new();
        for product in 0..self.group() {
            let head = task.kv * self.group() + product;
            for block in self.blocks(tokens) {
                self.scores(task, head, &block, &mut scores);
                let at = product * tokens + block.queries.start;
                for (row, log_sum) in scores.chunks_exact_mut(block.keys.len()).zip(&mut log_sums[at..]) {
                    *log_sum = kernels::log_sum_exp(row);
                    kernels::softmax(row);
                }
                let v = self.head(self.v, task, &block.keys, self.value_columns(task.kv));
                let to = &mut y[at * dim..][..block.queries.len() * dim];
                multiply(View::of(&scores, block.keys.len()), v, to, Into::Replace, Threads::One);
            }
        }
        (y, log_sums)
    }

    /// From the gradient of what came out.
    pub fn backward(&self, done: &Attended, dy: &[f32]) -> Gradients {
        let tasks = self.tasks();
        let made: Vec<Gradients> = tasks.par_iter().map(|task| self.backward_task(*task, done, dy)).collect();
        let mut all =
            Gradients { q: vec![0f32; self.q.len()], k: vec![0f32; self.k.len()], v: vec![0f32; self.v.len()] };
        for (task, of) in tasks.iter().zip(made) {
            let tokens = self.parts[task.part].len();
            for product in 0..self.group() {
                let columns = self.query_columns(task.kv * self.group() + product);
                let from = &of.q[product * tokens * self.spec.head_dim..][..tokens * self.spec.head_dim];
                self.place(from, *task, columns, &mut all.q);
            }
            self.place(&of.k, *task, self.key_columns(task.kv), &mut all.k);
            self.place(&of.v, *task, self.value_columns(task.kv), &mut all.v);
        }
        all
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
    fn backward_task(&self, task: Task, done: &Attended, dy: &[f32]) -> Gradients {
        let tokens = self.parts[task.part].len();
        let (dim, value_dim, heads) = (self.spec.head_dim, self.spec.value_dim, self.spec.heads);
        let mut of = Gradients {
            q: vec![0f32; self.group() * tokens * dim],
            k: vec![0f32; tokens * dim],
            v: vec![0f32; tokens * value_dim],
        };
        let (mut shares, mut d_scores) = (Vec::new(), Vec::new());
        for product in 0..self.group() {
            let head = task.kv * self.group() + product;
            for block in self.blocks(tokens) {
                let keys = block.keys.len();
                self.scores(task, head, &block, &mut shares);
                d_scores.resize(shares.len(), 0.0);
                let of_head = self.head(dy, task, &block.queries, self.output_columns(head));
                let v = self.head(self.v, task, &block.keys, self.value_columns(task.kv));
                multiply(of_head, v.turned(), &mut d_scores, Into::Replace, Threads::One);
                for (i, query) in block.queries.clone().enumerate() {
                    let token = self.parts[task.part].start + query;
                    let row = |x: &[f32]| -> Range<usize> {
                        debug_assert!(x.len() > token * heads * value_dim);
                        let start = token * heads * value_dim + head * value_dim;
                        start..start + value_dim
                    };
                    // The sum over keys of share and its gradient is that over the output and its gradient.
                    let whole: f32 = dy[row(dy)].iter().zip(&done.y[row(&done.y)]).map(|(a, b)| a * b).sum();
                    let log_sum = done.log_sums[token * heads + head];
                    let scores = &mut shares[i * keys..][..keys];
                    let gradients = &mut d_scores[i * keys..][..keys];
                    for (score, gradient) in scores.iter_mut().zip(gradients) {
                        let share = (*score - log_sum).exp();
                        let inner = self.spec.softcap.filter(|_| share > 0.0);
                        let slope = inner.map_or(1.0, |cap| 1.0 - (*score / cap) * (*score / cap));
                        *gradient = share * (*gradient - whole) * slope * self.spec.scale;
                        *score = share;
                    }
                }
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

//! Attention of packed queries on each sequence's cache, on the CPU. A task is a block of queries and the heads that share
//! keys and values. Few queries go straight over the cache; many are matrix products, on the cache where it is float32 and on
//! a decoded copy of the head elsewhere.

#[cfg(target_arch = "x86_64")]
mod few;
mod selection;

use crate::batch::Batch;
use crate::cache::LayerCache;
use crate::cache::Lines;
use crate::kernels;
use crate::threads::with_scratch;
use std::ops::Range;

/// The attributes of an attention op.
#[derive(Debug, Clone)]
pub(crate) struct AttentionSpec {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Elements of a head's values.
    pub value_dim: usize,
    pub scale: f32,
    /// The model's own sliding window; 0 for none.
    pub window: usize,
    pub softcap: Option<f32>,
    /// Tokens of a page, and of how many pages a query sees the keys; none for all.
    pub pages: Option<(usize, usize)>,
}

impl AttentionSpec {
    /// That of an attention op.
    pub fn of(spec: &aehost_graph::Spec) -> Self {
        let integer = |name: &str| spec.integer(name).unwrap_or(0) as usize;
        let head_dim = integer("head-dim");
        Self {
            heads: integer("heads"),
            kv_heads: integer("kv-heads"),
            head_dim,
            value_dim: spec.integer("value-dim").map_or(head_dim, |dim| dim as usize),
            scale: spec.real("scale").unwrap_or(1.0) as f32,
            window: integer("window"),
            softcap: spec.real("softcap").filter(|cap| *cap > 0.0).map(|cap| cap as f32),
            pages: Some((integer("page"), integer("top-pages"))).filter(|(page, top)| *page > 0 && *top > 0),
        }
    }

    /// Elements of a token's queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Queries of a block at most: their scores stay in cache.
const QUERIES: usize = 64;
/// Up to this many rows a matrix product, and the copy that it needs, cost more than going over the cache.
const FEW: usize = 16;

/// Queries of one sequence that one task takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub sequence: usize,
    /// The first token, among all that are packed.
    pub first: usize,
    pub count: usize,
}

/// The blocks of packed sequences, whose tokens are `parts`.
pub(crate) fn blocks(parts: &[Range<usize>]) -> Vec<Block> {
    let of = |(sequence, part): (usize, &Range<usize>)| {
        let end = part.end;
        let block = move |first| Block { sequence, first, count: QUERIES.min(end - first) };
        part.clone().step_by(QUERIES).map(block)
    };
    parts.iter().enumerate().flat_map(of).collect()
}

/// Queries of one sequence.
pub(crate) struct Queries<'a> {
    /// `[count, heads * head_dim]`.
    pub q: &'a [f32],
    pub positions: &'a [u32],
    pub branches: &'a [u32],
    pub cache: &'a LayerCache,
}

/// Whether a query sees a key: it is not later, lies within every window (or is a sink of the cache), and on the query's
/// branch or the trunk. A key of the same position is only the query itself or on its branch.
fn visible(spec: &AttentionSpec, cache: &LayerCache, query: (u32, u32), key: (u32, u32)) -> bool {
    let (position, branch) = query;
    let (at, on) = key;
    if at > position || (on != 0 && on != branch) {
        return false;
    }
    let distance = (position - at) as usize;
    let kept = cache.spec.window == 0 || distance < cache.spec.window || (at as usize) < cache.spec.sinks;
    kept && (spec.window == 0 || distance < spec.window)
}

/// dst[m, n] = lhs[m, k] x rhs[k, n], each with its row and column stride.
///
/// # Safety
/// The pointers must be valid for those shapes and strides, and nothing else may write `dst` meanwhile.
unsafe fn multiply(
    (m, n, k): (usize, usize, usize),
    (dst, dst_row): (*mut f32, usize),
    (lhs, lhs_row): (*const f32, usize),
    (rhs, rhs_row, rhs_column): (*const f32, usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            dst_row as isize,
            false,
            lhs,
            1,
            lhs_row as isize,
            rhs,
            rhs_column as isize,
            rhs_row as isize,
            0f32,
            1f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A product of queries with keys, and of their shares with values.
struct Task {
    /// Queries and their distance in `q`.
    rows: usize,
    stride: usize,
    /// The distance of what comes out.
    out_stride: usize,
    /// Whether the queries are heads of one token, not tokens of one head.
    heads: bool,
}

/// Attention of the heads that share the keys and values of head `kv`, which are neighbours.
///
/// # Safety
/// `out` must be `[count, heads * value_dim]`, and nothing else may use those heads of it meanwhile.
pub(crate) unsafe fn attend(spec: &AttentionSpec, queries: &Queries<'_>, kv: usize, out: *mut f32) {
    let (dim, value_dim, cache) = (spec.head_dim, spec.value_dim, queries.cache);
    let width = spec.heads * dim;
    let group = spec.heads / spec.kv_heads;
    let tokens = queries.positions.len();
    assert_eq!(queries.q.len(), tokens * width, "queries are tokens x heads");
    let seen = seen(spec, queries);
    let chosen = selection::Chosen::of(spec, queries, kv);
    // While decoding the heads are the rows of one product, on the chosen pages alone; else the tokens of each head are.
    let (products, task, pages) = match tokens {
        1 => {
            let pages = chosen.as_ref().map(|chosen| chosen.rows(0, seen.end));
            (1, Task { rows: group, stride: dim, out_stride: value_dim, heads: true }, pages)
        }
        _ => (group, Task { rows: tokens, stride: width, out_stride: spec.heads * value_dim, heads: false }, None),
    };
    #[cfg(target_arch = "x86_64")]
    let few = task.rows <= FEW && few::available(dim) && few::available(value_dim);
    #[cfg(not(target_arch = "x86_64"))]
    let few = false;
    let keys = pages.as_ref().map_or(seen.len(), |pages| pages.iter().map(ExactSizeIterator::len).sum());
    let plain = cache.plain().filter(|_| pages.is_none());
    let lines = (cache.key_lines(kv, dim).zip(cache.value_lines(kv, value_dim))).filter(|_| few && pages.is_none());
    let decoded = if lines.is_some() || plain.is_some() { 0 } else { keys };
    let hide = |token: usize, scores: &mut [f32]| {
        if pages.is_none() {
            mask(spec, cache, (queries.positions[token], queries.branches[token]), seen.start, scores);
            chosen.iter().for_each(|chosen| chosen.mask(token, seen.start, scores));
        }
    };
    with_scratch(task.rows * (1 + keys) + decoded * (dim + value_dim), |scratch| {
        let (sums, scratch) = scratch.split_at_mut(task.rows);
        let (scores, decoded_both) = scratch.split_at_mut(task.rows * keys);
        let (decoded_keys, decoded_values) = decoded_both.split_at_mut(decoded * dim);
        if decoded > 0 {
            let (mut k, mut v) = (&mut *decoded_keys, &mut *decoded_values);
            for rows in pages.as_deref().unwrap_or(std::slice::from_ref(&seen)) {
                cache.read_keys(kv, dim, rows.start, k.split_off_mut(..rows.len() * dim).expect("there is room"));
                cache.read_values(
                    kv,
                    value_dim,
                    rows.start,
                    v.split_off_mut(..rows.len() * value_dim).expect("as above"),
                );
            }
        }
        for product in 0..products {
            let head = kv * group + product;
            let q = &queries.q[head * dim..];
            // SAFETY: these heads of these tokens are this task's.
            let out = unsafe { out.add(head * value_dim) };
            #[cfg(target_arch = "x86_64")]
            if few {
                let (k, v) = match lines {
                    Some((k, v)) => (k.skip_rows(seen.start), v.skip_rows(seen.start)),
                    None => (Lines::F32(decoded_keys, dim), Lines::F32(decoded_values, value_dim)),
                };
                few::scores(q, task.stride, dim, k, keys, scores);
                shares(spec, &task, &hide, scores, sums);
                // SAFETY: as above.
                unsafe {
                    few::mix(scores, v, keys, value_dim, out, task.out_stride);
                    divide(sums, value_dim, out, task.out_stride);
                }
                continue;
            }
            let ((k, k_row), (v, v_row)) = match plain {
                Some((k, v)) => {
                    let (k_row, v_row) = (cache.spec.key_width, cache.spec.value_width);
                    ((&k[seen.start * k_row + kv * dim..], k_row), (&v[seen.start * v_row + kv * value_dim..], v_row))
                }
                None => ((&*decoded_keys, dim), (&*decoded_values, value_dim)),
            };
            // SAFETY: q holds the task's rows at its stride; k and v hold all keys; the scores are rows x keys; the task
            // writes only its own heads of its own tokens.
            unsafe {
                let to = (scores.as_mut_ptr(), keys);
                multiply((task.rows, keys, dim), to, (q.as_ptr(), task.stride), (k.as_ptr(), 1, k_row));
                shares(spec, &task, &hide, scores, sums);
                let to = (out, task.out_stride);
                multiply((task.rows, value_dim, keys), to, (scores.as_ptr(), keys), (v.as_ptr(), v_row, 1));
                divide(sums, value_dim, out, task.out_stride);
            }
        }
    });
}

/// Attention that queries of some tokens give to each of all keys of head `kv`, summed over tokens and the heads that share
/// the keys.
pub(crate) fn given(spec: &AttentionSpec, queries: &Queries<'_>, kv: usize) -> Vec<f32> {
    let (dim, cache, tokens) = (spec.head_dim, queries.cache, queries.positions.len());
    let (width, group, keys) = (spec.query_width(), spec.heads / spec.kv_heads, cache.positions.len());
    let task = Task { rows: tokens, stride: width, out_stride: 0, heads: false };
    let hide = |token: usize, scores: &mut [f32]| {
        mask(spec, cache, (queries.positions[token], queries.branches[token]), 0, scores);
    };
    let mut k = vec![0f32; keys * dim];
    cache.read_keys(kv, dim, 0, &mut k);
    let (mut sums, mut scores, mut given) = (vec![0f32; tokens], vec![0f32; tokens * keys], vec![0f32; keys]);
    for head in kv * group..(kv + 1) * group {
        let q = &queries.q[(head * dim).min(queries.q.len())..];
        // SAFETY: q holds the tokens' rows at its stride, k all keys, and the scores are tokens x keys.
        unsafe {
            let to = (scores.as_mut_ptr(), keys);
            multiply((tokens, keys, dim), to, (q.as_ptr(), width), (k.as_ptr(), 1, dim));
        }
        shares(spec, &task, &hide, &mut scores, &mut sums);
        for (shares, sum) in scores.chunks_exact(keys).zip(&sums) {
            given.iter_mut().zip(shares).for_each(|(given, share)| *given += share / sum);
        }
    }
    given
}

/// The keys outside of which no query sees any; at least one, each query's own.
fn seen(spec: &AttentionSpec, queries: &Queries<'_>) -> Range<usize> {
    let (positions, kept) = (queries.positions, &queries.cache.positions);
    let newest = positions.iter().copied().max().unwrap_or(0);
    let end = kept.iter().rposition(|p| *p <= newest).map_or(0, |last| last + 1);
    // Where positions ascend, what lies before the oldest query's window is a stretch.
    let start = match (spec.window, queries.cache.branched()) {
        (0, _) | (_, true) => 0,
        (window, false) => {
            let oldest = positions.iter().copied().min().unwrap_or(0) as usize;
            kept.partition_point(|p| *p as usize + window <= oldest)
        }
    };
    start.min(end)..end
}

/// From scores to shares, which are still to be divided by their sums; `hide` takes out what a token's query does not see.
fn shares(spec: &AttentionSpec, task: &Task, hide: &dyn Fn(usize, &mut [f32]), scores: &mut [f32], sums: &mut [f32]) {
    let keys = scores.len() / task.rows.max(1);
    for ((row, scores), sum) in scores.chunks_exact_mut(keys.max(1)).enumerate().zip(sums) {
        let token = if task.heads { 0 } else { row };
        let mut scale = spec.scale;
        // A cap is on scaled scores; and what exponents are taken of must be scaled by a positive number.
        if spec.softcap.is_some() || scale <= 0.0 {
            scores.iter_mut().for_each(|s| *s *= spec.scale);
            scale = 1.0;
        }
        if let Some(cap) = spec.softcap {
            kernels::cap(scores, cap);
        }
        hide(token, scores);
        *sum = kernels::exponentials(scores, scale);
    }
}

/// Divides each row of what came out.
///
/// # Safety
/// `out` must have a row of `width` numbers for each sum, `stride` apart, which nothing else may use meanwhile.
unsafe fn divide(sums: &[f32], width: usize, out: *mut f32, stride: usize) {
    for (row, sum) in sums.iter().enumerate() {
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * stride), width) };
        out.iter_mut().for_each(|o| *o /= sum);
    }
}

/// Takes out what one query does not see.
fn mask(spec: &AttentionSpec, cache: &LayerCache, query: (u32, u32), first: usize, row: &mut [f32]) {
    if spec.window == 0 && cache.spec.window == 0 && !cache.branched() {
        // Positions ascend: what is later is the end of the row.
        let seen = cache.positions[first..first + row.len()].partition_point(|p| *p <= query.0);
        row[seen..].fill(f32::NEG_INFINITY);
        return;
    }
    for ((s, position), branch) in row.iter_mut().zip(&cache.positions[first..]).zip(&cache.branches[first..]) {
        if !visible(spec, cache, query, (*position, *branch)) {
            *s = f32::NEG_INFINITY;
        }
    }
}

/// Attention of all sequences, a cache each; `q` is `[tokens, heads * head_dim]`, `out` `[tokens, heads * value_dim]`.
pub(crate) fn attention(spec: &AttentionSpec, q: &[f32], batch: &Batch, caches: &[&LayerCache], out: &mut [f32]) {
    let (width, out_width) = (spec.heads * spec.head_dim, spec.heads * spec.value_dim);
    let tokens = batch.tokens.len();
    assert!(q.len() == tokens * width && out.len() == tokens * out_width, "queries and output are tokens x heads");
    for block in blocks(&batch.parts) {
        let queries = Queries::of(batch, block, q, width, caches[block.sequence]);
        for kv in 0..spec.kv_heads {
            // SAFETY: the output was measured, and nobody else has it.
            unsafe { attend(spec, &queries, kv, out.as_mut_ptr().add(block.first * out_width)) };
        }
    }
}

impl<'a> Queries<'a> {
    /// The queries of a block; `q` is `[all tokens, width]`.
    pub fn of(batch: &'a Batch, block: Block, q: &'a [f32], width: usize, cache: &'a LayerCache) -> Self {
        let tokens = block.first..block.first + block.count;
        Self {
            q: &q[tokens.start * width..tokens.end * width],
            positions: &batch.positions[tokens.clone()],
            branches: &batch.branches[tokens],
            cache,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, CacheSpec, CacheType};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The definition, token by token and head by head.
    fn attention_plain(spec: &AttentionSpec, batch: &Batch, q: &[f32], cache: &LayerCache, out: &mut [f32]) {
        let (dim, value_dim, width) = (spec.head_dim, spec.value_dim, spec.heads * spec.head_dim);
        let keys = cache.positions.len();
        for (t, (position, branch)) in batch.positions.iter().zip(&batch.branches).enumerate() {
            for head in 0..spec.heads {
                let kv = head / (spec.heads / spec.kv_heads);
                let (mut k, mut v) = (vec![0f32; keys * dim], vec![0f32; keys * value_dim]);
                cache.read_keys(kv, dim, 0, &mut k);
                cache.read_values(kv, value_dim, 0, &mut v);
                let at = t * width + head * dim;
                let out = &mut out[(t * spec.heads + head) * value_dim..][..value_dim];
                let chosen = spec.pages.map(|pages| plain_pages(spec, pages, (q, t), *position, &k, kv));
                let seen: Vec<usize> = (0..keys)
                    .filter(|j| visible(spec, cache, (*position, *branch), (cache.positions[*j], cache.branches[*j])))
                    .filter(|j| chosen.as_ref().is_none_or(|(page, chosen)| chosen.contains(&(j / page))))
                    .collect();
                let mut scores: Vec<f32> = seen
                    .iter()
                    .map(|j| {
                        let x = crate::kernels::dot_plain(&q[at..at + dim], &k[j * dim..(j + 1) * dim]) * spec.scale;
                        spec.softcap.map_or(x, |cap| (x / cap).tanh() * cap)
                    })
                    .collect();
                crate::kernels::softmax_plain(&mut scores);
                for (d, out) in out.iter_mut().enumerate() {
                    *out = seen.iter().zip(&scores).map(|(j, p)| p * v[j * value_dim + d]).sum();
                }
            }
        }
    }

    /// The definition of the pages that a token sees: its own, and those with the largest bounds.
    fn plain_pages(
        spec: &AttentionSpec,
        (page, top): (usize, usize),
        (q, token): (&[f32], usize),
        position: u32,
        keys: &[f32],
        kv: usize,
    ) -> (usize, Vec<usize>) {
        let (own, dim, group) = (position as usize / page, spec.head_dim, spec.heads / spec.kv_heads);
        let bound = |at: usize, head: usize| {
            let q = &q[token * spec.query_width() + head * dim..][..dim];
            let of_channel = |d: usize| {
                let products = keys.chunks_exact(dim).skip(at * page).take(page).map(|k| k[d] * q[d] * spec.scale);
                products.fold(f32::NEG_INFINITY, f32::max)
            };
            (0..dim).map(of_channel).sum::<f32>()
        };
        let mut sums = vec![0f32; own];
        for head in kv * group..(kv + 1) * group {
            let mut bounds: Vec<f32> = (0..own).map(|at| bound(at, head)).collect();
            crate::kernels::softmax_plain(&mut bounds);
            sums.iter_mut().zip(bounds).for_each(|(sum, share)| *sum += share);
        }
        let mut order: Vec<usize> = (0..own).collect();
        order.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]).then(a.cmp(b)));
        order.truncate(top - 1);
        order.push(own);
        (page, order)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(240))]
        #[test]
        fn fast_attention_equals_its_definition(
            kv_heads in 1usize..4, group in 1usize..8, tokens in prop_oneof![Just(1usize), 2usize..20, 20usize..100],
            past in 0usize..40, window in 0usize..12, own_window in prop_oneof![Just(0usize), 1usize..40], sinks in 0usize..3, dtype in 0usize..6, capped in any::<bool>(), branched in any::<bool>(), seed in any::<u32>(),
            form in 0usize..3, page in prop_oneof![Just(0usize), 1usize..6], top in 1usize..5,
        ) {
            // Pages go with no window, with no branches, and with bounds of keys as they were when they came.
            let page = if branched || dtype > 2 { 0 } else { page };
            let (window, own_window) = if page == 0 { (window, own_window) } else { (0, 0) };
            // Values as wide as keys, wider, or the first elements of one head's keys.
            let (dim, value_dim) = [(32, 32), (32, 64), (96, 64)][form];
            let values_are_keys = form == 2;
            let kv_heads = if values_are_keys { 1 } else { kv_heads };
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; (state >> 8) as f32 / (1 << 23) as f32 - 1.0 };
            let dtype = [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Affine(8), CacheType::Affine(4), CacheType::Affine(2)][dtype];
            let width = kv_heads * dim;
            let value_width = if values_are_keys { width } else { kv_heads * value_dim };
            let specs = [Arc::new(CacheSpec { dtype, window, sinks, key_width: width, value_width, values_are_keys, interval: 0, eviction: None, page, passing: false })];
            let mut cache = Cache::new(&specs);
            let layer = &mut cache.layers[0];
            let total = past + tokens;
            let rows: Vec<f32> = (0..total * width).map(|_| next()).collect();
            let values: Vec<f32> = (0..total * value_width).map(|_| next()).collect();
            let mut positions: Vec<u32> = (0..total as u32).collect();
            let mut branches = vec![0u32; total];
            if branched && tokens > 2 {
                // Two branches that both continue the trunk.
                let half = past + tokens / 2;
                for i in past..total {
                    branches[i] = if i < half { 1 } else { 2 };
                    positions[i] = (past + if i < half { i - past } else { i - half }) as u32;
                }
            }
            for (from, to) in [(0, past), (past, total)] {
                layer.append(&rows[from * width..to * width], &values[from * value_width..to * value_width], &positions[from..to], &branches[from..to]);
                if from == 0 {
                    layer.settle();
                }
            }
            let spec = AttentionSpec { heads: kv_heads * group, kv_heads, head_dim: dim, value_dim, scale: 0.2, window: own_window, softcap: capped.then_some(5.0), pages: (page > 0).then_some((page, top)) };
            let q: Vec<f32> = (0..tokens * spec.heads * dim).map(|_| next()).collect();
            let batch = Batch {
                tokens: vec![0; tokens],
                positions: positions[past..].to_vec(),
                branches: branches[past..].to_vec(),
                parts: std::iter::once(0..tokens).collect(),
                rows: vec![],
                ..Batch::default()
            };
            let mut fast = vec![0f32; tokens * spec.heads * value_dim];
            let mut plain = fast.clone();
            attention(&spec, &q, &batch, &[layer], &mut fast);
            attention_plain(&spec, &batch, &q, layer, &mut plain);
            for (a, b) in fast.iter().zip(&plain) {
                prop_assert!((a - b).abs() < 1e-4, "{a} is not {b}");
            }
        }
    }
}

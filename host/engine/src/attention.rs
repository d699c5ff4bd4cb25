//! Attention of packed queries on each sequence's cache, on the CPU: one task for each head (or group of heads while
//! decoding), with scores as matrix products straight on the cache where it is float32 and on a decoded copy of the head
//! elsewhere.

use crate::cache::LayerCache;
use crate::kernels::softmax;
use crate::stored::{SendPointer, with_scratch};
use rayon::prelude::*;

/// The attributes of an attention op.
#[derive(Debug, Clone)]
pub(crate) struct AttentionSpec {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    /// The model's own sliding window; 0 for none.
    pub window: usize,
    pub softcap: Option<f32>,
}

/// The queries of one sequence: `count` tokens from row `first` of the packed values, with positions and branches.
pub(crate) struct Queries<'a> {
    pub first: usize,
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
unsafe fn product(
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

/// Attention of all sequences; `q` and `out` are `[tokens, heads * head_dim]`.
pub(crate) fn attention(spec: &AttentionSpec, q: &[f32], sequences: &[Queries<'_>], out: &mut [f32]) {
    let dim = spec.head_dim;
    let width = spec.heads * dim;
    let group = spec.heads / spec.kv_heads;
    let end = |s: &Queries<'_>| (s.first + s.positions.len()) * width;
    assert!(sequences.iter().all(|s| end(s) <= q.len() && end(s) <= out.len()), "queries lie inside the packed values");
    let mut tasks = Vec::new();
    for sequence in sequences {
        if sequence.positions.len() == 1 {
            // Decoding: the heads of a group are rows of one product.
            tasks.extend((0..spec.kv_heads).map(|kv| (sequence, kv * group, group)));
        } else {
            tasks.extend((0..spec.heads).map(|head| (sequence, head, 1)));
        }
    }
    let out = SendPointer(out.as_mut_ptr());
    tasks.into_par_iter().for_each(|(sequence, head, heads)| {
        let cache = sequence.cache;
        let (tokens, keys) = (sequence.positions.len(), cache.positions.len());
        // Rows of the product: tokens of one head, or heads of one token.
        let (rows, stride) = if heads > 1 { (heads, dim) } else { (tokens, width) };
        let at = sequence.first * width + head * dim;
        let kv = head / group;
        let plain = cache.plain();
        let decoded = if plain.is_some() { 0 } else { keys * dim };
        with_scratch(rows * keys + decoded, |scratch| {
            let (scores, decoded) = scratch.split_at_mut(rows * keys);
            let (k, k_row) = match plain {
                Some((k, _)) => (k[kv * dim..].as_ptr(), cache.spec.key_width),
                None => {
                    cache.read_keys(kv, dim, decoded);
                    (decoded.as_ptr(), dim)
                }
            };
            // SAFETY: q holds `rows` rows of `dim` at `stride` from `at`; k holds `keys` rows; scores is rows x keys.
            unsafe {
                product((rows, keys, dim), (scores.as_mut_ptr(), keys), (q.as_ptr().add(at), stride), (k, 1, k_row));
            }
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let token = if heads > 1 { 0 } else { row };
                let query = (sequence.positions[token], sequence.branches[token]);
                let places = cache.positions.iter().zip(&cache.branches);
                for (s, (position, branch)) in scores.iter_mut().zip(places) {
                    *s *= spec.scale;
                    if let Some(cap) = spec.softcap {
                        *s = (*s / cap).tanh() * cap;
                    }
                    if !visible(spec, cache, query, (*position, *branch)) {
                        *s = f32::NEG_INFINITY;
                    }
                }
                softmax(scores);
            }
            let (v, v_row) = match plain {
                Some((_, v)) => (v[kv * dim..].as_ptr(), cache.spec.value_width),
                None => {
                    cache.read_values(kv, dim, decoded);
                    (decoded.as_ptr(), dim)
                }
            };
            // SAFETY: as above; each task writes only its own heads of its own tokens.
            unsafe {
                product((rows, dim, keys), (out.get().add(at), stride), (scores.as_ptr(), keys), (v, v_row, 1));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, CacheSpec, CacheType};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The definition, token by token and head by head.
    fn attention_plain(spec: &AttentionSpec, q: &[f32], sequences: &[Queries<'_>], out: &mut [f32]) {
        let (dim, width) = (spec.head_dim, spec.heads * spec.head_dim);
        for s in sequences {
            let keys = s.cache.positions.len();
            for (t, (position, branch)) in s.positions.iter().zip(s.branches).enumerate() {
                for head in 0..spec.heads {
                    let kv = head / (spec.heads / spec.kv_heads);
                    let (mut k, mut v) = (vec![0f32; keys * dim], vec![0f32; keys * dim]);
                    s.cache.read_keys(kv, dim, &mut k);
                    s.cache.read_values(kv, dim, &mut v);
                    let at = (s.first + t) * width + head * dim;
                    let seen: Vec<usize> = (0..keys)
                        .filter(|j| {
                            visible(spec, s.cache, (*position, *branch), (s.cache.positions[*j], s.cache.branches[*j]))
                        })
                        .collect();
                    let mut scores: Vec<f32> = seen
                        .iter()
                        .map(|j| {
                            let x =
                                crate::kernels::dot_plain(&q[at..at + dim], &k[j * dim..(j + 1) * dim]) * spec.scale;
                            spec.softcap.map_or(x, |cap| (x / cap).tanh() * cap)
                        })
                        .collect();
                    crate::kernels::softmax_plain(&mut scores);
                    for d in 0..dim {
                        out[at + d] = seen.iter().zip(&scores).map(|(j, p)| p * v[j * dim + d]).sum();
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn fast_attention_equals_its_definition(
            kv_heads in 1usize..4, group in 1usize..4, tokens in 1usize..20, past in 0usize..40,
            window in 0usize..12, sinks in 0usize..3, dtype in 0usize..3, capped in any::<bool>(), branched in any::<bool>(), seed in any::<u32>(),
        ) {
            let dim = 32;
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; (state >> 8) as f32 / (1 << 23) as f32 - 1.0 };
            let dtype = [CacheType::F32, CacheType::F16, CacheType::Q8_0][dtype];
            let width = kv_heads * dim;
            let specs = [Arc::new(CacheSpec { dtype, window, sinks, key_width: width, value_width: width })];
            let mut cache = Cache::new(&specs);
            let layer = &mut cache.layers[0];
            let total = past + tokens;
            let rows: Vec<f32> = (0..total * width).map(|_| next()).collect();
            let values: Vec<f32> = (0..total * width).map(|_| next()).collect();
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
                layer.append(&rows[from * width..to * width], &values[from * width..to * width], &positions[from..to], &branches[from..to]);
            }
            let spec = AttentionSpec { heads: kv_heads * group, kv_heads, head_dim: dim, scale: 0.2, window: 0, softcap: capped.then_some(5.0) };
            let q: Vec<f32> = (0..tokens * spec.heads * dim).map(|_| next()).collect();
            let queries = [Queries { first: 0, positions: &positions[past..], branches: &branches[past..], cache: layer }];
            let (mut fast, mut plain) = (vec![0f32; q.len()], vec![0f32; q.len()]);
            attention(&spec, &q, &queries, &mut fast);
            attention_plain(&spec, &q, &queries, &mut plain);
            for (a, b) in fast.iter().zip(&plain) {
                prop_assert!((a - b).abs() < 1e-4, "{a} is not {b}");
            }
        }
    }
}

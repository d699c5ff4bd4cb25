//! Which tokens a cache lets go in the light of the attention that they got: each head that has keys of its own keeps its own.

use super::LayerCache;
use super::spec::Judged;
use crate::attention::{self, Queries};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Neighbours on either side whose attention counts for a key, so that what is kept hangs together (SnapKV, section 4.2).
const NEIGHBOURS: usize = 3;

impl LayerCache {
    /// Takes note of a step's queries, `[tokens, heads * head_dim]`, which the cache is judged by when it settles.
    pub fn observe(&mut self, queries: &[f32]) {
        let Some(eviction) = &self.spec.eviction else { return };
        let most = eviction.queries(self.spec.interval).0 * eviction.attention.query_width();
        self.queries.extend(queries.iter().map(|x| f16::from_f32(*x)));
        self.queries.drain(..self.queries.len().saturating_sub(most));
    }

    /// Lets go what got the least attention, but not the newest tokens.
    pub(super) fn evict_by_attention(&mut self) {
        let spec = self.spec.clone();
        let Some(eviction) = &spec.eviction else { return };
        debug_assert!(!self.branched, "branches end before a cache settles");
        let (heads, keys) = (eviction.attention.kv_heads, self.positions.len());
        if keys == 0 {
            return;
        }
        let before = self.received.len() / heads;
        let given = self.given(&eviction.attention, eviction.queries(spec.interval).1);
        let mut received = vec![0f32; heads * keys];
        for (head, received) in received.chunks_exact_mut(keys).enumerate() {
            if eviction.by == Judged::Accumulated {
                received[..before].copy_from_slice(&self.received[head * before..(head + 1) * before]);
            }
            received.iter_mut().zip(&given[head * keys..]).for_each(|(sum, given)| *sum += given);
        }
        self.queries.clear();
        self.received.clear();
        if keys > eviction.keep {
            let kept: Vec<Vec<u32>> = received
                .chunks_exact(keys)
                .map(|received| match eviction.by {
                    Judged::Accumulated => choose(received, eviction.keep, eviction.newest),
                    Judged::Latest => choose(&pooled(received), eviction.keep, eviction.newest),
                })
                .collect();
            if eviction.by == Judged::Accumulated {
                let of = |(received, kept): (&[f32], &Vec<u32>)| -> Vec<f32> {
                    kept.iter().map(|at| received[*at as usize]).collect()
                };
                self.received = received.chunks_exact(keys).zip(&kept).flat_map(of).collect();
            }
            self.keys.gather(spec.key_width, spec.key_width / heads, &kept);
            if !spec.values_are_keys {
                self.values.gather(spec.value_width, spec.value_width / heads, &kept);
            }
            // Heads keep different tokens: all that later queries ask of positions is that they are earlier.
            self.positions = kept[0].iter().map(|at| self.positions[*at as usize]).collect();
            self.branches.truncate(self.positions.len());
        } else if eviction.by == Judged::Accumulated {
            self.received = received;
        }
    }

    /// Attention that the last queries, at most so many, give to each key: `[kv_heads, keys]`.
    fn given(&self, attention: &attention::AttentionSpec, tokens: usize) -> Vec<f32> {
        let keys = self.positions.len();
        let width = attention.query_width();
        let tokens = tokens.min(self.queries.len() / width);
        let mut q = vec![0f32; tokens * width];
        self.queries[self.queries.len() - q.len()..].convert_to_f32_slice(&mut q);
        let queries = Queries {
            q: &q,
            positions: &self.positions[keys - tokens..],
            branches: &self.branches[keys - tokens..],
            cache: self,
        };
        (0..attention.kv_heads).flat_map(|kv| attention::given(attention, &queries, kv)).collect()
    }
}

/// The largest of each key's neighbourhood.
fn pooled(received: &[f32]) -> Vec<f32> {
    let around = |at: usize| &received[at.saturating_sub(NEIGHBOURS)..received.len().min(at + NEIGHBOURS + 1)];
    (0..received.len()).map(|at| around(at).iter().copied().fold(0.0, f32::max)).collect()
}

/// The newest keys, and of the others those that got the most, `keep` in all; ascending. The older of two equal ones goes.
fn choose(received: &[f32], keep: usize, newest: usize) -> Vec<u32> {
    let old = received.len() - newest.min(keep);
    let mut judged: Vec<u32> = (0..old as u32).collect();
    judged.sort_unstable_by(|a, b| received[*b as usize].total_cmp(&received[*a as usize]).then(b.cmp(a)));
    judged.truncate(keep - newest.min(keep));
    judged.sort_unstable();
    judged.extend(old as u32..received.len() as u32);
    judged
}

#[cfg(test)]
mod tests {
    use super::super::{Cache, CacheSpec, CacheType, spec::Eviction};
    use super::*;
    use crate::attention::AttentionSpec;
    use std::sync::Arc;

    #[test]
    fn the_newest_stay_and_of_the_others_those_with_the_most() {
        assert_eq!(choose(&[0.5, 0.1, 0.9, 0.2, 0.3, 0.0], 4, 2), [0, 2, 4, 5]);
        assert_eq!(choose(&[0.5, 0.5, 0.5, 0.0], 2, 1), [2, 3]);
        assert_eq!(
            pooled(&[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5]),
            [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
        );
    }

    /// Two heads that share keys of one element, step by step, against the definition.
    #[test]
    fn attention_that_keys_got_is_summed_over_queries_and_heads() {
        for by in [Judged::Accumulated, Judged::Latest] {
            let attention = AttentionSpec {
                heads: 2,
                kv_heads: 1,
                head_dim: 1,
                value_dim: 1,
                scale: 1.0,
                window: 0,
                softcap: None,
                pages: None,
            };
            let spec = CacheSpec {
                dtype: CacheType::F32,
                window: 0,
                sinks: 0,
                key_width: 1,
                value_width: 1,
                values_are_keys: false,
                interval: 64,
                eviction: Some(Eviction { keep: 16, newest: 8, by, attention }),
                page: 0,
                passing: false,
            };
            let mut cache = Cache::new(&[Arc::new(spec)]);
            let layer = &mut cache.layers[0];
            let key = |p: u32| ((p * 37 % 101) as f32 / 50.0) - 1.0;
            let query = |p: u32, head: u32| ((p * 53 + head * 17) % 29) as f32 / 16.0 - 0.75;
            // What is kept, and what each of it got.
            let mut kept: Vec<(u32, f64)> = vec![];
            let mut latest: Vec<u32> = vec![];
            for p in 0..200u32 {
                if p > 0 && p % 64 == 0 {
                    if by == Judged::Latest {
                        kept.iter_mut().for_each(|(_, sum)| *sum = 0.0);
                        latest.drain(..latest.len().saturating_sub(32));
                    }
                    for q in latest.drain(..) {
                        for head in 0..2 {
                            let weight = |k: u32| f64::from(query(q, head) * key(k)).exp();
                            let seen = |k: u32| if k <= q { weight(k) } else { 0.0 };
                            let total: f64 = kept.iter().map(|(k, _)| seen(*k)).sum();
                            kept.iter_mut().for_each(|(k, sum)| *sum += seen(*k) / total);
                        }
                    }
                    let got = kept.clone();
                    let sum = |at: usize| match by {
                        Judged::Accumulated => got[at].1,
                        Judged::Latest => {
                            got[at.saturating_sub(3)..got.len().min(at + 4)].iter().map(|(_, s)| *s).fold(0.0, f64::max)
                        }
                    };
                    let mut order: Vec<usize> = (0..got.len() - 8).collect();
                    order.sort_by(|a, b| sum(*b).total_cmp(&sum(*a)).then(b.cmp(a)));
                    order.truncate(8);
                    order.sort_unstable();
                    kept = order.into_iter().chain(got.len() - 8..got.len()).map(|at| got[at]).collect();
                }
                kept.push((p, 0.0));
                latest.push(p);
                layer.append(&[key(p)], &[p as f32], &[p], &[0]);
                layer.observe(&[query(p, 0), query(p, 1)]);
                let mut values = vec![0f32; kept.len()];
                layer.read_values(0, 1, 0, &mut values);
                let wanted: Vec<f32> = kept.iter().map(|(k, _)| *k as f32).collect();
                assert_eq!(values, wanted, "{by:?} after token {p}");
            }
        }
    }
}

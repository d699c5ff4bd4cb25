//! The keys and values of one sequence, layer by layer, in the dtype and with the window that the graph's cache ops ask
//! for. What a query may see of a window is decided by positions alone, so evicting early or late changes memory and never
//! results. What a cache does in the light of its content, it does when it settles: before every token whose position is a
//! multiple of its interval, which no step crosses, so that steps of any size give the same.

mod eviction;
mod grouped;
mod pages;
mod rows;
mod spec;

use half::f16;
pub(crate) use pages::Pages;
use rows::Buffer;
pub(crate) use rows::{BLOCK, Lines};
pub(crate) use spec::{CacheSpec, CacheType};
use std::sync::Arc;

/// Slack of a windowed cache, in tokens: evicting one by one would move the cache at every step.
pub(crate) const EVICTION_SLACK: usize = 64;

/// One cache op's content for one sequence.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    pub spec: Arc<CacheSpec>,
    pub positions: Vec<u32>,
    /// Branch of each token: 0 is the trunk, which all see; others see only themselves and the trunk.
    pub branches: Vec<u32>,
    branched: bool,
    keys: Buffer,
    values: Buffer,
    /// Queries since the cache settled, `[tokens, heads * head_dim]`, where it evicts by them: the last so many.
    queries: Vec<f16>,
    /// Attention that keys got before, `[kv_heads, rows when it settled]`.
    received: Vec<f32>,
    pages: Pages,
}

impl LayerCache {
    fn new(spec: Arc<CacheSpec>) -> Self {
        let (keys, values) = (Buffer::new(spec.dtype, true), Buffer::new(spec.dtype, false));
        let (positions, branches, queries, received) = Default::default();
        let pages = Pages::new(spec.page);
        Self { spec, positions, branches, branched: false, keys, values, queries, received, pages }
    }

    pub fn append(&mut self, keys: &[f32], values: &[f32], positions: &[u32], branches: &[u32]) {
        if self.spec.passing {
            self.forget(self.positions.len());
        }
        if let Some(first) = positions.first().map(|p| *p as usize) {
            if self.spec.interval > 0 && first.is_multiple_of(self.spec.interval) {
                self.settle();
            }
            self.evict(first as u32);
        }
        self.keys.append(keys);
        if !self.spec.values_are_keys {
            self.values.append(values);
        }
        self.positions.extend_from_slice(positions);
        self.branches.extend_from_slice(branches);
        self.branched |= branches.iter().any(|b| *b != 0);
        self.pages.update(&self.keys, self.spec.key_width, self.positions.len());
    }

    /// Lets the tokens go that got the least attention, and puts the others in the form in which they stay.
    pub(crate) fn settle(&mut self) {
        self.evict_by_attention();
        self.keys.settle(self.spec.key_width);
        if !self.spec.values_are_keys {
            self.values.settle(self.spec.value_width);
        }
    }

    /// The last `tokens` tokens were not wanted.
    fn forget(&mut self, tokens: usize) {
        self.keys.drop_last(self.spec.key_width, tokens);
        if !self.spec.values_are_keys {
            self.values.drop_last(self.spec.value_width, tokens);
        }
        let kept = self.positions.len() - tokens;
        self.positions.truncate(kept);
        self.branches.truncate(kept);
        if let Some(eviction) = &self.spec.eviction {
            self.queries.truncate(self.queries.len() - tokens * eviction.attention.query_width());
        }
        self.pages.shrink(&self.keys, self.spec.key_width, kept);
    }

    /// Drops what no query from position `next` on can see, once it is worth moving the rest.
    fn evict(&mut self, next: u32) {
        let (window, sinks) = (self.spec.window as u32, self.spec.sinks as u32);
        if window == 0 {
            return;
        }
        let mut keep: Vec<bool> = self.positions.iter().map(|p| *p < sinks || next - p.min(&next) < window).collect();
        self.keys.whole_groups(&mut keep);
        if keep.iter().filter(|k| !**k).count() < EVICTION_SLACK {
            return;
        }
        self.keys.retain(self.spec.key_width, &keep);
        if !self.spec.values_are_keys {
            self.values.retain(self.spec.value_width, &keep);
        }
        let mut kept = keep.iter();
        self.positions.retain(|_| *kept.next().expect("one flag a token"));
        let mut kept = keep.iter();
        self.branches.retain(|_| *kept.next().expect("one flag a token"));
    }

    /// Whether any token is off the trunk; if none is, positions ascend.
    pub fn branched(&self) -> bool {
        self.branched
    }

    /// All float32 rows where they are stored so, and their width.
    pub fn plain(&self) -> Option<(&[f32], &[f32])> {
        match (&self.keys, self.values()) {
            (Buffer::F32(k), Buffer::F32(v)) => Some((k, v)),
            _ => None,
        }
    }

    /// The bounds of its pages.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The keys of one head of `dim` elements, as they are kept; none where they must be read.
    pub fn key_lines(&self, head: usize, dim: usize) -> Option<Lines<'_>> {
        self.keys.lines(self.spec.key_width, head * dim)
    }

    /// The values of one head of `dim` elements, as they are kept; none where they must be read.
    pub fn value_lines(&self, head: usize, dim: usize) -> Option<Lines<'_>> {
        self.values().lines(self.spec.value_width, head * dim)
    }

    /// The keys of one head from row `first` on, as many as `out`, `[tokens, dim]`, has.
    pub fn read_keys(&self, head: usize, dim: usize, first: usize, out: &mut [f32]) {
        self.keys.read(self.spec.key_width, head * dim, dim, first, out);
    }

    /// The values of one head from row `first` on, as many as `out`, `[tokens, dim]`, has.
    pub fn read_values(&self, head: usize, dim: usize, first: usize, out: &mut [f32]) {
        self.values().read(self.spec.value_width, head * dim, dim, first, out);
    }

    fn bytes(&self) -> u64 {
        let judging = 2 * self.queries.len() + 4 * self.received.len() + self.pages.bytes();
        self.keys.bytes() + self.values.bytes() + judging as u64
    }

    fn values(&self) -> &Buffer {
        if self.spec.values_are_keys { &self.keys } else { &self.values }
    }
}

/// The caches of one sequence.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// Tokens that went through, evicted ones included.
    pub(crate) seen: usize,
}

impl Cache {
    pub(crate) fn new(specs: &[Arc<CacheSpec>]) -> Self {
        Self { layers: specs.iter().cloned().map(LayerCache::new).collect(), seen: 0 }
    }

    /// Makes room for that many tokens in all, so that no step has to grow the buffers.
    pub fn reserve(&mut self, tokens: usize) {
        for layer in &mut self.layers {
            let spec = &layer.spec;
            let kept = spec.kept(tokens, 0);
            layer.keys.reserve(spec.key_width, kept, spec.interval);
            if !spec.values_are_keys {
                layer.values.reserve(spec.value_width, kept, spec.interval);
            }
        }
    }

    /// Takes back the last tokens of the last step, which turned out not to be wanted.
    pub(crate) fn forget(&mut self, tokens: usize) {
        self.layers.iter_mut().for_each(|layer| layer.forget(tokens));
        self.seen -= tokens;
    }

    /// Tokens that went through.
    pub fn tokens(&self) -> usize {
        self.seen
    }

    /// Bytes of keys and values now, and of what judges them.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(LayerCache::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dtype: CacheType, window: usize, sinks: usize) -> LayerCache {
        LayerCache::new(Arc::new(CacheSpec {
            dtype,
            window,
            sinks,
            key_width: 32,
            value_width: 32,
            values_are_keys: false,
            interval: 0,
            eviction: None,
            page: 0,
            passing: false,
        }))
    }

    #[test]
    fn eviction_keeps_sinks_and_window() {
        let mut cache = cache(CacheType::F32, 16, 2);
        for position in 0..200u32 {
            let row = [position as f32; 32];
            cache.append(&row, &row, &[position], &[0]);
        }
        assert!(cache.positions.len() <= 2 + 16 + EVICTION_SLACK + 1, "{} kept", cache.positions.len());
        assert_eq!(&cache.positions[..2], &[0, 1]);
        let newest: Vec<u32> = (184..200).collect();
        assert_eq!(&cache.positions[cache.positions.len() - 16..], newest);
        let mut keys = vec![0f32; cache.positions.len() * 32];
        cache.read_keys(0, 32, 0, &mut keys);
        for (row, position) in keys.chunks_exact(32).zip(&cache.positions) {
            assert_eq!(row[0], *position as f32, "rows move with their positions");
        }
    }

    #[test]
    fn narrow_types_keep_what_they_promise() {
        let row: Vec<f32> = (0..32).map(|i| (i as f32 - 15.5) / 7.0).collect();
        for (dtype, tolerance) in [(CacheType::F32, 0.0), (CacheType::F16, 2e-3), (CacheType::Q8_0, 1e-2)] {
            let mut cache = cache(dtype, 0, 0);
            cache.append(&row, &row, &[0], &[0]);
            let mut back = vec![0f32; 32];
            cache.read_values(0, 32, 0, &mut back);
            for (a, b) in row.iter().zip(&back) {
                assert!((a - b).abs() <= tolerance, "{dtype:?}: {a} came back as {b}");
            }
        }
    }
}

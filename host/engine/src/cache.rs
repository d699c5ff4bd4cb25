//! The keys and values of one sequence, layer by layer, in the dtype and with the window that the graph's cache ops ask
//! for. What a query may see is decided by positions alone, so evicting early or late changes memory and never results.

use crate::variant::EVICTION_SLACK;
use half::f16;
use std::sync::Arc;

/// A key or value block of q8_0: 32 codes that share one float16 scale.
pub(crate) const Q8_BLOCK: usize = 32;

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheType {
    F32,
    F16,
    Q8_0,
}

impl CacheType {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "float32" => Some(CacheType::F32),
            "float16" => Some(CacheType::F16),
            "q8_0" => Some(CacheType::Q8_0),
            _ => None,
        }
    }
}

/// What one cache op keeps.
#[derive(Debug, Clone)]
pub(crate) struct CacheSpec {
    pub dtype: CacheType,
    /// Newest tokens that a query sees; 0 for all.
    pub window: usize,
    /// First tokens that every query sees.
    pub sinks: usize,
    pub key_width: usize,
    pub value_width: usize,
    /// Values are the same rows as keys, and kept once.
    pub values_are_keys: bool,
}

/// Rows of numbers in one of the cache's types.
#[derive(Debug, Clone)]
enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8 { codes: Vec<i8>, scales: Vec<f16> },
}

impl Buffer {
    fn new(dtype: CacheType) -> Self {
        match dtype {
            CacheType::F32 => Buffer::F32(Vec::new()),
            CacheType::F16 => Buffer::F16(Vec::new()),
            CacheType::Q8_0 => Buffer::Q8 { codes: Vec::new(), scales: Vec::new() },
        }
    }

    fn reserve(&mut self, elements: usize) {
        match self {
            Buffer::F32(v) => v.reserve_exact(elements),
            Buffer::F16(v) => v.reserve_exact(elements),
            Buffer::Q8 { codes, scales } => {
                codes.reserve_exact(elements);
                scales.reserve_exact(elements / Q8_BLOCK);
            }
        }
    }

    fn append(&mut self, rows: &[f32]) {
        match self {
            Buffer::F32(v) => v.extend_from_slice(rows),
            Buffer::F16(v) => v.extend(rows.iter().map(|x| f16::from_f32(*x))),
            Buffer::Q8 { codes, scales } => {
                for block in rows.chunks_exact(Q8_BLOCK) {
                    let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let scale = f16::from_f32(largest / 127.0);
                    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
                    scales.push(scale);
                    codes.extend(block.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8));
                }
            }
        }
    }

    /// Columns [from, from + out_width) of all rows as float32, `out` being [rows, out_width].
    fn read(&self, width: usize, from: usize, out_width: usize, out: &mut [f32]) {
        use half::slice::HalfFloatSliceExt;
        for (row, out) in out.chunks_exact_mut(out_width).enumerate() {
            let at = row * width + from;
            match self {
                Buffer::F32(v) => out.copy_from_slice(&v[at..at + out_width]),
                Buffer::F16(v) => v[at..at + out_width].convert_to_f32_slice(out),
                Buffer::Q8 { codes, scales } => {
                    let blocks = out.chunks_exact_mut(Q8_BLOCK).zip(codes[at..].chunks_exact(Q8_BLOCK));
                    for ((out, codes), scale) in blocks.zip(&scales[at / Q8_BLOCK..]) {
                        let scale = scale.to_f32();
                        out.iter_mut().zip(codes).for_each(|(o, c)| *o = f32::from(*c) * scale);
                    }
                }
            }
        }
    }

    /// Takes the last rows off.
    fn drop_last(&mut self, width: usize, rows: usize) {
        match self {
            Buffer::F32(v) => v.truncate(v.len() - rows * width),
            Buffer::F16(v) => v.truncate(v.len() - rows * width),
            Buffer::Q8 { codes, scales } => {
                codes.truncate(codes.len() - rows * width);
                scales.truncate(scales.len() - rows * width / Q8_BLOCK);
            }
        }
    }

    /// Keeps the rows for which `keep` is true.
    fn retain(&mut self, width: usize, keep: &[bool]) {
        fn compact<T: Copy>(v: &mut Vec<T>, width: usize, keep: &[bool]) {
            let mut to = 0;
            for (row, _) in keep.iter().enumerate().filter(|(_, k)| **k) {
                v.copy_within(row * width..(row + 1) * width, to * width);
                to += 1;
            }
            v.truncate(to * width);
        }
        match self {
            Buffer::F32(v) => compact(v, width, keep),
            Buffer::F16(v) => compact(v, width, keep),
            Buffer::Q8 { codes, scales } => {
                compact(codes, width, keep);
                compact(scales, width / Q8_BLOCK, keep);
            }
        }
    }

    fn bytes(&self) -> u64 {
        (match self {
            Buffer::F32(v) => v.len() * 4,
            Buffer::F16(v) => v.len() * 2,
            Buffer::Q8 { codes, scales } => codes.len() + scales.len() * 2,
        }) as u64
    }
}

/// Rows as they are kept, from some column of the first on; rows begin a stride apart.
#[derive(Clone, Copy)]
pub(crate) enum Lines<'a> {
    F32(&'a [f32], usize),
    F16(&'a [f16], usize),
    /// The scales are those of all blocks from the first code's on.
    Q8 {
        codes: &'a [i8],
        scales: &'a [f16],
        stride: usize,
    },
}

impl Lines<'_> {
    /// The same without the first rows.
    pub fn skip_rows(self, row: usize) -> Self {
        match self {
            Lines::F32(v, stride) => Lines::F32(&v[row * stride..], stride),
            Lines::F16(v, stride) => Lines::F16(&v[row * stride..], stride),
            Lines::Q8 { codes, scales, stride } => {
                let at = row * stride;
                Lines::Q8 { codes: &codes[at..], scales: &scales[at / Q8_BLOCK..], stride }
            }
        }
    }

    /// Whether there are so many rows of so many columns.
    pub fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |stride: usize| rows.checked_sub(1).map_or(0, |before| before * stride + columns);
        match self {
            Lines::F32(v, stride) => v.len() >= last(*stride),
            Lines::F16(v, stride) => v.len() >= last(*stride),
            Lines::Q8 { codes, scales, stride } => {
                let blocks = stride.is_multiple_of(Q8_BLOCK) && scales.len() >= last(*stride).div_ceil(Q8_BLOCK);
                codes.len() >= last(*stride) && blocks
            }
        }
    }
}

impl Buffer {
    fn lines(&self, width: usize, from: usize) -> Lines<'_> {
        match self {
            Buffer::F32(v) => Lines::F32(&v[from.min(v.len())..], width),
            Buffer::F16(v) => Lines::F16(&v[from.min(v.len())..], width),
            Buffer::Q8 { codes, scales } => {
                debug_assert!(from.is_multiple_of(Q8_BLOCK), "heads are whole blocks");
                let (from, block) = (from.min(codes.len()), (from / Q8_BLOCK).min(scales.len()));
                Lines::Q8 { codes: &codes[from..], scales: &scales[block..], stride: width }
            }
        }
    }
}

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
}

impl LayerCache {
    fn new(spec: Arc<CacheSpec>) -> Self {
        let (keys, values) = (Buffer::new(spec.dtype), Buffer::new(spec.dtype));
        Self { spec, positions: Vec::new(), branches: Vec::new(), branched: false, keys, values }
    }

    pub fn append(&mut self, keys: &[f32], values: &[f32], positions: &[u32], branches: &[u32]) {
        if let Some(first) = positions.first() {
            self.evict(*first);
        }
        self.keys.append(keys);
        if !self.spec.values_are_keys {
            self.values.append(values);
        }
        self.positions.extend_from_slice(positions);
        self.branches.extend_from_slice(branches);
        self.branched |= branches.iter().any(|b| *b != 0);
    }

    /// Drops what no query from position `next` on can see, once it is worth moving the rest.
    fn evict(&mut self, next: u32) {
        let (window, sinks) = (self.spec.window as u32, self.spec.sinks as u32);
        if window == 0 {
            return;
        }
        let keep: Vec<bool> = self.positions.iter().map(|p| *p < sinks || next - p.min(&next) < window).collect();
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

    /// The keys of one head of `dim` elements, as they are kept.
    pub fn key_lines(&self, head: usize, dim: usize) -> Lines<'_> {
        self.keys.lines(self.spec.key_width, head * dim)
    }

    /// The values of one head of `dim` elements, as they are kept.
    pub fn value_lines(&self, head: usize, dim: usize) -> Lines<'_> {
        self.values().lines(self.spec.value_width, head * dim)
    }

    /// The keys of one head, `[tokens, dim]`.
    pub fn read_keys(&self, head: usize, dim: usize, out: &mut [f32]) {
        self.keys.read(self.spec.key_width, head * dim, dim, out);
    }

    /// The values of one head, `[tokens, dim]`.
    pub fn read_values(&self, head: usize, dim: usize, out: &mut [f32]) {
        self.values().read(self.spec.value_width, head * dim, dim, out);
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
            let kept = match layer.spec.window {
                0 => tokens,
                w => tokens.min(w + layer.spec.sinks + EVICTION_SLACK),
            };
            layer.keys.reserve(kept * layer.spec.key_width);
            if !layer.spec.values_are_keys {
                layer.values.reserve(kept * layer.spec.value_width);
            }
        }
    }

    /// Takes back the last tokens of the last step, which turned out not to be wanted.
    pub(crate) fn forget(&mut self, tokens: usize) {
        for layer in &mut self.layers {
            layer.keys.drop_last(layer.spec.key_width, tokens);
            if !layer.spec.values_are_keys {
                layer.values.drop_last(layer.spec.value_width, tokens);
            }
            layer.positions.truncate(layer.positions.len() - tokens);
            layer.branches.truncate(layer.branches.len() - tokens);
        }
        self.seen -= tokens;
    }

    /// Tokens that went through.
    pub fn tokens(&self) -> usize {
        self.seen
    }

    /// Bytes of keys and values now.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|l| l.keys.bytes() + l.values.bytes()).sum()
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
        cache.read_keys(0, 32, &mut keys);
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
            cache.read_values(0, 32, &mut back);
            for (a, b) in row.iter().zip(&back) {
                assert!((a - b).abs() <= tolerance, "{dtype:?}: {a} came back as {b}");
            }
        }
    }
}

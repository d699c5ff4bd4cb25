//! Rows of numbers as a cache keeps them.

use super::CacheType;
use super::grouped::Grouped;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Numbers that share a scale: 32 codes of q8_0, or of the affine types.
pub(crate) const BLOCK: usize = 32;

/// Rows of numbers in one of the cache's types.
#[derive(Debug, Clone)]
pub(super) enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8 { codes: Vec<i8>, scales: Vec<f16> },
    Affine(Grouped),
}

impl Buffer {
    /// For keys or values.
    pub fn new(dtype: CacheType, keys: bool) -> Self {
        match dtype {
            CacheType::Affine(bits) => Buffer::Affine(Grouped::new(bits, keys)),
            CacheType::F32 => Buffer::F32(Vec::new()),
            CacheType::F16 => Buffer::F16(Vec::new()),
            CacheType::Q8_0 => Buffer::Q8 { codes: Vec::new(), scales: Vec::new() },
        }
    }

    /// Makes room for so many rows, of which `unsettled` at most have not settled.
    pub fn reserve(&mut self, width: usize, rows: usize, unsettled: usize) {
        let elements = rows * width;
        match self {
            Buffer::Affine(grouped) => grouped.reserve(width, rows, unsettled),
            Buffer::F32(v) => v.reserve_exact(elements),
            Buffer::F16(v) => v.reserve_exact(elements),
            Buffer::Q8 { codes, scales } => {
                codes.reserve_exact(elements);
                scales.reserve_exact(elements / BLOCK);
            }
        }
    }

    pub fn append(&mut self, rows: &[f32]) {
        match self {
            Buffer::Affine(grouped) => grouped.append(rows),
            Buffer::F32(v) => v.extend_from_slice(rows),
            Buffer::F16(v) => v.extend(rows.iter().map(|x| f16::from_f32(*x))),
            Buffer::Q8 { codes, scales } => {
                for block in rows.chunks_exact(BLOCK) {
                    let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let scale = f16::from_f32(largest / 127.0);
                    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
                    scales.push(scale);
                    codes.extend(block.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8));
                }
            }
        }
    }

    /// Columns [from, from + out_width) of rows as float32, from row `first` on; `out` is [rows, out_width].
    pub fn read(&self, width: usize, from: usize, out_width: usize, first: usize, out: &mut [f32]) {
        if let Buffer::Affine(grouped) = self {
            return grouped.read(width, from, out_width, first, out);
        }
        for (row, out) in (first..).zip(out.chunks_exact_mut(out_width)) {
            let at = row * width + from;
            match self {
                Buffer::F32(v) => out.copy_from_slice(&v[at..at + out_width]),
                Buffer::F16(v) => v[at..at + out_width].convert_to_f32_slice(out),
                Buffer::Q8 { codes, scales } => {
                    let blocks = out.chunks_exact_mut(BLOCK).zip(codes[at..].chunks_exact(BLOCK));
                    for ((out, codes), scale) in blocks.zip(&scales[at / BLOCK..]) {
                        let scale = scale.to_f32();
                        out.iter_mut().zip(codes).for_each(|(o, c)| *o = f32::from(*c) * scale);
                    }
                }
                Buffer::Affine(_) => unreachable!("these are read in groups"),
            }
        }
    }

    /// Takes up the form in which rows stay, where that is not theirs from the beginning.
    pub fn settle(&mut self, width: usize) {
        if let Buffer::Affine(grouped) = self {
            grouped.settle(width);
        }
    }

    /// Takes the last rows off.
    pub fn drop_last(&mut self, width: usize, rows: usize) {
        match self {
            Buffer::Affine(grouped) => grouped.drop_last(width, rows),
            Buffer::F32(v) => v.truncate(v.len() - rows * width),
            Buffer::F16(v) => v.truncate(v.len() - rows * width),
            Buffer::Q8 { codes, scales } => {
                codes.truncate(codes.len() - rows * width);
                scales.truncate(scales.len() - rows * width / BLOCK);
            }
        }
    }

    /// Marks what cannot go because it shares a group with what is kept.
    pub fn whole_groups(&self, keep: &mut [bool]) {
        if let Buffer::Affine(grouped) = self {
            grouped.whole_groups(keep);
        }
    }

    /// Keeps the rows for which `keep` is true: all or none of a group.
    pub fn retain(&mut self, width: usize, keep: &[bool]) {
        match self {
            Buffer::F32(v) => compact(v, width, keep),
            Buffer::F16(v) => compact(v, width, keep),
            Buffer::Q8 { codes, scales } => {
                compact(codes, width, keep);
                compact(scales, width / BLOCK, keep);
            }
            Buffer::Affine(grouped) => grouped.retain(width, keep),
        }
    }

    /// Keeps, of `dim` columns after another, the rows that are listed for them; all lists are equally long and ascend.
    pub fn gather(&mut self, width: usize, dim: usize, kept: &[Vec<u32>]) {
        match self {
            Buffer::F32(v) => gather(v, width, dim, kept),
            Buffer::F16(v) => gather(v, width, dim, kept),
            Buffer::Q8 { codes, scales } => {
                gather(codes, width, dim, kept);
                gather(scales, width / BLOCK, dim / BLOCK, kept);
            }
            Buffer::Affine(grouped) => grouped.gather(width, dim, kept),
        }
    }

    pub fn bytes(&self) -> u64 {
        (match self {
            Buffer::F32(v) => v.len() * 4,
            Buffer::F16(v) => v.len() * 2,
            Buffer::Q8 { codes, scales } => codes.len() + scales.len() * 2,
            Buffer::Affine(grouped) => grouped.bytes(),
        }) as u64
    }
}

/// Keeps the rows for which `keep` is true.
pub(super) fn compact<T: Copy>(v: &mut Vec<T>, width: usize, keep: &[bool]) {
    let mut to = 0;
    for (row, _) in keep.iter().enumerate().filter(|(_, k)| **k) {
        v.copy_within(row * width..(row + 1) * width, to * width);
        to += 1;
    }
    v.truncate(to * width);
}

/// As [`Buffer::gather`].
pub(super) fn gather<T: Copy>(v: &mut Vec<T>, width: usize, dim: usize, kept: &[Vec<u32>]) {
    for (part, rows) in kept.iter().enumerate() {
        for (to, from) in rows.iter().enumerate() {
            let from = *from as usize * width + part * dim;
            v.copy_within(from..from + dim, to * width + part * dim);
        }
    }
    v.truncate(kept.first().map_or(0, Vec::len) * width);
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
                Lines::Q8 { codes: &codes[at..], scales: &scales[at / BLOCK..], stride }
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
                let blocks = stride.is_multiple_of(BLOCK) && scales.len() >= last(*stride).div_ceil(BLOCK);
                codes.len() >= last(*stride) && blocks
            }
        }
    }
}

impl Buffer {
    /// The rows as they are kept, from a column on; none where they must be decoded.
    pub fn lines(&self, width: usize, from: usize) -> Option<Lines<'_>> {
        Some(match self {
            Buffer::F32(v) => Lines::F32(&v[from.min(v.len())..], width),
            Buffer::F16(v) => Lines::F16(&v[from.min(v.len())..], width),
            Buffer::Q8 { codes, scales } => {
                debug_assert!(from.is_multiple_of(BLOCK), "heads are whole blocks");
                let (from, block) = (from.min(codes.len()), (from / BLOCK).min(scales.len()));
                Lines::Q8 { codes: &codes[from..], scales: &scales[block..], stride: width }
            }
            Buffer::Affine(_) => return None,
        })
    }
}

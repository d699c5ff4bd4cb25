//! Activations rounded for integer products: each 32 of a token share a scale. Formats with codes of up to six bits take 8
//! bits, as in ggml's Q8_0; for those of eight bits 16 cost no more, as products widen to 16 bits anyway.

use super::{BLOCK, Layout};

/// Room for rounded activations, used again and again.
#[derive(Default)]
pub(crate) struct Activations {
    bytes: Vec<i8>,
    words: Vec<i16>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// Which integers activations are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rounding {
    /// 8 bits, with sums.
    Bytes,
    /// 16 bits.
    Words,
}

impl Rounding {
    /// What a layout multiplies with.
    pub fn of(layout: Layout) -> Self {
        if layout.bits == 8 { Rounding::Words } else { Rounding::Bytes }
    }
}

/// Rounded activations `[rows, columns]` in such a room. Copies of it may be written by several threads, each its own rows,
/// and read when all are done.
#[derive(Clone, Copy)]
pub(crate) struct Rounded {
    pub rows: usize,
    pub columns: usize,
    pub rounding: Rounding,
    pub(super) bytes: *mut i8,
    pub(super) words: *mut i16,
    /// `[rows, columns / 32]`.
    pub(super) scales: *mut f32,
    /// Scale times the sum of the codes of each 16 columns, `[rows, columns / 16]`; only beside 8-bit codes.
    pub(super) sums: *mut f32,
}
// SAFETY: plain pointers; who writes what is the promise of the callers of `round`.
unsafe impl Send for Rounded {}
// SAFETY: as above.
unsafe impl Sync for Rounded {}

impl Activations {
    /// Makes room for that many elements.
    pub fn reserve(&mut self, rounding: Rounding, elements: usize) {
        fn grow<T: Copy + Default>(v: &mut Vec<T>, len: usize) {
            if v.len() < len {
                v.resize(len, T::default());
            }
        }
        match rounding {
            Rounding::Bytes => {
                grow(&mut self.bytes, elements);
                grow(&mut self.sums, elements * 2 / BLOCK);
            }
            Rounding::Words => grow(&mut self.words, elements),
        }
        grow(&mut self.scales, elements / BLOCK);
    }

    /// The beginning of the room as `[rows, columns]`, columns being a multiple of 32.
    pub fn view(&mut self, rounding: Rounding, rows: usize, columns: usize) -> Rounded {
        assert!(columns.is_multiple_of(BLOCK), "rows are whole blocks");
        self.reserve(rounding, rows * columns);
        Rounded {
            rows,
            columns,
            rounding,
            bytes: self.bytes.as_mut_ptr(),
            words: self.words.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
        }
    }

    /// Rounds all of `x`, `[rows, columns]`.
    pub fn round(&mut self, layout: Layout, x: &[f32], columns: usize) -> Rounded {
        let view = self.view(Rounding::of(layout), x.len() / columns, columns);
        // SAFETY: the view is not shared yet.
        unsafe { view.round(0, x) };
        view
    }
}

impl Rounded {
    /// The same room, of another shape; the caller knows that it is large enough.
    pub fn shaped(self, rows: usize, columns: usize) -> Self {
        Self { rows, columns, ..self }
    }

    /// Some of its rows.
    pub fn part(self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "the rows lie in the room");
        let at = rows.start * self.columns;
        Self {
            rows: rows.len(),
            bytes: self.bytes.wrapping_add(at),
            words: self.words.wrapping_add(at),
            scales: self.scales.wrapping_add(at / BLOCK),
            sums: self.sums.wrapping_add(2 * at / BLOCK),
            ..self
        }
    }

    /// Rounds the rows from `first` on.
    ///
    /// # Safety
    /// The room must still be there, and nobody else may use those rows meanwhile.
    pub unsafe fn round(self, first: usize, x: &[f32]) {
        let rows = x.len() / self.columns;
        assert!(x.len() == rows * self.columns && first + rows <= self.rows, "the rows lie in the room");
        let (at, len) = (first * self.columns, x.len());
        // SAFETY: the room holds rows x columns elements and what belongs to them, and the caller keeps others away.
        unsafe {
            let scales = std::slice::from_raw_parts_mut(self.scales.add(at / BLOCK), len / BLOCK);
            match self.rounding {
                Rounding::Words => words(x, std::slice::from_raw_parts_mut(self.words.add(at), len), scales),
                Rounding::Bytes => {
                    let codes = std::slice::from_raw_parts_mut(self.bytes.add(at), len);
                    let sums = std::slice::from_raw_parts_mut(self.sums.add(2 * at / BLOCK), 2 * len / BLOCK);
                    bytes(x, codes, scales, sums);
                }
            }
        }
    }

    /// What a rounded activation stands for.
    #[cfg(test)]
    pub fn value(&self, row: usize, column: usize) -> f64 {
        let at = row * self.columns + column;
        // SAFETY: tests keep the room while they look.
        unsafe {
            let code = match self.rounding {
                Rounding::Bytes => f64::from(*self.bytes.add(at)),
                Rounding::Words => f64::from(*self.words.add(at)),
            };
            code * f64::from(*self.scales.add(at / BLOCK))
        }
    }
}

/// Largest magnitude of a block over the largest code, and its inverse; not a number where the block has one that is not,
/// so that a model that has diverged is noticed.
#[inline(always)]
fn scale(block: &[f32], largest_code: f32) -> (f32, f32) {
    let (mut lanes, mut poison) = ([0f32; 8], [0f32; 8]);
    for eight in block.chunks_exact(8) {
        for ((l, p), v) in lanes.iter_mut().zip(&mut poison).zip(eight) {
            *p += v * 0.0;
            let v = v.abs();
            *l = if v > *l { v } else { *l };
        }
    }
    let largest = lanes.into_iter().fold(0f32, f32::max) + poison.into_iter().sum::<f32>();
    (largest / largest_code, if largest > 0.0 { largest_code / largest } else { 0.0 })
}

/// Rounds to the nearest integer, ties to even, for magnitudes below 2^22, in a way that the compiler vectorises: adding
/// and taking away 1.5 x 2^23 leaves no room for a fraction.
#[inline(always)]
fn round(v: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (v + MAGIC) - MAGIC
}

#[inline(always)]
fn words_body(x: &[f32], codes: &mut [i16], scales: &mut [f32]) {
    for ((x, codes), to) in x.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK)).zip(scales) {
        let (scale, inverse) = scale(x, 32_767.0);
        for (c, v) in codes.iter_mut().zip(x) {
            *c = round(v * inverse) as i32 as i16;
        }
        *to = scale;
    }
}

#[inline(always)]
fn bytes_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
    let blocks = x.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK)).zip(scales).zip(sums.chunks_exact_mut(2));
    for (((x, codes), to), sums) in blocks {
        let (scale, inverse) = scale(x, 127.0);
        for ((x, codes), sum) in x.chunks_exact(BLOCK / 2).zip(codes.chunks_exact_mut(BLOCK / 2)).zip(sums) {
            let mut total = 0i32;
            for (c, v) in codes.iter_mut().zip(x) {
                let code = round(v * inverse) as i32;
                *c = code as i8;
                total += code;
            }
            *sum = scale * total as f32;
        }
        *to = scale;
    }
}

crate::kernels::multiversion!(
    words, words_avx2, words_body(x: &[f32], codes: &mut [i16], scales: &mut [f32])
);
crate::kernels::multiversion!(
    bytes, bytes_avx2, bytes_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32])
);

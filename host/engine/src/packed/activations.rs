//! Activations rounded for integer products: each 32 of a token share a scale and have 8 bits each, as in ggml's Q8_0.

use super::BLOCK;

/// Largest magnitude of a code.
const LARGEST: f32 = 127.0;

/// Room for rounded activations, used again and again.
#[derive(Default)]
pub(crate) struct Activations {
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
    counts: Vec<[i32; 3]>,
}

/// Rounded activations `[rows, columns]` in such a room. Copies of it may be written by several threads, each its own rows,
/// and read when all are done.
#[derive(Clone, Copy)]
pub(crate) struct Rounded {
    pub rows: usize,
    pub columns: usize,
    pub(super) codes: *mut i8,
    /// `[rows, columns / 32]`.
    pub(super) scales: *mut f32,
    /// Scale times the sum of the codes, of each 32 columns and of their last 16, `[rows, columns / 32, 2]`.
    pub(super) sums: *mut f32,
    /// The sum of the codes, negated, of each 32 columns, of their first 16 and of their last, `[rows, columns / 32]`.
    pub(super) counts: *mut [i32; 3],
}
// SAFETY: plain pointers; who writes what is the promise of the callers of `round`.
unsafe impl Send for Rounded {}
// SAFETY: as above.
unsafe impl Sync for Rounded {}

impl Activations {
    /// Makes room for that many elements.
    pub fn reserve(&mut self, elements: usize) {
        fn grow<T: Copy + Default>(v: &mut Vec<T>, len: usize) {
            if v.len() < len {
                v.resize(len, T::default());
            }
        }
        grow(&mut self.codes, elements);
        grow(&mut self.sums, elements * 2 / BLOCK);
        grow(&mut self.scales, elements / BLOCK);
        grow(&mut self.counts, elements / BLOCK);
    }

    /// The beginning of the room as `[rows, columns]`, columns being a multiple of 32.
    pub fn view(&mut self, rows: usize, columns: usize) -> Rounded {
        assert!(columns.is_multiple_of(BLOCK), "rows are whole blocks");
        self.reserve(rows * columns);
        Rounded {
            rows,
            columns,
            codes: self.codes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            counts: self.counts.as_mut_ptr(),
        }
    }

    /// Rounds all of `x`, `[rows, columns]`.
    pub fn round(&mut self, x: &[f32], columns: usize) -> Rounded {
        let view = self.view(x.len() / columns, columns);
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
            codes: self.codes.wrapping_add(at),
            scales: self.scales.wrapping_add(at / BLOCK),
            sums: self.sums.wrapping_add(2 * at / BLOCK),
            counts: self.counts.wrapping_add(at / BLOCK),
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
            let codes = std::slice::from_raw_parts_mut(self.codes.add(at), len);
            let scales = std::slice::from_raw_parts_mut(self.scales.add(at / BLOCK), len / BLOCK);
            let sums = std::slice::from_raw_parts_mut(self.sums.add(2 * at / BLOCK), 2 * len / BLOCK);
            let counts = std::slice::from_raw_parts_mut(self.counts.add(at / BLOCK), len / BLOCK);
            round(x, codes, scales, sums, counts);
        }
    }

    /// What a rounded activation stands for.
    #[cfg(test)]
    pub fn value(&self, row: usize, column: usize) -> f64 {
        let at = row * self.columns + column;
        // SAFETY: tests keep the room while they look.
        unsafe { f64::from(*self.codes.add(at)) * f64::from(*self.scales.add(at / BLOCK)) }
    }
}

/// The largest magnitude of a block decides its scale, which is not a number where the block has one that is not, so that a
/// model that has diverged is noticed.
fn round(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32], counts: &mut [[i32; 3]]) {
    let blocks = x.as_chunks::<BLOCK>().0.iter().zip(codes.as_chunks_mut::<BLOCK>().0).zip(scales);
    let all = blocks.zip(sums.as_chunks_mut::<2>().0.iter_mut().zip(counts));
    #[cfg(target_arch = "x86_64")]
    if crate::lanes::has_avx2() {
        // SAFETY: the features were just detected.
        return all.for_each(|(((x, codes), scale), (sums, counts))| unsafe {
            let [first, last] = round_avx2(x, codes, scale);
            count(*scale, [first, last], sums, counts);
        });
    }
    all.for_each(|(((x, codes), scale), (sums, counts))| {
        let halves = round_plain(x, codes, scale);
        count(*scale, halves, sums, counts);
    });
}

/// What a block's sums of codes are kept as.
#[inline(always)]
fn count(scale: f32, [first, last]: [i32; 2], sums: &mut [f32; 2], counts: &mut [i32; 3]) {
    *counts = [-first - last, -first, -last];
    *sums = [scale * (first + last) as f32, scale * last as f32];
}

/// One block, by the definition. Returns the sums of its first and its last 16 codes.
fn round_plain(x: &[f32; BLOCK], codes: &mut [i8; BLOCK], scale: &mut f32) -> [i32; 2] {
    let poison: f32 = x.iter().map(|v| v * 0.0).sum();
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    *scale = largest / LARGEST + poison;
    let inverse = if largest > 0.0 { LARGEST / largest } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(x) {
        *code = (v * inverse).round_ties_even() as i8;
    }
    let (first, last) = codes.split_at(BLOCK / 2);
    [first, last].map(|codes| codes.iter().map(|c| i32::from(*c)).sum())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn round_avx2(x: &[f32; BLOCK], codes: &mut [i8; BLOCK], scale: &mut f32) -> [i32; 2] {
    use std::arch::x86_64::*;
    // SAFETY: the pointers are to as many elements as are read and written.
    unsafe {
        let v: [__m256; 4] = std::array::from_fn(|i| _mm256_loadu_ps(x.as_ptr().add(8 * i)));
        let magnitude = |v| _mm256_andnot_ps(_mm256_set1_ps(-0.0), v);
        let zero = _mm256_setzero_ps();
        let mut poison = zero;
        for v in v {
            poison = _mm256_fmadd_ps(v, zero, poison);
        }
        let pairs = [_mm256_max_ps(magnitude(v[0]), magnitude(v[1])), _mm256_max_ps(magnitude(v[2]), magnitude(v[3]))];
        let eight = _mm256_max_ps(pairs[0], pairs[1]);
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        let largest = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
        let unfit = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(poison, poison)) != 0;
        *scale = if unfit { f32::NAN } else { largest / LARGEST };
        let inverse = _mm256_set1_ps(if largest > 0.0 { LARGEST / largest } else { 0.0 });
        let whole = v.map(|v| _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse)));
        let words = [_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3])];
        // Packing works in halves of registers: it leaves fours of columns as 0 2 4 6 1 3 5 7.
        let bytes = _mm256_packs_epi16(words[0], words[1]);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes);
        // Sums of four codes a lane: the first 16 columns are in the lower half.
        let fours = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
        let total = |half: __m128i| {
            let two = _mm_add_epi32(half, _mm_shuffle_epi32::<0b00_00_11_10>(half));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
        };
        [total(_mm256_castsi256_si128(fours)), total(_mm256_extracti128_si256::<1>(fours))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fast_rounding_equals_the_plain_one(x in prop::array::uniform32(prop_oneof![-9f32..9.0, Just(0.0), Just(f32::NAN), -1e30f32..1e30])) {
            let (mut plain, mut fast) = (([0i8; BLOCK], 0f32, [0i32; 3]), ([0i8; BLOCK], 0f32, [0i32; 3]));
            let [first, last] = round_plain(&x, &mut plain.0, &mut plain.1);
            plain.2 = [-first - last, -first, -last];
            let mut sums = [0f32; 2];
            round(&x, &mut fast.0, std::slice::from_mut(&mut fast.1), &mut sums, std::slice::from_mut(&mut fast.2));
            prop_assert_eq!(fast.1.is_nan(), plain.1.is_nan());
            if !fast.1.is_nan() {
                prop_assert_eq!(fast, plain);
                prop_assert_eq!(sums, [first + last, last].map(|sum| plain.1 * sum as f32));
            }
        }
    }
}

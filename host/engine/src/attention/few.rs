//! Attention of a few queries, straight on the cache in whichever type it keeps: while decoding, each key and value is read
//! once for all the heads that share it, and widened in registers. For AVX2; elsewhere, and for heads that are no multiple
//! of eight long, the way of many queries serves.

use crate::cache::Lines;
use std::arch::x86_64::*;

/// Queries that are multiplied at once: with four keys each, their sums fill the registers.
const QUERIES: usize = 3;
/// Keys that are multiplied at once.
const KEYS: usize = 4;
/// Numbers of a register.
const LANES: usize = 8;

/// Whether these kernels run here, for rows of this length.
pub(super) fn available(columns: usize) -> bool {
    columns.is_multiple_of(LANES) && crate::lanes::has_avx2()
}

/// Rows of numbers of some type.
trait Source: Copy {
    /// Eight numbers.
    ///
    /// # Safety
    /// The row must have them, and the processor AVX2 and F16C.
    unsafe fn at(self, row: usize, column: usize) -> __m256;
}

#[derive(Clone, Copy)]
struct Singles(*const f32, usize);
#[derive(Clone, Copy)]
struct Halves(*const half::f16, usize);
#[derive(Clone, Copy)]
struct Blocks(*const i8, *const half::f16, usize);

impl Source for Singles {
    #[inline(always)]
    unsafe fn at(self, row: usize, column: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(self.0.add(row * self.1 + column)) }
    }
}

impl Source for Halves {
    #[inline(always)]
    unsafe fn at(self, row: usize, column: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(self.0.add(row * self.1 + column).cast())) }
    }
}

impl Source for Blocks {
    #[inline(always)]
    unsafe fn at(self, row: usize, column: usize) -> __m256 {
        let at = row * self.2 + column;
        // SAFETY: the caller's promise; a scale stands for each block of codes.
        unsafe {
            let codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(self.0.add(at).cast()));
            let scale = i32::from((*self.1.add(at / crate::cache::BLOCK)).to_bits());
            let scale = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
            _mm256_mul_ps(_mm256_cvtepi32_ps(codes), scale)
        }
    }
}

/// Calls a function with the lines as their source.
macro_rules! with_source {
    ($lines:expr, |$source:ident| $body:expr) => {
        match $lines {
            Lines::F32(rows, stride) => {
                let $source = Singles(rows.as_ptr(), stride);
                $body
            }
            Lines::F16(rows, stride) => {
                let $source = Halves(rows.as_ptr(), stride);
                $body
            }
            Lines::Q8 { codes, scales, stride } => {
                let $source = Blocks(codes.as_ptr(), scales.as_ptr(), stride);
                $body
            }
        }
    };
}

/// Products of queries, `dim` long and `stride` apart, with all `keys`: `[queries, keys]`.
pub(super) fn scores(q: &[f32], stride: usize, dim: usize, lines: Lines<'_>, keys: usize, out: &mut [f32]) {
    assert!(available(dim) && lines.holds(keys, dim), "the keys are there, in whole registers");
    for (chunk, out) in out.chunks_mut(QUERIES * keys).enumerate() {
        let q = &q[chunk * QUERIES * stride..];
        let queries = out.len() / keys;
        assert!(q.len() >= (queries - 1) * stride + dim, "the queries are there");
        // SAFETY: the features were detected; queries, keys and scores were measured.
        unsafe {
            with_source!(lines, |source| match queries {
                1 => scores_of::<_, 1>(q.as_ptr(), stride, dim, source, keys, out.as_mut_ptr()),
                2 => scores_of::<_, 2>(q.as_ptr(), stride, dim, source, keys, out.as_mut_ptr()),
                _ => scores_of::<_, QUERIES>(q.as_ptr(), stride, dim, source, keys, out.as_mut_ptr()),
            });
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores_of<S: Source, const N: usize>(
    q: *const f32,
    stride: usize,
    dim: usize,
    source: S,
    keys: usize,
    out: *mut f32,
) {
    let whole = keys / KEYS * KEYS;
    // SAFETY: all rows and columns lie within what the caller measured.
    unsafe {
        for key in (0..whole).step_by(KEYS) {
            let mut sums = [[_mm256_setzero_ps(); KEYS]; N];
            for column in (0..dim).step_by(LANES) {
                for k in 0..KEYS {
                    let x = source.at(key + k, column);
                    for (n, sums) in sums.iter_mut().enumerate() {
                        sums[k] = _mm256_fmadd_ps(x, _mm256_loadu_ps(q.add(n * stride + column)), sums[k]);
                    }
                }
            }
            for (n, [a, b, c, d]) in sums.into_iter().enumerate() {
                let four = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let sum = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps::<1>(four));
                _mm_storeu_ps(out.add(n * keys + key), sum);
            }
        }
        for key in whole..keys {
            for n in 0..N {
                let mut sum = _mm256_setzero_ps();
                for column in (0..dim).step_by(LANES) {
                    let x = source.at(key, column);
                    sum = _mm256_fmadd_ps(x, _mm256_loadu_ps(q.add(n * stride + column)), sum);
                }
                let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
                let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
                *out.add(n * keys + key) = _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
            }
        }
    }
}

/// The sums of `keys` rows of values by the shares of queries, `[queries, keys]`: `out` has a row of `dim` for each query,
/// `stride` apart.
///
/// # Safety
/// `out` must have those rows, and nothing else may use them meanwhile.
pub(super) unsafe fn mix(shares: &[f32], lines: Lines<'_>, keys: usize, dim: usize, out: *mut f32, stride: usize) {
    assert!(available(dim) && lines.holds(keys, dim), "the values are there, in whole registers");
    for (chunk, shares) in shares.chunks(QUERIES * keys).enumerate() {
        // SAFETY: the features were detected, shares and values were measured, and the rest is the caller's promise.
        unsafe {
            let out = out.add(chunk * QUERIES * stride);
            with_source!(lines, |source| match shares.len() / keys {
                1 => mix_of::<_, 1>(shares.as_ptr(), source, keys, dim, out, stride),
                2 => mix_of::<_, 2>(shares.as_ptr(), source, keys, dim, out, stride),
                _ => mix_of::<_, QUERIES>(shares.as_ptr(), source, keys, dim, out, stride),
            });
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mix_of<S: Source, const N: usize>(
    shares: *const f32,
    source: S,
    keys: usize,
    dim: usize,
    out: *mut f32,
    stride: usize,
) {
    let mut column = 0;
    // SAFETY: all rows and columns lie within what the caller measured.
    unsafe {
        while column + KEYS * LANES <= dim {
            mix_columns::<S, N, KEYS>(shares, source, keys, column, out, stride);
            column += KEYS * LANES;
        }
        while column < dim {
            mix_columns::<S, N, 1>(shares, source, keys, column, out, stride);
            column += LANES;
        }
    }
}

/// `C` registers of columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn mix_columns<S: Source, const N: usize, const C: usize>(
    shares: *const f32,
    source: S,
    keys: usize,
    column: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); C]; N];
        for key in 0..keys {
            let mut x = [_mm256_setzero_ps(); C];
            for (c, x) in x.iter_mut().enumerate() {
                *x = source.at(key, column + c * LANES);
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                let share = _mm256_broadcast_ss(&*shares.add(n * keys + key));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm256_fmadd_ps(share, x, *sum);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(out.add(n * stride + column + c * LANES), sum);
            }
        }
    }
}

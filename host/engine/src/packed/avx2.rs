//! Products of packed matrices for AVX2. One kernel takes codes of up to six bits as unsigned bytes times signed bytes,
//! summed in 16 bits for as long as they cannot overflow; the other widens codes of eight bits to 16. Both take one tile of
//! eight rows and a few tokens, which share the unpacking of the codes.

#![allow(clippy::needless_range_loop, reason = "loops over a constant number of registers are unrolled by their index")]

use super::{BLOCK, LANES, Packed, Rounded};
use aehost_formats::Encoding;
use std::arch::x86_64::*;
use std::ops::Range;

/// Tokens that share the unpacking of a tile.
const TOKENS: usize = 4;
/// Bytes of activations that stay in the first-level cache, beside a tile.
const NEAR_BYTES: usize = 16 << 10;

/// The tiles' columns of y = x W'.
///
/// # Safety
/// The machine must have AVX2, FMA and F16C; `x` must fit the matrix; `out` must be `[x.rows(), rows]`, and nothing else may
/// use the tiles' columns of it meanwhile.
pub(super) unsafe fn linear(w: &Packed, tiles: Range<usize>, x: Rounded, out: *mut f32) {
    // SAFETY: the caller's promise; each format runs with its own layout.
    unsafe {
        match w.encoding {
            Encoding::Q8_0 => words(w, tiles, x, out),
            Encoding::Q4_0 => bytes::<4, false, false>(w, tiles, x, out),
            Encoding::Q4_1 => bytes::<4, true, false>(w, tiles, x, out),
            Encoding::Q5_0 => bytes::<5, false, false>(w, tiles, x, out),
            Encoding::Q5_1 => bytes::<5, true, false>(w, tiles, x, out),
            Encoding::Q4K => bytes::<4, true, true>(w, tiles, x, out),
            Encoding::Q5K => bytes::<5, true, true>(w, tiles, x, out),
            Encoding::Q6K => bytes::<6, false, true>(w, tiles, x, out),
            other => unreachable!("{} has no packed layout", other.name()),
        }
    }
}

/// Where the tokens of a kernel call are, and where their products go.
#[derive(Clone, Copy)]
struct Tokens<T> {
    codes: *const T,
    /// Codes of a token.
    columns: usize,
    scales: *const f32,
    sums: *const f32,
    out: *mut f32,
    /// Elements of a row of the output.
    out_row: usize,
    /// Columns of the output that the tile has: fewer than eight at its end.
    lanes: usize,
}

/// Calls `$kernel` for all tokens, `TOKENS` at a time and the rest one by one; a few tokens go through all tiles before the
/// next, so that they stay in the first-level cache.
macro_rules! all_tokens {
    ($w:ident, $tiles:ident, $x:ident, $codes:ident, $out:ident, $kernel:ident $(::<$($p:tt),*>)?) => {{
        let (rows, columns) = $w.shape();
        let near = (NEAR_BYTES / columns.max(1) / size_of_val(&*$x.$codes) / TOKENS).max(1) * TOKENS;
        for first in (0..$x.rows).step_by(near) {
            let end = $x.rows.min(first + near);
            for tile in $tiles.clone() {
                let bytes = $w.tile(tile).as_ptr();
                let mut m = first;
                while m < end {
                    let tokens = Tokens {
                        codes: $x.$codes.add(m * columns),
                        columns,
                        scales: $x.scales.add(m * (columns / BLOCK)),
                        sums: $x.sums.wrapping_add(m * (2 * columns / BLOCK)),
                        out: $out.add(m * rows + tile * LANES),
                        out_row: rows,
                        lanes: LANES.min(rows - tile * LANES),
                    };
                    if m + TOKENS <= end {
                        $kernel::<$($($p,)*)? TOKENS>(bytes, tokens);
                        m += TOKENS;
                    } else {
                        $kernel::<$($($p,)*)? 1>(bytes, tokens);
                        m += 1;
                    }
                }
            }
        }
    }};
}

/// As [`linear`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn words(w: &Packed, tiles: Range<usize>, x: Rounded, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { all_tokens!(w, tiles, x, words, out, words_tile) }
}

/// As [`linear`], for one layout.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes<const BITS: u32, const MINIMUM: bool, const SMALL: bool>(
    w: &Packed,
    tiles: Range<usize>,
    x: Rounded,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe { all_tokens!(w, tiles, x, bytes, out, bytes_tile::<BITS, MINIMUM, SMALL>) }
}

/// A number of rounds that the compiler does not know: it would do all rounds at once, and run out of registers.
#[inline(always)]
fn rolled(rounds: usize) -> usize {
    std::hint::black_box(rounds)
}

/// Eight float16 numbers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halves(at: *const u8) -> __m256 {
    // SAFETY: the caller's 16 bytes.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store<const M: usize>(tokens: Tokens<impl Copy>, sums: [__m256; M]) {
    for (m, sum) in sums.into_iter().enumerate() {
        // SAFETY: the output has `lanes` columns from here on in each row.
        unsafe {
            let out = tokens.out.add(m * tokens.out_row);
            if tokens.lanes == LANES {
                _mm256_storeu_ps(out, sum);
            } else {
                let mut all = [0f32; LANES];
                _mm256_storeu_ps(all.as_mut_ptr(), sum);
                std::ptr::copy_nonoverlapping(all.as_ptr(), out, tokens.lanes);
            }
        }
    }
}

/// Q8_0: codes of four columns of eight rows, widened to 16 bits in two registers of four rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn words_tile<const M: usize>(mut group: *const u8, tokens: Tokens<i16>) {
    const HEADER: usize = 2 * LANES;
    let blocks = tokens.columns / BLOCK;
    let quads = rolled(BLOCK / 4);
    let mut sums = [_mm256_setzero_ps(); M];
    for b in 0..blocks {
        let (mut first, mut second) = ([_mm256_setzero_si256(); M], [_mm256_setzero_si256(); M]);
        // SAFETY: a group has 16 bytes of scales and 256 codes; each token has 32 codes and a scale for each block.
        unsafe {
            for quad in 0..quads {
                let codes = group.add(HEADER + quad * BLOCK);
                let a = _mm256_cvtepi8_epi16(_mm_loadu_si128(codes.cast()));
                let b4 = _mm256_cvtepi8_epi16(_mm_loadu_si128(codes.add(16).cast()));
                for m in 0..M {
                    let x = tokens.codes.add(m * tokens.columns + b * BLOCK + quad * 4);
                    let x = _mm256_set1_epi64x(x.cast::<i64>().read_unaligned());
                    first[m] = _mm256_add_epi32(first[m], _mm256_madd_epi16(a, x));
                    second[m] = _mm256_add_epi32(second[m], _mm256_madd_epi16(b4, x));
                }
            }
            let scale = halves(group);
            for m in 0..M {
                // Neighbours belong to one row; adding them leaves the rows as 0 1 4 5 2 3 6 7.
                let pairs = _mm256_hadd_epi32(first[m], second[m]);
                let total = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*tokens.scales.add(m * blocks + b)));
                sums[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), scale, sums[m]);
            }
            group = group.add(HEADER + LANES * BLOCK);
        }
    }
    // SAFETY: the caller's output.
    unsafe { store(tokens, sums) }
}

/// Formats with codes of four to six bits.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes_tile<const BITS: u32, const MINIMUM: bool, const SMALL: bool, const M: usize>(
    mut at: *const u8,
    tokens: Tokens<i8>,
) {
    let header = if MINIMUM { 4 * LANES } else { 2 * LANES };
    let blocks = tokens.columns / BLOCK;
    let ones = _mm256_set1_epi16(1);
    let pairs = if BITS == 4 { rolled(2) } else { 2 };
    let mut sums = [_mm256_setzero_ps(); M];
    let (mut scale, mut minimum) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    for b in 0..blocks {
        // SAFETY: groups lie one after another as `Layout` says; each token has 32 codes, a scale and two sums a block.
        unsafe {
            if !SMALL || b % 8 == 0 {
                scale = halves(at);
                minimum = if MINIMUM { halves(at.add(2 * LANES)) } else { scale };
                at = at.add(header);
            }
            let (low, high, low_minimum, high_minimum);
            if SMALL {
                let pair = _mm_loadu_si128(at.cast());
                let other = _mm_srli_si128::<8>(pair);
                at = at.add(2 * LANES);
                if MINIMUM {
                    low = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(pair)));
                    high = low;
                    let product = _mm256_mul_ps(minimum, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(other)));
                    low_minimum = _mm256_sub_ps(_mm256_setzero_ps(), product);
                    high_minimum = low_minimum;
                } else {
                    low = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(pair)));
                    high = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(other)));
                    let zero = _mm256_set1_ps(-((1 << (BITS - 1)) as f32));
                    low_minimum = _mm256_mul_ps(low, zero);
                    high_minimum = _mm256_mul_ps(high, zero);
                }
            } else {
                low = scale;
                high = scale;
                let zero = _mm256_set1_ps(-((1 << (BITS - 1)) as f32));
                low_minimum = if MINIMUM { minimum } else { _mm256_mul_ps(scale, zero) };
                high_minimum = low_minimum;
            }
            // Sums of the first and of the last 16 columns; one for both where they share a scale.
            let halves_differ = SMALL && !MINIMUM;
            let mut totals = [[_mm256_setzero_si256(); M]; 2];
            let mut short = [[_mm256_setzero_si256(); M]; 2];
            let planes = at.add(4 * BLOCK);
            for pair in 0..pairs {
                for quad in [2 * pair, 2 * pair + 1] {
                    let both = _mm256_loadu_si256(at.add(quad * BLOCK).cast());
                    let nibble = _mm256_set1_epi8(15);
                    let mut first = _mm256_and_si256(both, nibble);
                    let mut second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
                    if BITS == 5 {
                        let bit = _mm256_set1_epi8(16);
                        let plane = _mm256_loadu_si256(planes.cast());
                        let shifted = _mm256_sll_epi16(plane, _mm_cvtsi32_si128(4 - quad as i32));
                        first = _mm256_or_si256(first, _mm256_and_si256(shifted, bit));
                        let shifted = _mm256_srl_epi16(plane, _mm_cvtsi32_si128(quad as i32));
                        second = _mm256_or_si256(second, _mm256_and_si256(shifted, bit));
                    }
                    if BITS == 6 {
                        let shift = _mm_cvtsi32_si128(2 * quad as i32);
                        let spread = |plane: *const u8| {
                            let bits = _mm256_srl_epi16(_mm256_loadu_si256(plane.cast()), shift);
                            _mm256_and_si256(_mm256_slli_epi16::<4>(bits), _mm256_set1_epi8(48))
                        };
                        first = _mm256_or_si256(first, spread(planes));
                        second = _mm256_or_si256(second, spread(planes.add(BLOCK)));
                    }
                    for m in 0..M {
                        let x = tokens.codes.add(m * tokens.columns + b * BLOCK + quad * 4);
                        let near = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                        let far = _mm256_set1_epi32(x.add(BLOCK / 2).cast::<i32>().read_unaligned());
                        let later = usize::from(halves_differ);
                        short[0][m] = _mm256_add_epi16(short[0][m], _mm256_maddubs_epi16(first, near));
                        short[later][m] = _mm256_add_epi16(short[later][m], _mm256_maddubs_epi16(second, far));
                    }
                }
                // Products that fit 16 bits together, codes of 15, 31 or 63 times 127: eight of twice 15, four of twice 31,
                // two of twice 63.
                if BITS != 4 {
                    for half in 0..=usize::from(halves_differ) {
                        for m in 0..M {
                            let wide = _mm256_madd_epi16(short[half][m], ones);
                            totals[half][m] = _mm256_add_epi32(totals[half][m], wide);
                            short[half][m] = _mm256_setzero_si256();
                        }
                    }
                }
            }
            if BITS == 4 {
                for m in 0..M {
                    totals[0][m] = _mm256_madd_epi16(short[0][m], ones);
                }
            }
            at = at.add(LANES * BLOCK * BITS as usize / 8);
            for m in 0..M {
                let x_scale = _mm256_set1_ps(*tokens.scales.add(m * blocks + b));
                let x_sums = tokens.sums.add(2 * (m * blocks + b));
                let product = _mm256_cvtepi32_ps(totals[0][m]);
                sums[m] = _mm256_fmadd_ps(product, _mm256_mul_ps(low, x_scale), sums[m]);
                if halves_differ {
                    let product = _mm256_cvtepi32_ps(totals[1][m]);
                    sums[m] = _mm256_fmadd_ps(product, _mm256_mul_ps(high, x_scale), sums[m]);
                    sums[m] = _mm256_fmadd_ps(low_minimum, _mm256_set1_ps(*x_sums), sums[m]);
                    sums[m] = _mm256_fmadd_ps(high_minimum, _mm256_set1_ps(*x_sums.add(1)), sums[m]);
                } else {
                    let total = _mm256_set1_ps(*x_sums + *x_sums.add(1));
                    sums[m] = _mm256_fmadd_ps(low_minimum, total, sums[m]);
                }
            }
        }
    }
    // SAFETY: the caller's output.
    unsafe { store(tokens, sums) }
}

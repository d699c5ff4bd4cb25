//! Products of ggml's 32-wide blocks with activations rounded to 8 bits, four weight rows at a time. One shape serves all
//! five formats: with codes u (unsigned, or signed for Q8_0) a block stands for `scale * u + offset`, so its product with
//! 32 activations is `scale * sum(u * x) + offset * sum(x)`.

use aehost_formats::Encoding;
#[cfg(test)]
use half::f16;

const BLOCK: usize = 32;

/// Activations of one token as 8-bit codes, with a scale for each 32.
pub(crate) struct Activation {
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// Scale times the sum of the codes, block by block.
    sums: Vec<f32>,
}

impl Activation {
    /// Rounds a row whose length is a multiple of 32.
    pub fn new(x: &[f32]) -> Self {
        let blocks = x.len() / BLOCK;
        let mut this = Self {
            codes: Vec::with_capacity(x.len()),
            scales: Vec::with_capacity(blocks),
            sums: Vec::with_capacity(blocks),
        };
        for block in x.chunks_exact(BLOCK) {
            let largest = block.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
            let (scale, inverse) = (largest / 127.0, if largest > 0.0 { 127.0 / largest } else { 0.0 });
            let start = this.codes.len();
            this.codes.extend(block.iter().map(|v| (v * inverse).round_ties_even() as i8));
            let sum: i32 = this.codes[start..].iter().map(|c| i32::from(*c)).sum();
            this.scales.push(scale);
            this.sums.push(scale * sum as f32);
        }
        this
    }
}

/// Whether [`dot_rows`] runs the format on this machine.
pub(crate) fn runs(encoding: Encoding) -> bool {
    use Encoding::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    #[cfg(target_arch = "x86_64")]
    let able = std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    let able = false;
    able && matches!(encoding, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
}

/// One product for each row; `rows` holds `out.len()` rows of blocks. [`runs`] must have said yes.
pub(crate) fn dot_rows(encoding: Encoding, rows: &[u8], x: &Activation, out: &mut [f32]) {
    let row_bytes = x.scales.len() * encoding.block_bytes();
    assert_eq!(rows.len(), row_bytes * out.len(), "the rows must have the activation's length");
    assert!(runs(encoding), "dot_rows was called where it does not run");
    #[cfg(target_arch = "x86_64")]
    {
        let vnni = std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512vl");
        // SAFETY: `runs` and the line above detected the features; the sizes were checked.
        unsafe {
            if vnni {
                vnni::dot_rows(encoding, rows, row_bytes, x, out)
            } else {
                avx2::dot_rows(encoding, rows, row_bytes, x, out)
            }
        }
    }
}

/// The same by its definition; the reference for [`dot_rows`].
#[cfg(test)]
fn dot_plain(encoding: Encoding, row: &[u8], x: &Activation) -> f32 {
    let mut sum = 0f64;
    for (b, block) in row.chunks_exact(encoding.block_bytes()).enumerate() {
        let (scale, offset, codes) = decode(encoding, block);
        for (i, code) in codes.iter().enumerate() {
            let weight = f64::from(scale) * f64::from(*code) + f64::from(offset);
            sum += weight * f64::from(x.codes[b * BLOCK + i]) * f64::from(x.scales[b]);
        }
    }
    sum as f32
}

/// Scale, offset and codes of a block, as ggml lays them out.
#[cfg(test)]
fn decode(encoding: Encoding, block: &[u8]) -> (f32, f32, [i32; BLOCK]) {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let scale = half(0);
    let with_min = matches!(encoding, Encoding::Q4_1 | Encoding::Q5_1);
    let five = matches!(encoding, Encoding::Q5_0 | Encoding::Q5_1);
    let mut at = if with_min { 4 } else { 2 };
    let mut codes = [0i32; BLOCK];
    if encoding == Encoding::Q8_0 {
        codes.iter_mut().zip(&block[2..]).for_each(|(c, b)| *c = i32::from(*b as i8));
        return (scale, 0.0, codes);
    }
    let high = if five { u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]) } else { 0 };
    at += if five { 4 } else { 0 };
    for i in 0..BLOCK {
        let byte = block[at + i % 16];
        let low = if i < 16 { byte & 15 } else { byte >> 4 };
        codes[i] = i32::from(low) | (((high >> i) & 1) << 4) as i32;
    }
    let offset = match encoding {
        Encoding::Q4_0 => -8.0 * scale,
        Encoding::Q5_0 => -16.0 * scale,
        _ => half(2),
    };
    (scale, offset, codes)
}

/// Makes the kernel once for each instruction set; they differ in how 32 products are summed into 8 integers.
#[cfg(target_arch = "x86_64")]
macro_rules! instruction_set {
    ($name:ident, $features:literal, |$unsigned:ident, $signed:ident| $multiply:expr) => {
        mod $name {
            use super::{Activation, BLOCK, Encoding};
            use std::arch::x86_64::*;

            #[target_feature(enable = $features)]
            fn half(bits: [u8; 2]) -> f32 {
                _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bits)))))
            }

            /// 16 bytes as 32 nibbles: the low ones first.
            #[target_feature(enable = $features)]
            fn nibbles(bytes: &[u8]) -> __m256i {
                // SAFETY: the slice has at least 16 bytes.
                let both = unsafe { _mm_loadu_si128(bytes[..16].as_ptr().cast()) };
                let spread = _mm256_set_m128i(_mm_srli_epi16::<4>(both), both);
                _mm256_and_si256(spread, _mm256_set1_epi8(15))
            }

            /// 32 bits as bytes of 0 or 16.
            #[target_feature(enable = $features)]
            fn fifth_bits(bytes: [u8; 4]) -> __m256i {
                let word = _mm256_set1_epi32(i32::from_le_bytes(bytes));
                let spread = _mm256_shuffle_epi8(
                    word,
                    _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0),
                );
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
                _mm256_and_si256(set, _mm256_set1_epi8(16))
            }

            /// Sums of products of unsigned and signed bytes, four at a time.
            #[target_feature(enable = $features)]
            fn multiply($unsigned: __m256i, $signed: __m256i) -> __m256i {
                $multiply
            }

            #[target_feature(enable = $features)]
            fn sum(v: __m256) -> f32 {
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }

            /// Scale, offset and the integer sums of one block.
            #[target_feature(enable = $features)]
            fn block(encoding: Encoding, bytes: &[u8], x: __m256i) -> (f32, f32, __m256i) {
                let scale = half([bytes[0], bytes[1]]);
                match encoding {
                    Encoding::Q8_0 => {
                        // SAFETY: a block of Q8_0 has 32 codes after its scale.
                        let w = unsafe { _mm256_loadu_si256(bytes[2..34].as_ptr().cast()) };
                        (scale, 0.0, multiply(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)))
                    }
                    Encoding::Q4_0 => (scale, -8.0 * scale, multiply(nibbles(&bytes[2..18]), x)),
                    Encoding::Q4_1 => (scale, half([bytes[2], bytes[3]]), multiply(nibbles(&bytes[4..20]), x)),
                    Encoding::Q5_0 => {
                        let high = fifth_bits([bytes[2], bytes[3], bytes[4], bytes[5]]);
                        (scale, -16.0 * scale, multiply(_mm256_or_si256(nibbles(&bytes[6..22]), high), x))
                    }
                    _ => {
                        let high = fifth_bits([bytes[4], bytes[5], bytes[6], bytes[7]]);
                        let codes = _mm256_or_si256(nibbles(&bytes[8..24]), high);
                        (scale, half([bytes[2], bytes[3]]), multiply(codes, x))
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn dot<const ROWS: usize>(
                encoding: Encoding,
                size: usize,
                rows: [&[u8]; ROWS],
                x: &Activation,
            ) -> [f32; ROWS] {
                let mut products = [_mm256_setzero_ps(); ROWS];
                let mut offsets = [0f32; ROWS];
                for (b, (scale, total)) in x.scales.iter().zip(&x.sums).enumerate() {
                    // SAFETY: the activation has 32 codes for each scale.
                    let codes = unsafe { _mm256_loadu_si256(x.codes[b * BLOCK..(b + 1) * BLOCK].as_ptr().cast()) };
                    for (r, row) in rows.iter().enumerate() {
                        let (weight, offset, sums) = block(encoding, &row[b * size..(b + 1) * size], codes);
                        products[r] =
                            _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(weight * scale), products[r]);
                        offsets[r] += offset * total;
                    }
                }
                let mut out = offsets;
                for (o, p) in out.iter_mut().zip(products) {
                    *o += sum(p);
                }
                out
            }

            #[target_feature(enable = $features)]
            fn all(encoding: Encoding, size: usize, rows: &[u8], row_bytes: usize, x: &Activation, out: &mut [f32]) {
                for (rows, out) in rows.chunks(4 * row_bytes.max(1)).zip(out.chunks_mut(4)) {
                    let row = |r: usize| &rows[r * row_bytes..(r + 1) * row_bytes];
                    if out.len() == 4 {
                        out.copy_from_slice(&dot(encoding, size, [row(0), row(1), row(2), row(3)], x));
                    } else {
                        for (r, o) in out.iter_mut().enumerate() {
                            [*o] = dot(encoding, size, [row(r)], x);
                        }
                    }
                }
            }

            /// As [`super::dot_rows`]; the constants let each format compile to a loop of its own.
            #[target_feature(enable = $features)]
            pub fn dot_rows(encoding: Encoding, rows: &[u8], row_bytes: usize, x: &Activation, out: &mut [f32]) {
                match encoding {
                    Encoding::Q8_0 => all(Encoding::Q8_0, 34, rows, row_bytes, x, out),
                    Encoding::Q4_0 => all(Encoding::Q4_0, 18, rows, row_bytes, x, out),
                    Encoding::Q4_1 => all(Encoding::Q4_1, 20, rows, row_bytes, x, out),
                    Encoding::Q5_0 => all(Encoding::Q5_0, 22, rows, row_bytes, x, out),
                    _ => all(Encoding::Q5_1, 24, rows, row_bytes, x, out),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
instruction_set!(avx2, "avx2,fma,f16c", |unsigned, signed| {
    // Pairs stay below 2 x 128 x 127, which fits 16 bits.
    _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1))
});
#[cfg(target_arch = "x86_64")]
instruction_set!(vnni, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni", |unsigned, signed| {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), unsigned, signed)
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Stored;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn fast_block_products_equal_their_definition(rows in 1usize..11, blocks in 1usize..9, seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0 };
            let columns = blocks * BLOCK;
            let weights: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let x = Activation::new(&(0..columns).map(|_| next() * 3.0).collect::<Vec<_>>());
            for encoding in [Encoding::Q8_0, Encoding::Q5_1, Encoding::Q5_0, Encoding::Q4_1, Encoding::Q4_0] {
                let stored = Stored::from_floats(encoding, &weights, rows, columns).unwrap();
                let row_bytes = stored.raw().len() / rows;
                let expected: Vec<f32> = stored.raw().chunks(row_bytes).map(|row| dot_plain(encoding, row, &x)).collect();
                let mut all = vec![vec![f32::NAN; rows]; 1];
                if runs(encoding) {
                    dot_rows(encoding, stored.raw(), &x, &mut all[0]);
                    #[cfg(target_arch = "x86_64")]
                    {
                        let mut older = vec![f32::NAN; rows];
                        // SAFETY: `runs` detected AVX2, FMA and F16C.
                        unsafe { avx2::dot_rows(encoding, stored.raw(), row_bytes, &x, &mut older) };
                        all.push(older);
                    }
                    for found in &all {
                        for (a, b) in found.iter().zip(&expected) {
                            prop_assert!((a - b).abs() < 1e-3, "{}: {a} is not {b}", encoding.name());
                        }
                    }
                }
            }
        }
    }
}

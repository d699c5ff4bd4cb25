//! Encoders that weigh each column's squared error by its importance: of the engine's own block formats, and of ggml's
//! 32-wide ones, for which candle's do not. The scale search is that of ggml's `quantize_row_q4_0_impl`: try scales around the
//! plain one, and refit each by weighted least squares. Without importance the plain scale is taken.

use crate::Representation;
use crate::codec::pack_codes;
use crate::representation::{Affine, Codebook};
use aehost_formats::Encoding;
use half::f16;

/// Columns of ggml's blocks.
const BLOCK: usize = 32;
/// Columns of the widest groups.
const WIDEST: usize = 128;
/// Scales tried on each side of the plain one.
const TRIES: i32 = 5;
/// How far apart they are, in codes at the end of the range.
const STEP: f32 = 0.18;

/// Whether [`encode`] knows the format; it takes formats of ggml with importance only.
pub(crate) fn encodes(form: Representation) -> bool {
    match form {
        Representation::Blocked(encoding) => {
            matches!(encoding, Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q5_0 | Encoding::Q5_1)
        }
        Representation::Affine(_) | Representation::Codebook(_) => true,
        Representation::Dense(_) | Representation::Sparse(_) => false,
    }
}

/// To the nearest whole number, in a form that compiles to one instruction.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    (x + 0.5).floor()
}

/// Writes the blocks of one row, a multiple of the block long. `importance` has the row's length.
pub(crate) fn encode(form: Representation, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if crate::lanes::has_avx2() {
        // SAFETY: the features were just detected.
        return unsafe { encode_avx2(form, row, importance, out) };
    }
    encode_body(form, row, importance, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn encode_avx2(form: Representation, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_body(form, row, importance, out);
}

#[inline(always)]
fn encode_body(form: Representation, row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let group = form.block_size();
    let (tries, alike) = if importance.is_some() { (TRIES, [0.0; WIDEST]) } else { (0, [1.0; WIDEST]) };
    let mut codes = [0u8; WIDEST];
    let mut bytes = Vec::with_capacity(form.block_bytes());
    for (i, (x, out)) in row.chunks_exact(group).zip(out.chunks_exact_mut(form.block_bytes())).enumerate() {
        let w = importance.map_or(&alike[..group], |w| &w[i * group..(i + 1) * group]);
        let codes = &mut codes[..group];
        bytes.clear();
        match form {
            Representation::Blocked(encoding) => {
                let (scale, minimum, bits) = match encoding {
                    Encoding::Q4_0 => (symmetric(x, w, 8, tries, codes), None, 4),
                    Encoding::Q5_0 => (symmetric(x, w, 16, tries, codes), None, 5),
                    Encoding::Q4_1 => both(affine(x, w, 15, tries, codes), 4),
                    Encoding::Q5_1 => both(affine(x, w, 31, tries, codes), 5),
                    _ => unreachable!("encodes() was asked first"),
                };
                pack_block(scale, minimum, bits, codes, &mut bytes);
            }
            Representation::Affine(Affine { bits, symmetric: true, .. }) => {
                let scale = symmetric(x, w, 1 << (bits - 1), tries, codes);
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                pack_codes(bits, codes, &mut bytes);
            }
            Representation::Affine(Affine { bits, .. }) => {
                let (scale, minimum) = affine(x, w, (1 << bits) - 1, tries, codes);
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                bytes.extend(f16::from_f32(minimum).to_le_bytes());
                pack_codes(bits, codes, &mut bytes);
            }
            Representation::Codebook(Codebook { table, .. }) => {
                let scale = look_up(x, w, &table.map(f32::from), tries, codes);
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                pack_codes(4, codes, &mut bytes);
            }
            Representation::Dense(_) | Representation::Sparse(_) => unreachable!("encodes() was asked first"),
        }
        out.copy_from_slice(&bytes);
    }
}

#[inline(always)]
fn both((scale, minimum): (f32, f32), bits: u32) -> (f32, Option<f32>, u32) {
    (scale, Some(minimum), bits)
}

/// Ranges to try, in steps from the plain one, and whether scales are refitted: the plain one as it is, then others.
#[inline(always)]
fn steps(tries: i32) -> impl Iterator<Item = (i32, bool)> {
    let others = if tries > 0 { -tries..tries + 1 } else { 0..0 };
    std::iter::once((0, false)).chain(others.map(|step| (step, true)))
}

/// Partial sums that are independent of one another.
const LANES: usize = 8;

/// x ~ scale * (code - half), code in 0..2 * half; gives back the scale.
#[inline(always)]
fn symmetric(x: &[f32], w: &[f32], half: i32, tries: i32, codes: &mut [u8]) -> f32 {
    let extreme = x.iter().copied().fold(0f32, |m, v| if v.abs() > m.abs() { v } else { m });
    codes.fill(half as u8);
    if extreme == 0.0 {
        return 0.0;
    }
    let code = |v: f32, inverse: f32| nearest(v * inverse).clamp(-half as f32, (half - 1) as f32);
    let mut best = (f32::INFINITY, 0.0, 0.0);
    for (step, fit) in steps(tries) {
        let inverse = -(half as f32 + STEP * step as f32) / extreme;
        let scale = if fit { fitted(x, w, |v| code(v, inverse)) } else { 1.0 / inverse };
        let scale = f16::from_f32(scale).to_f32();
        let error = error(x, w, |v| scale * code(v, inverse));
        if error < best.0 {
            best = (error, scale, inverse);
        }
    }
    let (_, scale, inverse) = best;
    codes.iter_mut().zip(x).for_each(|(c, v)| *c = (code(*v, inverse) as i32 + half) as u8);
    scale
}

/// x ~ scale * code + minimum, code in 0..=top; gives back scale and minimum.
#[inline(always)]
fn affine(x: &[f32], w: &[f32], top: i32, tries: i32, codes: &mut [u8]) -> (f32, f32) {
    let (low, high) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    codes.fill(0);
    if high <= low {
        return (0.0, low);
    }
    let code = |v: f32, inverse: f32| nearest((v - low) * inverse).clamp(0.0, top as f32);
    let mut best = (f32::INFINITY, (0.0, low), 0.0);
    for (step, fit) in steps(tries) {
        let inverse = (top as f32 + STEP * step as f32) / (high - low);
        let (scale, minimum) = if !fit {
            (1.0 / inverse, low)
        } else {
            let mut sums = [[0f32; LANES]; 5];
            for (x, w) in x.chunks_exact(LANES).zip(w.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    let (x, w) = (x[lane], w[lane]);
                    let q = code(x, inverse);
                    sums[0][lane] += w;
                    sums[1][lane] += w * q;
                    sums[2][lane] += w * q * q;
                    sums[3][lane] += w * x;
                    sums[4][lane] += w * x * q;
                }
            }
            let [sw, sq, sqq, sx, sxq] = sums.map(|lanes| lanes.iter().sum::<f32>());
            let determinant = sw * sqq - sq * sq;
            if determinant <= 0.0 {
                continue;
            }
            ((sw * sxq - sq * sx) / determinant, (sqq * sx - sq * sxq) / determinant)
        };
        let (scale, minimum) = (f16::from_f32(scale).to_f32(), f16::from_f32(minimum).to_f32());
        let error = error(x, w, |v| scale * code(v, inverse) + minimum);
        if error < best.0 {
            best = (error, (scale, minimum), inverse);
        }
    }
    let (_, fit, inverse) = best;
    codes.iter_mut().zip(x).for_each(|(c, v)| *c = code(*v, inverse) as u8);
    fit
}

/// x ~ scale * table(code), the table ascending; gives back the scale.
#[inline(always)]
fn look_up(x: &[f32], w: &[f32], table: &[f32; 16], tries: i32, codes: &mut [u8]) -> f32 {
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let reach = table[15].abs().max(table[0].abs());
    let middles: [f32; 15] = std::array::from_fn(|i| (table[i] + table[i + 1]) / 2.0);
    let code = |v: f32, inverse: f32| middles.iter().filter(|middle| v * inverse > **middle).count();
    if largest == 0.0 || reach == 0.0 {
        codes.fill(code(0.0, 0.0) as u8);
        return 0.0;
    }
    let mut best = (f32::INFINITY, 0.0, 0.0);
    for (step, fit) in steps(tries) {
        // Codes lie about sixteen apart.
        let inverse = (reach + 16.0 * STEP * step as f32) / largest;
        let entry = |v: f32| table[code(v, inverse)];
        let scale = if fit { fitted(x, w, entry) } else { 1.0 / inverse };
        let scale = f16::from_f32(scale).to_f32();
        let error = error(x, w, |v| scale * entry(v));
        if error < best.0 {
            best = (error, scale, inverse);
        }
    }
    let (_, scale, inverse) = best;
    codes.iter_mut().zip(x).for_each(|(c, v)| *c = code(*v, inverse) as u8);
    scale
}

/// The scale with which codes come nearest, by weighted least squares; 0 where all are 0.
#[inline(always)]
fn fitted(x: &[f32], w: &[f32], code: impl Fn(f32) -> f32) -> f32 {
    let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
    for (x, w) in x.chunks_exact(LANES).zip(w.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let q = code(x[lane]);
            products[lane] += w[lane] * x[lane] * q;
            squares[lane] += w[lane] * q * q;
        }
    }
    let squares = squares.iter().sum::<f32>();
    if squares > 0.0 { products.iter().sum::<f32>() / squares } else { 0.0 }
}

/// The weighted squared error of what stands for the numbers.
#[inline(always)]
fn error(x: &[f32], w: &[f32], stand_in: impl Fn(f32) -> f32) -> f32 {
    let mut errors = [0f32; LANES];
    for (x, w) in x.chunks_exact(LANES).zip(w.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let gap = x[lane] - stand_in(x[lane]);
            errors[lane] += w[lane] * gap * gap;
        }
    }
    errors.iter().sum()
}

/// ggml's layout: scale, minimum, the fifth bits as a 32-bit word, then low nibbles of i and i + 16 in one byte.
fn pack_block(scale: f32, minimum: Option<f32>, bits: u32, codes: &[u8], out: &mut Vec<u8>) {
    out.extend(f16::from_f32(scale).to_le_bytes());
    if let Some(minimum) = minimum {
        out.extend(f16::from_f32(minimum).to_le_bytes());
    }
    if bits == 5 {
        let high = codes.iter().enumerate().fold(0u32, |word, (i, c)| word | (u32::from(c >> 4) << i));
        out.extend(high.to_le_bytes());
    }
    let (first, last) = codes.split_at(BLOCK / 2);
    out.extend(first.iter().zip(last).map(|(a, b)| a & 15 | (b & 15) << 4));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn importance_never_makes_the_weighted_error_worse(
            x in prop::collection::vec(-1f32..1.0, 64), w in prop::collection::vec(0.01f32..10.0, 64),
        ) {
            let mut forms: Vec<Representation> =
                [Encoding::Q4_0, Encoding::Q4_1, Encoding::Q5_0, Encoding::Q5_1].map(Representation::Blocked).to_vec();
            for bits in [2, 3, 4, 8] {
                forms.extend([true, false].map(|symmetric| Representation::Affine(Affine { bits, group: 64, symmetric })));
            }
            let normal = Representation::parse("codebook", &aehost_common::Settings(vec![aehost_common::Setting::new("group", 32i64)]));
            forms.push(normal.unwrap());
            for form in forms {
                let error = |importance: Option<&[f32]>| {
                    let bytes = codec::encode(form, &x, 1, 64, importance).unwrap();
                    let mut back = vec![f32::NAN; 64];
                    codec::decode(form, &bytes, 64, &mut back);
                    x.iter().zip(&back).zip(&w).map(|((a, b), w)| w * (a - b).powi(2)).sum::<f32>()
                };
                let (weighed, plain) = (error(Some(&w)), error(None));
                prop_assert!(weighed <= plain * 1.02 + 1e-6, "{}: {} > {}", form, weighed, plain);
            }
        }
    }
}

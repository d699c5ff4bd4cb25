//! Encoders for ggml's 32-wide blocks that weigh each column's squared error by its importance. candle's own encoder does
//! this for the 256-wide formats only. The scale search is that of ggml's `quantize_row_q4_0_impl`: try scales around the
//! plain one, and refit each by weighted least squares.

use aehost_formats::Encoding;
use half::f16;

const BLOCK: usize = 32;
/// Scales tried on each side of the plain one.
const TRIES: i32 = 5;

/// Whether [`encode`] knows the format.
pub(crate) fn encodes(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q5_0 | Encoding::Q5_1)
}

/// To the nearest whole number, in a form that compiles to one instruction.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    (x + 0.5).floor()
}

/// Appends the blocks of one row (a multiple of 32 long). `importance` has the row's length.
pub(crate) fn encode(encoding: Encoding, row: &[f32], importance: &[f32], out: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("f16c")
    {
        // SAFETY: the features were just detected.
        return unsafe { encode_avx2(encoding, row, importance, out) };
    }
    encode_body(encoding, row, importance, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn encode_avx2(encoding: Encoding, row: &[f32], importance: &[f32], out: &mut Vec<u8>) {
    encode_body(encoding, row, importance, out);
}

#[inline(always)]
fn encode_body(encoding: Encoding, row: &[f32], importance: &[f32], out: &mut Vec<u8>) {
    for (x, w) in row.chunks_exact(BLOCK).zip(importance.chunks_exact(BLOCK)) {
        match encoding {
            Encoding::Q4_0 => pack(symmetric(x, w, 8), None, 4, out),
            Encoding::Q5_0 => pack(symmetric(x, w, 16), None, 5, out),
            Encoding::Q4_1 => {
                let (fit, min) = affine(x, w, 15);
                pack(fit, Some(min), 4, out);
            }
            Encoding::Q5_1 => {
                let (fit, min) = affine(x, w, 31);
                pack(fit, Some(min), 5, out);
            }
            _ => unreachable!("encodes() was asked first"),
        }
    }
}

/// Partial sums that are independent of one another.
const LANES: usize = 8;

type Fit = (f32, [u8; BLOCK]);

/// x ~ scale * (code - half), code in 0..2 * half.
#[inline(always)]
fn symmetric(x: &[f32], w: &[f32], half: i32) -> Fit {
    let (x, w) = (&x[..BLOCK], &w[..BLOCK]);
    let extreme = x.iter().copied().fold(0f32, |m, v| if v.abs() > m.abs() { v } else { m });
    if extreme == 0.0 {
        return (0.0, [half as u8; BLOCK]);
    }
    let mut best = (f32::INFINITY, (0.0, [0u8; BLOCK]));
    for step in -TRIES..=TRIES {
        let inverse = -(half as f32 + 0.18 * step as f32) / extreme;
        let code = |v: f32| nearest(v * inverse).clamp(-half as f32, (half - 1) as f32);
        let (mut xqs, mut qqs) = ([0f32; LANES], [0f32; LANES]);
        for i in 0..BLOCK {
            let q = code(x[i]);
            xqs[i % LANES] += w[i] * x[i] * q;
            qqs[i % LANES] += w[i] * q * q;
        }
        let (xq, qq) = (xqs.iter().sum::<f32>(), qqs.iter().sum::<f32>());
        if qq <= 0.0 {
            continue;
        }
        let scale = f16::from_f32(xq / qq).to_f32();
        let mut errors = [0f32; LANES];
        for i in 0..BLOCK {
            let gap = x[i] - scale * code(x[i]);
            errors[i % LANES] += w[i] * gap * gap;
        }
        let error: f32 = errors.iter().sum();
        if error < best.0 {
            let mut codes = [0u8; BLOCK];
            for (c, v) in codes.iter_mut().zip(x) {
                *c = (code(*v) as i32 + half) as u8;
            }
            best = (error, (scale, codes));
        }
    }
    best.1
}

/// x ~ scale * code + min, code in 0..=top.
#[inline(always)]
fn affine(x: &[f32], w: &[f32], top: i32) -> (Fit, f32) {
    let (x, w) = (&x[..BLOCK], &w[..BLOCK]);
    let (low, high) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    if high <= low {
        return ((0.0, [0u8; BLOCK]), low);
    }
    let mut best = (f32::INFINITY, ((0.0, [0u8; BLOCK]), low));
    for step in -TRIES..=TRIES {
        let inverse = (top as f32 + 0.18 * step as f32) / (high - low);
        let code = |v: f32| nearest((v - low) * inverse).clamp(0.0, top as f32);
        let mut sums = [[0f32; LANES]; 5];
        for i in 0..BLOCK {
            let (q, lane) = (code(x[i]), i % LANES);
            sums[0][lane] += w[i];
            sums[1][lane] += w[i] * q;
            sums[2][lane] += w[i] * q * q;
            sums[3][lane] += w[i] * x[i];
            sums[4][lane] += w[i] * x[i] * q;
        }
        let [sw, sq, sqq, sx, sxq] = sums.map(|lanes| lanes.iter().sum::<f32>());
        let determinant = sw * sqq - sq * sq;
        if determinant <= 0.0 {
            continue;
        }
        let scale = f16::from_f32((sw * sxq - sq * sx) / determinant).to_f32();
        let min = f16::from_f32((sqq * sx - sq * sxq) / determinant).to_f32();
        let mut errors = [0f32; LANES];
        for i in 0..BLOCK {
            let gap = x[i] - scale * code(x[i]) - min;
            errors[i % LANES] += w[i] * gap * gap;
        }
        let error: f32 = errors.iter().sum();
        if error < best.0 {
            let mut codes = [0u8; BLOCK];
            for (c, v) in codes.iter_mut().zip(x) {
                *c = code(*v) as u8;
            }
            best = (error, ((scale, codes), min));
        }
    }
    best.1
}

/// ggml's layout: scale, min, the fifth bits as a 32-bit word, then low nibbles of i and i + 16 in one byte.
fn pack((scale, codes): Fit, min: Option<f32>, bits: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
    if let Some(min) = min {
        out.extend_from_slice(&f16::from_f32(min).to_le_bytes());
    }
    if bits == 5 {
        let high = codes.iter().enumerate().fold(0u32, |word, (i, c)| word | (u32::from(c >> 4) << i));
        out.extend_from_slice(&high.to_le_bytes());
    }
    for i in 0..BLOCK / 2 {
        out.push((codes[i] & 15) | ((codes[i + BLOCK / 2] & 15) << 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::Stored;
    use proptest::prelude::*;

    /// Weighted squared error after a round trip through the bytes and candle's own decoder.
    fn error(encoding: Encoding, bytes: &[u8], x: &[f32], w: &[f32]) -> f32 {
        let stored = Stored::from_bytes(encoding, bytes, 1, x.len()).unwrap();
        let mut back = vec![0f32; x.len()];
        stored.dequantize(0..1, &mut back);
        x.iter().zip(&back).zip(w).map(|((a, b), w)| w * (a - b).powi(2)).sum()
    }

    proptest! {
        #[test]
        fn importance_never_makes_the_weighted_error_worse(
            x in prop::collection::vec(-1f32..1.0, 64), w in prop::collection::vec(0.01f32..10.0, 64),
        ) {
            for encoding in [Encoding::Q4_0, Encoding::Q4_1, Encoding::Q5_0, Encoding::Q5_1] {
                let mut weighted = Vec::new();
                encode(encoding, &x, &w, &mut weighted);
                let plain = Stored::from_floats(encoding, &x, 1, 64).unwrap().to_bytes();
                prop_assert_eq!(weighted.len(), plain.len());
                let (ours, theirs) = (error(encoding, &weighted, &x, &w), error(encoding, &plain, &x, &w));
                prop_assert!(ours <= theirs * 1.02 + 1e-6, "{}: {} > {}", encoding.name(), ours, theirs);
            }
        }
    }
}

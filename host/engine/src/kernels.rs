//! Inner loops on float32 rows, each beside its plain twin. The bodies are written so that the compiler vectorises them,
//! and compiled twice: for the oldest x86-64, and for AVX2 with FMA, chosen at run time. `FUSED` says whether a product and a
//! sum are one instruction.

/// Compiles a body for AVX2 too, and picks at run time.
macro_rules! multiversion {
    ($(#[$doc:meta])* $name:ident, $avx2:ident, $body:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $avx2($($arg: $ty),*) $(-> $ret)? {
            $body::<true>($($arg),*)
        }

        $(#[$doc])*
        pub(crate) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            if crate::lanes::has_avx2() {
                // SAFETY: the features were just detected.
                return unsafe { $avx2($($arg),*) };
            }
            $body::<false>($($arg),*)
        }
    };
}

/// a * b + c.
#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Where there is no such instruction, `mul_add` would be a call.
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

const LANES: usize = 16;

/// Sum of products, in plain order.
#[cfg(test)]
pub(crate) fn dot_plain(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[inline(always)]
fn dot_body<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 2 * LANES];
    let (mut xs, mut ys) = (a.chunks_exact(2 * LANES), b.chunks_exact(2 * LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
            *s = fma::<FUSED>(*x, *y, *s);
        }
    }
    let tail: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    total(sums) + tail
}

/// The sum of all lanes, halves onto halves: one after another would take longer than the products.
#[inline(always)]
fn total<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// exp for arguments of at most 0, to about 2e-7 relative: 2^n times a polynomial (Cephes' expf).
#[inline(always)]
fn exp_nonpositive<const FUSED: bool>(x: f32) -> f32 {
    let x = if x > -87.0 { x } else { -87.0 };
    // Adding 1.5 x 2^23 leaves no room for a fraction: what remains is a whole number, in the lowest bits.
    const MAGIC: f32 = 12_582_912.0;
    let whole = fma::<FUSED>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = whole - MAGIC;
    let r = fma::<FUSED>(n, -0.693_359_4, x);
    let r = fma::<FUSED>(n, 2.121_944_4e-4, r);
    let p = fma::<FUSED>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = fma::<FUSED>(p, r, 8.333_452e-3);
    let p = fma::<FUSED>(p, r, 4.166_579_6e-2);
    let p = fma::<FUSED>(p, r, 1.666_666_5e-1);
    let p = fma::<FUSED>(p, r, 5e-1);
    let y = fma::<FUSED>(p * r, r, r) + 1.0;
    y * f32::from_bits((whole.to_bits() << 23).wrapping_add(1f32.to_bits()))
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (l, s) in lanes.iter_mut().zip(chunk) {
            *l = if *s > *l { *s } else { *l };
        }
    }
    chunks.remainder().iter().chain(&lanes).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// softmax by its definition; the reference for [`softmax`].
#[cfg(test)]
pub(crate) fn softmax_plain(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = (*s - top).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
}

#[inline(always)]
fn exponentials_body<const FUSED: bool>(scores: &mut [f32], scale: f32) -> f32 {
    let top = largest(scores);
    let exponential = |s: f32| {
        let e = exp_nonpositive::<FUSED>((s - top) * scale);
        if s == f32::NEG_INFINITY { 0.0 } else { e }
    };
    let mut sums = [0f32; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, s) in sums.iter_mut().zip(chunk) {
            *s = exponential(*s);
            *sum += *s;
        }
    }
    let mut sum = total(sums);
    for s in chunks.into_remainder() {
        *s = exponential(*s);
        sum += *s;
    }
    sum
}

multiversion!(
    /// exp(scale x (score - the largest)) in place, for a scale above 0; scores of negative infinity become 0. Gives back
    /// the sum, by which softmax would divide.
    exponentials, exponentials_avx2, exponentials_body(scores: &mut [f32], scale: f32) -> f32
);

/// softmax in place.
pub(crate) fn softmax(scores: &mut [f32]) {
    let inverse = 1.0 / exponentials(scores, 1.0);
    scores.iter_mut().for_each(|s| *s *= inverse);
}

#[inline(always)]
fn log_sum_exp_body<const FUSED: bool>(row: &[f32]) -> f32 {
    let top = largest(row);
    let mut sums = [0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, s) in sums.iter_mut().zip(chunk) {
            *sum += exp_nonpositive::<FUSED>(*s - top);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|s| exp_nonpositive::<FUSED>(*s - top)).sum();
    top + (total(sums) + tail).ln()
}

multiversion!(
    /// ln(sum(exp(row))): what turns a logit into a log-probability.
    log_sum_exp, log_sum_exp_avx2, log_sum_exp_body(row: &[f32]) -> f32
);

/// Sum of exp(p - top) * (p - q), the part of the divergence that needs both rows.
#[inline(always)]
fn weighted_gap_body<const FUSED: bool>(p: &[f32], q: &[f32], log_sum: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (mut ps, mut qs) = (p.chunks_exact(LANES), q.chunks_exact(LANES));
    let term = |p: f32, q: f32| exp_nonpositive::<FUSED>(p - log_sum) * (p - q);
    for (p, q) in (&mut ps).zip(&mut qs) {
        for ((sum, p), q) in sums.iter_mut().zip(p).zip(q) {
            *sum += term(*p, *q);
        }
    }
    let tail: f32 = ps.remainder().iter().zip(qs.remainder()).map(|(p, q)| term(*p, *q)).sum();
    total(sums) + tail
}

multiversion!(
    weighted_gap, weighted_gap_avx2, weighted_gap_body(p: &[f32], q: &[f32], log_sum: f32) -> f32
);

#[inline(always)]
fn sigmoid_one<const FUSED: bool>(x: f32) -> f32 {
    // exp of a non-positive argument only: 1 / (1 + e^-x) for x >= 0, e^x / (1 + e^x) below.
    let e = exp_nonpositive::<FUSED>(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

#[inline(always)]
fn silu_one<const FUSED: bool>(x: f32) -> f32 {
    x * sigmoid_one::<FUSED>(x)
}

#[inline(always)]
fn tanh_one<const FUSED: bool>(x: f32) -> f32 {
    // Near 0 the difference of two numbers near 1 would lose digits: there it is the power series.
    let square = x * x;
    let near = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let far = 2.0 * sigmoid_one::<FUSED>(2.0 * x) - 1.0;
    if square < 0.0225 { near } else { far }
}

/// The root of 2 / pi, and the factor of the cube, in gelu by tanh.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// By tanh; (1 + tanh(u)) / 2 is the sigmoid of 2 u.
#[inline(always)]
fn gelu_tanh_one<const FUSED: bool>(x: f32) -> f32 {
    x * sigmoid_one::<FUSED>(2.0 * ROOT * (x + CUBIC * x * x * x))
}

#[inline(always)]
fn silu_slope_one<const FUSED: bool>(x: f32) -> f32 {
    let s = sigmoid_one::<FUSED>(x);
    s * (1.0 + x * (1.0 - s))
}

#[inline(always)]
fn gelu_tanh_slope_one<const FUSED: bool>(x: f32) -> f32 {
    let s = sigmoid_one::<FUSED>(2.0 * ROOT * (x + CUBIC * x * x * x));
    s + x * s * (1.0 - s) * 2.0 * ROOT * (1.0 + 3.0 * CUBIC * x * x)
}

/// Functions of single numbers on slices.
macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident, $avx2:ident, $body:ident = $one:expr;)*) => {$(
        #[inline(always)]
        fn $body<const FUSED: bool>(x: &[f32], out: &mut [f32]) {
            out.iter_mut().zip(x).for_each(|(o, x)| *o = $one(*x));
        }
        multiversion!($(#[$doc])* $name, $avx2, $body(x: &[f32], out: &mut [f32]));
    )*};
}

elementwise! {
    /// 1 / (1 + exp(-x)).
    sigmoid, sigmoid_avx2, sigmoid_body = sigmoid_one::<FUSED>;
    /// The hyperbolic tangent.
    tanh, tanh_avx2, tanh_body = tanh_one::<FUSED>;
    /// x * sigmoid(x).
    silu, silu_avx2, silu_body = silu_one::<FUSED>;
    /// gelu by the hyperbolic tangent (arXiv 1606.08415, section 2).
    gelu_tanh, gelu_tanh_avx2, gelu_tanh_body = gelu_tanh_one::<FUSED>;
    /// d silu(x) / dx.
    silu_slope, silu_slope_avx2, silu_slope_body = silu_slope_one::<FUSED>;
    /// d gelu(x) / dx, by tanh.
    gelu_tanh_slope, gelu_tanh_slope_avx2, gelu_tanh_slope_body = gelu_tanh_slope_one::<FUSED>;
}

/// The same, times another number.
macro_rules! gated {
    ($($(#[$doc:meta])* $name:ident, $avx2:ident, $body:ident = $one:expr;)*) => {$(
        #[inline(always)]
        fn $body<const FUSED: bool>(gate: &[f32], up: &[f32], out: &mut [f32]) {
            out.iter_mut().zip(gate).zip(up).for_each(|((o, g), u)| *o = $one(*g) * u);
        }
        multiversion!($(#[$doc])* $name, $avx2, $body(gate: &[f32], up: &[f32], out: &mut [f32]));
    )*};
}

gated! {
    /// silu(gate) * up.
    mul_silu, mul_silu_avx2, mul_silu_body = silu_one::<FUSED>;
    /// gelu(gate) * up, by tanh.
    mul_gelu_tanh, mul_gelu_tanh_avx2, mul_gelu_tanh_body = gelu_tanh_one::<FUSED>;
}

#[inline(always)]
fn cap_body<const FUSED: bool>(scores: &mut [f32], cap: f32) {
    scores.iter_mut().for_each(|s| *s = tanh_one::<FUSED>(*s / cap) * cap);
}

multiversion!(
    /// tanh(score / cap) * cap, in place.
    cap, cap_avx2, cap_body(scores: &mut [f32], cap: f32)
);

#[inline(always)]
fn root_mean_square_norm_body<const FUSED: bool>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let inverse = 1.0 / (dot_body::<FUSED>(x, x) / x.len() as f32 + epsilon).sqrt();
    for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
        *o = x * inverse * w;
    }
}

multiversion!(
    /// x over its root mean square, times the weight.
    root_mean_square_norm, root_mean_square_norm_avx2,
    root_mean_square_norm_body(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32])
);

#[inline(always)]
fn root_mean_square_norm_back_body<const FUSED: bool>(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    d_weight: &mut [f32],
) {
    let n = x.len() as f32;
    let inverse = 1.0 / (dot_body::<FUSED>(x, x) / n + epsilon).sqrt();
    let mut sums = [0f32; LANES];
    let (mut xs, mut ws, mut ds) = (x.chunks_exact(LANES), weight.chunks_exact(LANES), dy.chunks_exact(LANES));
    for ((x, w), d) in (&mut xs).zip(&mut ws).zip(&mut ds) {
        for (((sum, x), w), d) in sums.iter_mut().zip(x).zip(w).zip(d) {
            *sum = fma::<FUSED>(x * w, *d, *sum);
        }
    }
    let rest = xs.remainder().iter().zip(ws.remainder()).zip(ds.remainder());
    let sum = total(sums) + rest.map(|((x, w), d)| x * w * d).sum::<f32>();
    let along = sum * inverse * inverse / n;
    for (((dx, x), d), w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
        *dx += inverse * (d * w - x * along);
    }
    for ((to, x), d) in d_weight.iter_mut().zip(x).zip(dy) {
        *to += d * x * inverse;
    }
}

multiversion!(
    /// Adds the gradients of a norm by the root of the mean square, of x and of the weight, from that of what came out.
    root_mean_square_norm_back, root_mean_square_norm_back_avx2,
    root_mean_square_norm_back_body(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32], d_weight: &mut [f32])
);

/// x less its mean over its standard deviation, times the weight, plus the bias.
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32, out: &mut [f32]) {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / x.len() as f32;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
        *o = (x - mean) * inverse * w;
    }
    if let Some(bias) = bias {
        out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
    }
}

/// x times the normal distribution function at x.
pub(crate) fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2))) as f32
}

/// KL(p || q) in nats of the distributions whose logits are given.
pub(crate) fn divergence(p: &[f32], q: &[f32]) -> f32 {
    let (log_p, log_q) = (log_sum_exp(p), log_sum_exp(q));
    (weighted_gap(p, q, log_p) - log_p + log_q).max(0.0)
}

/// Index of the largest number; the first of equals.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let top = largest(row);
    row.iter().position(|v| *v == top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_softmax_equals_the_plain_one(mut scores in prop::collection::vec(-30f32..30.0, 1..100)) {
            let mut plain = scores.clone();
            softmax_plain(&mut plain);
            softmax(&mut scores);
            for (a, b) in scores.iter().zip(&plain) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }

        #[test]
        fn fast_functions_equal_their_definitions(values in prop::collection::vec(prop_oneof![-12f32..12.0, -0.3f32..0.3, -90f32..90.0], 1..40)) {
            let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
            type Fast = fn(&[f32], &mut [f32]);
            let functions: [(Fast, &dyn Fn(f64) -> f64); 4] = [
                (sigmoid, &|x| 1.0 / (1.0 + (-x).exp())),
                (tanh, &f64::tanh),
                (gelu_tanh, &gelu),
                (silu, &|x| x / (1.0 + (-x).exp())),
            ];
            for (i, (fast, definition)) in functions.into_iter().enumerate() {
                let mut out = vec![0f32; values.len()];
                fast(&values, &mut out);
                for (x, found) in values.iter().zip(&out) {
                    let expected = definition(f64::from(*x));
                    let tolerance = 2e-6 * expected.abs() + 1e-9 * f64::from(x.abs()).max(1.0);
                    prop_assert!((f64::from(*found) - expected).abs() < tolerance + 1e-7 * expected.abs(), "function {} of {}: {} is not {}", i, x, found, expected);
                }
            }
        }

        #[test]
        fn divergence_equals_its_definition(pairs in prop::collection::vec((-8f32..8.0, -8f32..8.0), 1..100)) {
            let (p, q): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let normal = |x: &[f32]| -> Vec<f64> {
                let sum: f64 = x.iter().map(|v| f64::from(*v).exp()).sum();
                x.iter().map(|v| f64::from(*v).exp() / sum).collect()
            };
            let expected: f64 = normal(&p).iter().zip(normal(&q)).map(|(a, b)| a * (a / b).ln()).sum();
            prop_assert!((f64::from(divergence(&p, &q)) - expected).abs() < 1e-4);
        }
    }
}

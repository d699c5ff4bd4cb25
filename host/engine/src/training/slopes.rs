//! Gradients of functions of single numbers, of norms and of softmax, row by row.

/// d gelu(x) / dx of the form with erf.
pub(super) fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let below = 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2));
    (below + x * density) as f32
}

/// Adds the gradients of one group of a norm by mean and variance: of x, and of the weight.
pub(super) fn layer_norm(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32], d_weight: &mut [f32]) {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    let level = dy.iter().zip(weight).map(|(d, w)| d * w).sum::<f32>() / n;
    let along = x.iter().zip(dy).zip(weight).map(|((x, d), w)| (x - mean) * inverse * d * w).sum::<f32>() / n;
    for (((dx, x), d), w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
        *dx += inverse * (d * w - level - (x - mean) * inverse * along);
    }
    for ((to, x), d) in d_weight.iter_mut().zip(x).zip(dy) {
        *to += d * (x - mean) * inverse;
    }
}

/// Adds the gradient of one row of softmax, of which `y` came out.
pub(super) fn softmax(y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let whole: f32 = y.iter().zip(dy).map(|(y, d)| y * d).sum();
    for ((dx, y), d) in dx.iter_mut().zip(y).zip(dy) {
        *dx += y * (d - whole);
    }
}

//! The optimiser: AdamW (Loshchilov and Hutter, arXiv 1711.05101), with a learning rate for each parameter.

use super::network::Parameter;
use super::options::TrainingOptions;
use rayon::prelude::*;

/// Running means of one parameter's gradient and of its square.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Moments {
    pub fn of(parameter: &Parameter) -> Self {
        let zeros = || vec![0f32; parameter.value.len()];
        Self { first: zeros(), second: zeros() }
    }
}

/// The norm of all gradients together.
pub(super) fn gradient_norm(parameters: &[Parameter]) -> f64 {
    let squares = |p: &Parameter| p.gradient.iter().map(|d| f64::from(*d) * f64::from(*d)).sum::<f64>();
    parameters.iter().map(squares).sum::<f64>().sqrt()
}

/// One update, counted from 0; gradients are multiplied by `factor` first and are zeros afterwards. `rates` are factors on the
/// learning rate.
pub(super) fn update(
    parameters: &mut [Parameter],
    moments: &mut [Moments],
    rates: &[f64],
    options: &TrainingOptions,
    step: usize,
    factor: f64,
) {
    let (beta1, beta2) = options.betas;
    let unbiased = |beta: f64| 1.0 - beta.powf((step + 1) as f64);
    let (first_bias, second_bias) = (unbiased(beta1), unbiased(beta2).sqrt());
    for ((parameter, moments), rate) in parameters.iter_mut().zip(moments).zip(rates) {
        let rate = options.learning_rate_at(step) * rate;
        let decay = (1.0 - rate * options.weight_decay) as f32;
        let (size, factor, epsilon) = ((rate / first_bias) as f32, factor as f32, options.epsilon as f32);
        let (b1, b2, root) = (beta1 as f32, beta2 as f32, second_bias as f32);
        let numbers = parameter.value.par_iter_mut().zip(&mut parameter.gradient);
        let numbers = numbers.zip(&mut moments.first).zip(&mut moments.second).with_min_len(1 << 14);
        numbers.for_each(|(((w, d), m), v)| {
            let gradient = *d * factor;
            *d = 0.0;
            *m = b1 * *m + (1.0 - b1) * gradient;
            *v = b2 * *v + (1.0 - b2) * gradient * gradient;
            *w = *w * decay - size * *m / (v.sqrt() / root + epsilon);
        });
    }
}

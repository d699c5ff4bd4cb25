//! What training makes smaller.

use crate::kernels;
use rayon::prelude::*;

/// What the logits of each row should say.
pub(super) enum Goal<'a> {
    /// The next token.
    Tokens(&'a [u32]),
    /// What a teacher's logits say, `[rows, vocabulary]`, both over the temperature.
    Teacher { logits: &'a [f32], temperature: f32 },
}

/// The sum over rows of weight x loss, in nats: cross-entropy with the next token, or the square of the temperature times the
/// divergence from the teacher (Hinton et al., arXiv 1503.02531). `logits` `[rows, vocabulary]` become their gradients,
/// times `scale`.
pub(super) fn loss(logits: &mut [f32], weights: &[f32], goal: &Goal<'_>, scale: f32) -> f64 {
    let vocabulary = logits.len() / weights.len().max(1);
    let rows = logits.par_chunks_mut(vocabulary.max(1)).zip(weights).enumerate();
    let losses = rows.map(|(row, (logits, weight))| match goal {
        Goal::Tokens(targets) => {
            let target = targets[row] as usize;
            let log_sum = kernels::log_sum_exp(logits);
            let loss = log_sum - logits[target];
            kernels::softmax(logits);
            logits[target] -= 1.0;
            let factor = weight * scale;
            logits.iter_mut().for_each(|d| *d *= factor);
            f64::from(loss * weight)
        }
        Goal::Teacher { logits: teacher, temperature } => {
            let over = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| x / temperature).collect() };
            let (mut p, mut q) = (over(&teacher[row * vocabulary..][..vocabulary]), over(logits));
            let loss = kernels::divergence(&p, &q) * temperature * temperature;
            kernels::softmax(&mut p);
            kernels::softmax(&mut q);
            let factor = weight * scale * temperature;
            logits.iter_mut().zip(&q).zip(&p).for_each(|((d, q), p)| *d = (q - p) * factor);
            f64::from(loss * weight)
        }
    });
    // In order, so that the same sum comes out whatever the threads do.
    losses.collect::<Vec<f64>>().into_iter().sum()
}

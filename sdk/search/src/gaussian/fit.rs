//! Hyperparameters: the most likely ones, by steps whose sizes depend on the signs of the gradient only (iRprop-; Igel, Huesken
//! 2003), which nothing about its size can mislead.

use super::kernel::{Groups, Hyper, Kernel};
use super::{Data, Process};
use crate::cholesky::{Cholesky, product};
use crate::rows::Row;

/// Standard deviations of the logarithms of length scales before anything is known, ...
const LENGTHS: f64 = 1.0;
/// ... and of signal, noise and linear weights.
const VARIANCES: [f64; 3] = [0.7, 1.5, 1.5];

/// How a process is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Steps of the optimiser.
    pub steps: usize,
}

/// What conditioning gives.
pub struct Posterior {
    /// Factor of K.
    pub cholesky: Cholesky,
    /// K^-1 y.
    pub pulls: Vec<f64>,
    /// Logarithm of the marginal likelihood.
    pub evidence: f64,
}

/// Fits hyperparameters from where `start` is, and conditions on the rows.
pub fn fit(
    groups: &Groups,
    rows: &[Row],
    target: &[f64],
    variances: &[f64],
    start: &Hyper,
    options: &Options,
) -> Process {
    let data = Data::new(groups, rows, target, variances);
    let prior = Hyper::prior(groups);
    let mut at = start.clone();
    let mut best = (f64::NEG_INFINITY, at.clone());
    let mut sizes: Vec<f64> = vec![0.2; at.logarithms.len()];
    let mut before: Vec<f64> = vec![0.0; at.logarithms.len()];
    for _ in 0..options.steps {
        let (value, gradient) = objective(&data, &at, &prior);
        if value > best.0 {
            best = (value, at.clone());
        }
        for (i, slope) in gradient.into_iter().enumerate() {
            let agreement = slope * before[i];
            if agreement > 0.0 {
                sizes[i] = (sizes[i] * 1.2).min(1.0);
            } else if agreement < 0.0 {
                sizes[i] *= 0.5;
            }
            before[i] = if agreement < 0.0 { 0.0 } else { slope };
            let step = if before[i] == 0.0 { 0.0 } else { sizes[i] * before[i].signum() };
            // Beyond four deviations of the prior there is nothing to be found.
            let middle = prior.logarithms[i];
            at.logarithms[i] = (at.logarithms[i] + step).clamp(middle - 4.0, middle + 4.0);
        }
    }
    Process::of(&data, &best.1)
}

/// Conditions on data; where K is not positive definite in floating point, noise is added until it is.
pub fn posterior(data: &Data, hyper: &Hyper) -> Posterior {
    let size = data.rows.len();
    let kernel = Kernel::new(&data.groups, hyper);
    let mut matrix = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..i {
            let linear = hyper.linear() * data.differences.inner(i, j);
            matrix[i * size + j] = kernel.by_groups(data.differences.pair(i, j)).0 + linear;
        }
        matrix[i * size + i] = kernel.at(&data.rows[i]) + hyper.noise() + data.variances[i] + 1e-9;
    }
    let mut extra = 1e-8 * hyper.signal();
    let cholesky = loop {
        if let Some(cholesky) = Cholesky::new(&matrix, size) {
            break cholesky;
        }
        (0..size).for_each(|i| matrix[i * size + i] += extra);
        extra *= 10.0;
        if extra > 1e3 * hyper.signal() {
            // Something in it is no number: the rows say nothing.
            matrix.fill(0.0);
            (0..size).for_each(|i| matrix[i * size + i] = 1.0);
        }
    };
    let pulls = cholesky.solve(&data.target);
    let constant = size as f64 * std::f64::consts::TAU.ln();
    let evidence = -0.5 * (product(&data.target, &pulls) + cholesky.log_determinant() + constant);
    Posterior { cholesky, pulls, evidence }
}

/// Logarithm of the posterior density of hyperparameters, up to a constant, and its gradient.
pub fn objective(data: &Data, hyper: &Hyper, prior: &Hyper) -> (f64, Vec<f64>) {
    let size = data.rows.len();
    let groups = data.groups.count();
    let Posterior { cholesky, pulls, evidence } = posterior(data, hyper);
    let inverse = cholesky.inverse();
    let kernel = Kernel::new(&data.groups, hyper);
    // d evidence / d theta = tr((a a' - K^-1) dK / d theta) / 2, each pair of rows counted twice.
    let mut gradient = vec![0.0; hyper.logarithms.len()];
    let (mut diagonal, mut linear) = (0.0, 0.0);
    for i in 0..size {
        for j in 0..i {
            let pull = pulls[i] * pulls[j] - inverse[i * size + j];
            let differences = data.differences.pair(i, j);
            let values = kernel.by_groups(differences);
            for (group, difference) in differences.iter().enumerate() {
                if *difference > 0.0 {
                    gradient[group] += pull * kernel.derivative(group, *difference, values);
                }
            }
            gradient[groups] += pull * values.0;
            linear += pull * data.differences.inner(i, j);
        }
        let pull = pulls[i] * pulls[i] - inverse[i * size + i];
        linear += 0.5 * pull * data.differences.inner(i, i);
        diagonal += pull;
    }
    gradient[groups] += 0.5 * diagonal * hyper.signal();
    gradient[groups + 1] = 0.5 * diagonal * hyper.noise();
    gradient[groups + 2] = linear * hyper.linear();
    let mut value = evidence;
    for (i, (log, middle)) in hyper.logarithms.iter().zip(&prior.logarithms).enumerate() {
        let deviation = if i < groups { LENGTHS } else { VARIANCES[i - groups] };
        let away = (log - middle) / deviation;
        value -= 0.5 * away * away;
        gradient[i] -= away / deviation;
    }
    (value, gradient)
}

//! Ridge regression on weighted rows with random prior weights, in the space of rows: there are fewer of them than features.

use crate::Random;
use crate::cholesky::{Cholesky, product};
use crate::rows::{Row, dot};

/// Square of the constant feature: how far the mean may be from 0, in prior variances of a weight.
const CONSTANT: f64 = 4.0;
/// How much a square counts: from the middle to an end it changes by a quarter of that.
const CURVE: f64 = 3.0;
/// Candidates for the variance of what a linear model leaves, in variances of the target.
const NOISES: [f64; 3] = [0.02, 0.15, 0.6];

/// A linear model.
#[derive(Debug, Clone)]
pub struct Linear {
    weights: Vec<f64>,
    constant: f64,
}

/// A row with the squares of what lies on a scale, from -1/2 to 1/2, as features of their own: many settings are best
/// somewhere in the middle.
pub fn curved(row: &[(usize, f64)], width: usize) -> Row {
    let squares = row.iter().filter(|(_, v)| v.abs() < 1.0).map(|(feature, v)| (width + feature, CURVE * v * v));
    row.iter().copied().chain(squares).collect()
}

/// Inner products of all pairs of rows, the constant feature among them.
pub fn gram(rows: &[Row]) -> Vec<f64> {
    let mut gram = vec![0.0; rows.len() * rows.len()];
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows[..=i].iter().enumerate() {
            let value = dot(a, b) + CONSTANT;
            gram[i * rows.len() + j] = value;
            gram[j * rows.len() + i] = value;
        }
    }
    gram
}

/// Most rows of which errors are asked for: the work grows with their cube.
const ASKED: usize = 70;

/// Inverse covariances of the targets of some rows, one for each candidate for the variance of the residual.
pub struct Residuals {
    known: Vec<usize>,
    /// Those of them that the covariances are of.
    asked: Vec<usize>,
    inverses: Vec<(f64, Vec<f64>)>,
}

impl Residuals {
    /// For targets that are known in these rows.
    pub fn new(gram: &[f64], size: usize, known: Vec<usize>, weight: f64) -> Self {
        let asked: Vec<usize> = known.iter().copied().step_by(known.len().div_ceil(ASKED).max(1)).collect();
        let inverse = |noise: f64| {
            let matrix = system(gram, size, &asked, weight, |_| noise);
            Some((noise, Cholesky::new(&matrix, asked.len())?.inverse()))
        };
        Self { inverses: NOISES.into_iter().filter_map(inverse).collect(), known, asked }
    }

    /// The rows.
    pub fn known(&self) -> &[usize] {
        &self.known
    }

    /// The variance with the least leave-one-out error, which for linear smoothers is known in closed form.
    pub fn noise(&self, target: &[f64]) -> f64 {
        let y: Vec<f64> = self.asked.iter().map(|i| target[*i]).collect();
        let error = |inverse: &Vec<f64>| {
            let rows = inverse.chunks(y.len().max(1)).enumerate();
            rows.map(|(i, row)| (product(row, &y) / row[i]).powi(2)).sum::<f64>()
        };
        let errors = self.inverses.iter().map(|(noise, inverse)| (*noise, error(inverse)));
        errors.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(NOISES[1], |(noise, _)| noise)
    }
}

/// Covariance of the targets of some rows.
fn system(gram: &[f64], size: usize, of: &[usize], weight: f64, noise: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut matrix = Vec::with_capacity(of.len() * of.len());
    for i in of {
        for j in of {
            matrix.push(weight * weight * gram[i * size + j] + if i == j { noise(*i) } else { 0.0 });
        }
    }
    matrix
}

impl Linear {
    /// Fits rows that weigh something, towards random weights; `prior` is the residual's variance and the standard deviation
    /// of the weights.
    pub fn fit(
        rows: &[Row],
        width: usize,
        gram: &[f64],
        target: &[f64],
        weights: &[f64],
        (noise, weight): (f64, f64),
        random: &mut Random,
    ) -> Self {
        let constant = 0.0;
        if weight <= 0.0 {
            return Self { weights: vec![0.0; width], constant };
        }
        let mut linear = Self { weights: (0..width).map(|_| weight * random.normal()).collect(), constant };
        let used: Vec<usize> = (0..rows.len()).filter(|i| weights[*i] > 0.0).collect();
        let matrix = system(gram, rows.len(), &used, weight, |i| noise / weights[i]);
        let Some(cholesky) = Cholesky::new(&matrix, used.len()) else { return linear };
        let rest: Vec<f64> = used.iter().map(|i| target[*i] - linear.predict(&rows[*i])).collect();
        for (i, pull) in used.iter().zip(cholesky.solve(&rest)) {
            let pull = pull * weight * weight;
            rows[*i].iter().for_each(|(feature, value)| linear.weights[*feature] += pull * value);
            linear.constant += pull * CONSTANT;
        }
        linear
    }

    /// The value at a row.
    pub fn predict(&self, row: &[(usize, f64)]) -> f64 {
        self.constant + row.iter().map(|(feature, value)| self.weights[*feature] * value).sum::<f64>()
    }
}

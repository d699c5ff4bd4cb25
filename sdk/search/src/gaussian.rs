//! Gaussian process regression on mixed features (Rasmussen, Williams: Gaussian Processes for Machine Learning, 2006): Matern
//! 5/2 on scales times an exponential of weighted differences elsewhere (Hutter et al. 2011), with a length scale for each
//! group of features, and a linear part: what two features do together is, as long as nothing else is known, the sum of what
//! each does. Hyperparameters are fitted by the marginal likelihood under priors that few rows need.

mod fit;
mod kernel;

use crate::cholesky::{Cholesky, product};
use crate::rows::{Row, center_and_spread, dense};
pub use fit::{Options, fit};
use fit::{Posterior, posterior};
use kernel::{Differences, Kernel};
pub use kernel::{Groups, Hyper};

/// A process conditioned on rows.
#[derive(Debug, Clone)]
pub struct Process {
    groups: Groups,
    rows: Vec<Vec<f64>>,
    hyper: Hyper,
    cholesky: Cholesky,
    /// K^-1 y.
    pulls: Vec<f64>,
    /// Leave-one-out errors of the rows whose target is known, in standard deviations of the target.
    left_out: Vec<f64>,
    center: f64,
    spread: f64,
    evidence: f64,
}

impl Process {
    /// Conditions on rows whose targets are known, with variances of their own besides the noise that all share.
    pub fn new(groups: &Groups, rows: &[Row], target: &[f64], variances: &[f64], hyper: &Hyper) -> Self {
        let data = Data::new(groups, rows, target, variances);
        Self::of(&data, hyper)
    }

    fn of(data: &Data, hyper: &Hyper) -> Self {
        let Posterior { cholesky, pulls, evidence } = posterior(data, hyper);
        let diagonal = cholesky.inverse_diagonal();
        let size = data.rows.len();
        // Leave-one-out in closed form (Sundararajan, Keerthi 2001): the error is the pull over the diagonal.
        let left_out = (0..size).map(|i| pulls[i] / diagonal[i]).collect();
        Self {
            groups: data.groups.clone(),
            rows: data.rows.clone(),
            hyper: hyper.clone(),
            cholesky,
            pulls,
            left_out,
            center: data.center,
            spread: data.spread,
            evidence,
        }
    }

    /// Mean and standard deviation, without noise, of the target at a row of all numbers.
    pub fn predict(&self, row: &[f64]) -> (f64, f64) {
        let kernel = Kernel::new(&self.groups, &self.hyper);
        let near: Vec<f64> = self.rows.iter().map(|other| kernel.between(row, other)).collect();
        let explained = self.cholesky.forward(&near);
        let variance = (kernel.at(row) - product(&explained, &explained)).max(1e-12);
        (self.center + self.spread * product(&near, &self.pulls), self.spread * variance.sqrt())
    }

    /// Root mean square error of each row predicted from all others, in the target's unit.
    pub fn error(&self) -> f64 {
        self.error_of_first(self.left_out.len())
    }

    /// The same of the first of the rows whose target is known.
    pub fn error_of_first(&self, count: usize) -> f64 {
        let squares: f64 = self.left_out[..count].iter().map(|error| error * error).sum();
        (squares / count.max(1) as f64).sqrt() * self.spread
    }

    /// Standard deviation of the target among the rows.
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// Logarithm of the marginal likelihood of the standardised targets.
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    /// The hyperparameters.
    pub fn hyper(&self) -> &Hyper {
        &self.hyper
    }
}

/// What a process is conditioned on, in standard deviations of the target.
struct Data {
    groups: Groups,
    rows: Vec<Vec<f64>>,
    target: Vec<f64>,
    variances: Vec<f64>,
    differences: Differences,
    center: f64,
    spread: f64,
}

impl Data {
    fn new(groups: &Groups, rows: &[Row], target: &[f64], variances: &[f64]) -> Self {
        let known: Vec<usize> = (0..rows.len()).filter(|i| target[*i].is_finite()).collect();
        let (center, spread) = center_and_spread(target);
        let own = |i: &usize| (variances[*i] / spread / spread).clamp(0.0, 10.0);
        let rows: Vec<Vec<f64>> = known.iter().map(|i| dense(&rows[*i], groups.width())).collect();
        Self {
            differences: Differences::new(groups, &rows),
            groups: groups.clone(),
            target: known.iter().map(|i| (target[*i] - center) / spread).collect(),
            variances: known.iter().map(own).collect(),
            rows,
            center,
            spread,
        }
    }
}

#[cfg(test)]
mod tests;

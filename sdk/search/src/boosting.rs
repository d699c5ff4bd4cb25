//! Gradient-boosted regression trees with uncertainty, for tens of rows: an ensemble of small models, each a linear model and
//! boosted trees of what that leaves (Friedman: Greedy Function Approximation, 2001), each trained on a bootstrap sample.
//!
//! Trees alone know nothing of what was never varied, and add up no two effects that were not seen together. The linear part
//! does both, and each member's is drawn to random weights of its own where data say nothing (randomised priors; Osband,
//! Aslanides, Cassirer 2018): members disagree about techniques that were not tried.

mod linear;
mod table;
mod tree;

use crate::Random;
use crate::normal::Belief;
use crate::rows::{Row, center_and_spread};
use linear::{Linear, Residuals};
use table::Table;
use tree::Tree;

/// How ensembles are made; [`Default`] suits tens to hundreds of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Models of an ensemble.
    pub members: usize,
    /// Trees of a model.
    pub trees: usize,
    /// Share of what is left that a tree takes away.
    pub rate: f64,
    /// Share of the features that a tree may split by.
    pub features: f64,
    /// Standard deviation of a linear weight before anything is known, in standard deviations of the target; 0 is trees alone.
    pub weight: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { members: 12, trees: 12, rate: 0.2, features: 0.5, weight: 0.4 }
    }
}

/// One member's model of one target, in standard deviations of the target.
#[derive(Debug, Clone)]
struct Member {
    linear: Linear,
    trees: Vec<Tree>,
}

/// A model of one target.
#[derive(Debug, Clone)]
pub struct Ensemble {
    members: Vec<Member>,
    center: f64,
    spread: f64,
    /// Root mean square of the errors on rows that a member was not trained on, in units of the target.
    error: f64,
    /// Factor from the members' disagreement to the deviation that errors on unseen rows show.
    calibration: f64,
}

/// Ensembles for several targets of the same rows, some of whose values may be missing (not a number).
pub fn fit(rows: &[Row], width: usize, targets: &[Vec<f64>], options: &Options, random: &mut Random) -> Vec<Ensemble> {
    let table = Table::new(rows, width);
    let curved: Vec<Row> = rows.iter().map(|row| linear::curved(row, width)).collect();
    let gram = linear::gram(&curved);
    let mut residuals: Option<Residuals> = None;
    let mut fit = |target: &Vec<f64>| {
        let known: Vec<usize> = (0..rows.len()).filter(|i| target[*i].is_finite()).collect();
        // Most targets are known in the same rows.
        let residuals = match residuals.take().filter(|made| made.known() == known) {
            Some(made) => residuals.insert(made),
            None => residuals.insert(Residuals::new(&gram, rows.len(), known, options.weight)),
        };
        Ensemble::fit(&curved, &table, &gram, residuals, target, options, random)
    };
    targets.iter().map(&mut fit).collect()
}

impl Ensemble {
    fn fit(
        rows: &[Row],
        table: &Table,
        gram: &[f64],
        residuals: &Residuals,
        target: &[f64],
        options: &Options,
        random: &mut Random,
    ) -> Self {
        let known = residuals.known();
        let (center, spread) = center_and_spread(target);
        let scaled: Vec<f64> = target.iter().map(|y| (y - center) / spread).collect();
        let noise = residuals.noise(&scaled);
        let mut ensemble = Self { members: Vec::new(), center, spread, error: spread, calibration: 1.0 };
        if known.is_empty() {
            return ensemble;
        }
        // Of each row the predictions of members that were not trained on it.
        let mut unseen: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
        for _ in 0..options.members {
            let mut weights = vec![0.0; rows.len()];
            known.iter().for_each(|_| weights[*random.pick(known)] += 1.0);
            let linear = Linear::fit(rows, 2 * table.width(), gram, &scaled, &weights, (noise, options.weight), random);
            let mut rest: Vec<f64> = rows.iter().zip(&scaled).map(|(row, y)| y - linear.predict(row)).collect();
            let mut trees = Vec::with_capacity(options.trees);
            for _ in 0..options.trees {
                let tree = Tree::fit(table, &rest, &weights, options, random);
                rest.iter_mut().enumerate().for_each(|(row, rest)| *rest -= tree.predict(table.dense(row)));
                trees.push(tree);
            }
            for row in known.iter().filter(|row| weights[**row] == 0.0) {
                unseen[*row].push(scaled[*row] - rest[*row]);
            }
            ensemble.members.push(Member { linear, trees });
        }
        ensemble.calibrate(&scaled, &unseen);
        ensemble
    }

    fn calibrate(&mut self, scaled: &[f64], unseen: &[Vec<f64>]) {
        let (mut error, mut disagreement, mut count) = (0.0, 0.0, 0.0);
        for (y, predicted) in scaled.iter().zip(unseen).filter(|(_, predicted)| predicted.len() > 1) {
            let (mean, variance) = moments(predicted);
            error += (y - mean).powi(2);
            disagreement += variance;
            count += 1.0;
        }
        if count > 0.0 {
            self.error = (error / count).sqrt() * self.spread;
            // Never less than what members disagree about, and no more than three times.
            self.calibration = if disagreement > 0.0 { (error / disagreement).sqrt().clamp(1.0, 3.0) } else { 1.0 };
        }
    }

    /// Mean and standard deviation of the target at a row, given sparse and dense; the deviation is that of what the target
    /// is without noise.
    pub fn predict(&self, row: &[(usize, f64)], dense: &[f64]) -> (f64, f64) {
        if self.members.is_empty() {
            return (self.center, self.spread);
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        let curved = linear::curved(row, dense.len());
        for member in &self.members {
            let value = member.linear.predict(&curved) + member.trees.iter().map(|t| t.predict(dense)).sum::<f64>();
            sum += value;
            squares += value * value;
        }
        let count = self.members.len() as f64;
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0) * count / (count - 1.0).max(1.0);
        (self.center + self.spread * mean, self.spread * self.calibration * variance.sqrt())
    }

    /// The same as a belief about the target, or about what the target is the logarithm of.
    pub fn belief(&self, row: &[(usize, f64)], dense: &[f64], log: bool) -> Belief {
        let (mean, deviation) = self.predict(row, dense);
        Belief { mean, deviation, log }
    }

    /// Root mean square of the errors on rows, each predicted by the members that were not trained on it, in the target's
    /// unit: close to the leave-one-out error (Breiman: Out-of-Bag Estimation, 1996).
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Standard deviation of the target among the rows: the error of who knows the mean only.
    pub fn spread(&self) -> f64 {
        self.spread
    }
}

/// Mean and unbiased variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0))
}

#[cfg(test)]
mod tests;

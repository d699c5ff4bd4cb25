//! Gaussian processes on encoded configurations: groups of features, and hyperparameters that are carried from one ask to the
//! next, so that each costs few steps.

use super::encoding::{Encoding, Kind};
use super::search::gaussian::{self, Groups, Hyper, Options, Process};
use super::search::rows::Row;
use super::surrogate::{Fantasy, Training};

/// Multiplications that fitting may cost at an ask, for all processes together.
const WORK: f64 = 1e7;

/// Hyperparameters of some processes over one space.
#[derive(Debug, Clone)]
pub struct Processes {
    groups: Groups,
    hypers: Vec<Hyper>,
    /// The process whose turn it is to be fitted.
    turn: usize,
}

impl Processes {
    /// As many processes as there are targets; a technique has a length scale for its indicators and one for its scales.
    pub fn new(encoding: &Encoding, count: usize) -> Self {
        let mut kinds: Vec<(usize, bool)> = Vec::new();
        let features = encoding.features().iter().map(|feature| {
            let kind = (feature.technique, feature.kind == Kind::Scale);
            let group = kinds.iter().position(|other| *other == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            (group, if feature.kind == Kind::Level { 0.5 } else { 1.0 })
        });
        let features = features.collect();
        let groups = Groups::new(features, kinds.iter().map(|(_, scale)| *scale).collect());
        Self { hypers: vec![Hyper::prior(&groups); count], groups, turn: 0 }
    }

    /// The same that expect what techniques do to add up, before they know better: so much of the variance is a weight's.
    pub fn additive(encoding: &Encoding, count: usize, linear: f64) -> Self {
        let groups = Self::new(encoding, 0).groups.additive(linear);
        Self { hypers: vec![Hyper::prior(&groups); count], groups, turn: 0 }
    }

    /// Processes conditioned on rows, one a target. With many rows only some are fitted anew each time, in turns.
    pub fn fit(&mut self, rows: &[Row], targets: &[Vec<f64>], variances: &[Vec<f64>]) -> Vec<Process> {
        let size = rows.len() as f64;
        let step = size.powi(3) + 4.0 * size * size * (2 + self.groups.count()) as f64;
        let affordable = (WORK / step.max(1.0)) as usize;
        let count = targets.len().max(1);
        // Fewer than five steps change little: rather fit fewer processes.
        let fitted = (affordable / 5).clamp(1, count);
        let steps = (affordable / fitted).clamp(1, 15);
        let due = |process: usize| (process + count - self.turn) % count < fitted;
        let each = targets.iter().zip(variances).enumerate();
        let processes: Vec<Process> = each
            .map(|(process, (target, variances))| {
                let start = &self.hypers[process];
                if due(process) {
                    gaussian::fit(&self.groups, rows, target, variances, start, &Options { steps })
                } else {
                    Process::new(&self.groups, rows, target, variances, start)
                }
            })
            .collect();
        self.hypers = processes.iter().map(|process| process.hyper().clone()).collect();
        self.turn = (self.turn + fitted) % count;
        processes
    }

    /// Processes of what was told, fantasies included; those do not change what is known of length scales.
    pub fn after(&mut self, training: &Training, fantasies: &[Fantasy]) -> Vec<Process> {
        let Training { rows, targets, variances, .. } = training;
        match fantasies.is_empty() {
            true => self.fit(rows, targets, variances),
            false => self.condition(rows, targets, variances),
        }
    }

    /// Processes conditioned on rows, with the hyperparameters at hand.
    pub fn condition(&self, rows: &[Row], targets: &[Vec<f64>], variances: &[Vec<f64>]) -> Vec<Process> {
        let each = targets.iter().zip(variances).zip(&self.hypers);
        each.map(|((target, variances), hyper)| Process::new(&self.groups, rows, target, variances, hyper)).collect()
    }
}

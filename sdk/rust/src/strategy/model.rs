//! A surrogate of one regressor for each metric: boosted trees, a Gaussian process, or what earlier studies tell.

use super::Search;
use super::earlier::Transfer;
use super::encoding::Encoding;
use super::history::History;
use super::search::boosting::Ensemble;
use super::search::gaussian::Process;
use super::search::normal::Belief;
use super::search::rows::dense;
use super::surrogate::{Applicability, Expectation, Surrogate, Training};

/// What predicts one metric.
#[derive(Debug, Clone)]
pub enum Regressor {
    /// Boosted trees with linear parts.
    Trees(Ensemble),
    /// A Gaussian process.
    Process(Process),
    /// A process of changes in earlier studies, and one of what that gets wrong.
    Transfer(Transfer),
}

impl Regressor {
    /// Root mean square error on trials that it was not trained on, in standard deviations of the metric.
    pub fn error(&self) -> f64 {
        match self {
            Self::Trees(trees) => trees.error() / trees.spread(),
            Self::Process(process) => process.error() / process.spread(),
            Self::Transfer(transfer) => transfer.error(),
        }
    }

    /// What it is, in words.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Trees(_) => "boosted trees",
            Self::Process(_) => "Gaussian process",
            Self::Transfer(_) => "earlier studies",
        }
    }

    fn predict(&self, row: &[(usize, f64)], dense: &[f64]) -> (f64, f64) {
        match self {
            Self::Trees(trees) => trees.predict(row, dense),
            Self::Process(process) => process.predict(dense),
            Self::Transfer(transfer) => transfer.predict(dense),
        }
    }
}

/// Regressors of one state of knowledge.
#[derive(Debug, Clone)]
pub struct Model {
    width: usize,
    /// One a metric of the history, and whether it predicts logarithms.
    metrics: Vec<(Regressor, bool)>,
    applicable: Applicability,
    smooths: bool,
}

impl Model {
    /// Of regressors that were trained on this, one a metric.
    pub fn new(encoding: &Encoding, search: &mut Search, training: &Training, metrics: Vec<Regressor>) -> Self {
        let refused = search.refused().to_vec();
        let noisy = training.variances.iter().flatten().any(|variance| *variance > 0.0);
        Self {
            width: encoding.features().len(),
            smooths: noisy && !metrics.iter().any(|metric| matches!(metric, Regressor::Trees(_))),
            metrics: metrics.into_iter().zip(training.logs.iter().copied()).collect(),
            applicable: Applicability::new(encoding, &search.history, &refused, &mut search.random),
        }
    }
}

impl Surrogate for Model {
    fn expect(&self, row: &[(usize, f64)], history: &History) -> Expectation {
        let dense = dense(row, self.width);
        let belief = |(regressor, log): &(Regressor, bool)| {
            let (mean, deviation) = regressor.predict(row, &dense);
            Belief { mean, deviation, log: *log }
        };
        let metrics = self.metrics.iter().map(belief).collect();
        Expectation::new(history, metrics, self.applicable.of(row, &dense))
    }

    fn quality(&self) -> Vec<(f64, &'static str)> {
        self.metrics.iter().map(|(regressor, _)| (regressor.error(), regressor.words())).collect()
    }

    fn smooths(&self) -> bool {
        self.smooths
    }
}

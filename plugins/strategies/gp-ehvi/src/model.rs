//! Gaussian processes, one a metric.

use aehost_sdk::strategy::Search;
use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::history::History;
use aehost_sdk::strategy::process::Processes;
use aehost_sdk::strategy::search::gaussian::Process;
use aehost_sdk::strategy::search::normal::Belief;
use aehost_sdk::strategy::search::rows::dense;
use aehost_sdk::strategy::surrogate::{Applicability, Expectation, Fantasy, Surrogate, Training};

/// Processes of one state of knowledge.
pub struct Model {
    width: usize,
    /// One a metric of the history, and whether it is one of logarithms.
    metrics: Vec<(Process, bool)>,
    applicable: Applicability,
    noisy: bool,
}

impl Model {
    /// Conditions on what was told, and on fantasies; those do not change what is known of length scales.
    pub fn fit(encoding: &Encoding, search: &mut Search, known: &mut Processes, fantasies: &[Fantasy]) -> Self {
        let Training { rows, targets, variances, logs } = Training::new(encoding, &search.history, fantasies);
        let processes = match fantasies.is_empty() {
            true => known.fit(&rows, &targets, &variances),
            false => known.condition(&rows, &targets, &variances),
        };
        let refused = search.refused().to_vec();
        Self {
            width: encoding.features().len(),
            metrics: processes.into_iter().zip(logs).collect(),
            applicable: Applicability::new(encoding, &search.history, &refused, &mut search.random),
            noisy: variances.iter().flatten().any(|variance| *variance > 0.0),
        }
    }
}

impl Surrogate for Model {
    fn expect(&self, row: &[(usize, f64)], history: &History) -> Expectation {
        let dense = dense(row, self.width);
        let belief = |(process, log): &(Process, bool)| {
            let (mean, deviation) = process.predict(&dense);
            Belief { mean, deviation, log: *log }
        };
        let metrics = self.metrics.iter().map(belief).collect();
        Expectation::new(history, metrics, self.applicable.of(row, &dense))
    }

    fn errors(&self) -> Vec<f64> {
        self.metrics.iter().map(|(process, _)| process.error() / process.spread()).collect()
    }

    fn smooths(&self) -> bool {
        self.noisy
    }
}

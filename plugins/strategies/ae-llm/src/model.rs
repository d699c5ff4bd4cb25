//! Surrogates of boosted trees, one a metric.

use aehost_sdk::strategy::Search;
use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::history::History;
use aehost_sdk::strategy::search::boosting::{self, Ensemble, Options};
use aehost_sdk::strategy::search::rows::dense;
use aehost_sdk::strategy::surrogate::{Applicability, Expectation, Fantasy, Surrogate, Training};

/// From so many rows on a fit must be short.
const MANY: usize = 100;

/// Surrogates of one state of knowledge.
pub struct Model {
    width: usize,
    /// One a metric of the history, and whether it was trained on logarithms.
    metrics: Vec<(Ensemble, bool)>,
    applicable: Applicability,
}

impl Model {
    /// Trains on what was told, and on fantasies.
    pub fn fit(encoding: &Encoding, search: &mut Search, fantasies: &[Fantasy]) -> Self {
        let width = encoding.features().len();
        let Training { rows, targets, logs, .. } = Training::new(encoding, &search.history, fantasies);
        // An ask answers in a few tens of milliseconds at 200 trials.
        let trees = if rows.len() > MANY { Options::default().trees * 2 / 3 } else { Options::default().trees };
        let options = Options { trees, ..Options::default() };
        let ensembles = boosting::fit(&rows, width, &targets, &options, &mut search.random);
        let refused = search.refused().to_vec();
        let applicable = Applicability::new(encoding, &search.history, &refused, &mut search.random);
        Self { width, metrics: ensembles.into_iter().zip(logs).collect(), applicable }
    }
}

impl Surrogate for Model {
    fn expect(&self, row: &[(usize, f64)], history: &History) -> Expectation {
        let dense = dense(row, self.width);
        let metrics = self.metrics.iter().map(|(ensemble, log)| ensemble.belief(row, &dense, *log)).collect();
        Expectation::new(history, metrics, self.applicable.of(row, &dense))
    }

    fn errors(&self) -> Vec<f64> {
        self.metrics.iter().map(|(ensemble, _)| ensemble.error() / ensemble.spread()).collect()
    }
}

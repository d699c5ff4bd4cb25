//! Surrogates: of each metric boosted trees, a Gaussian process or what earlier studies tell, whichever predicts trials best that
//! it has not seen.

use aehost_sdk::strategy::Search;
use aehost_sdk::strategy::earlier::{Earlier, Transfer};
use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::model::{Model, Regressor};
use aehost_sdk::strategy::process::Processes;
use aehost_sdk::strategy::search::boosting::{self, Ensemble, Options};
use aehost_sdk::strategy::search::gaussian::Process;
use aehost_sdk::strategy::surrogate::{Fantasy, Training};

/// From so many rows on a fit must be short, for an ask at 200 trials to take less than 200 ms.
const MANY: usize = 100;
/// From so many rows on earlier studies tell nothing that was not learnt here, and would cost time.
const ENOUGH: usize = 40;
/// A process knows its length scales from the very trials that it is judged by: its error must be smaller by this.
const MARGIN: f64 = 0.9;

/// What is kept from one ask to the next.
pub struct Surrogates {
    /// Of what was told.
    pub processes: Processes,
    /// Of earlier studies, where there are any.
    pub earlier: Option<Earlier>,
}

impl Surrogates {
    /// Trains on what was told, and on fantasies.
    pub fn fit(&mut self, encoding: &Encoding, search: &mut Search, fantasies: &[Fantasy]) -> Model {
        let earlier = self.earlier.as_ref().filter(|_| search.history.measured().count() < ENOUGH);
        let logs = |metric| earlier.and_then(|earlier| earlier.multiplies(metric));
        let training = Training::with_logs(encoding, &search.history, fantasies, logs);
        let trees =
            if training.rows.len() > MANY { Options::default().trees * 2 / 3 } else { Options::default().trees };
        let options = Options { trees, ..Options::default() };
        let Training { rows, targets, .. } = &training;
        let trees = boosting::fit(rows, encoding.features().len(), targets, &options, &mut search.random);
        let processes = self.processes.after(&training, fantasies);
        let transfers = match &mut self.earlier {
            Some(earlier) if rows.len() < ENOUGH => earlier.after(&training, &search.history, fantasies),
            _ => vec![None; trees.len()],
        };
        let metrics = trees.into_iter().zip(processes).zip(transfers);
        let metrics = metrics.map(|((trees, process), transfer)| best(trees, process, transfer)).collect();
        Model::new(encoding, search, &training, metrics)
    }
}

fn best(trees: Ensemble, process: Process, transfer: Option<Transfer>) -> Regressor {
    let (trees, process) = (Regressor::Trees(trees), Regressor::Process(process));
    let own = if process.error() < MARGIN * trees.error() { process } else { trees };
    // What is known of trials that are much alike is no measure of what is known of others.
    let better = transfer.filter(|transfer| transfer.is_alone() || transfer.error() < own.error());
    better.map_or(own, Regressor::Transfer)
}

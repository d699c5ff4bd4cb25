//! What other studies of a store found, for strategies that start warm.

use crate::observed::history;
use crate::{MetricValue, Observation, Observed, Store, StoreError, StudyRecord};
use serde::{Deserialize, Serialize};

/// Trials of all studies together, at most: asks must stay short.
const TRIALS: usize = 60;
/// A study with fewer trials, its baseline included, tells nothing.
const LEAST: usize = 4;

/// What a study measured in full, its baseline first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlierStudy {
    /// Its name.
    pub name: String,
    /// Name or path of its model.
    pub model: String,
    /// cpu or cuda:N.
    pub device: String,
    /// Of the metrics that matter now, in that study's own numbers.
    pub observations: Vec<Observation>,
}

impl Store {
    /// What other studies measured of the metrics and with the techniques of this one, the latest study first.
    ///
    /// # Errors
    /// Where the store cannot be read. A single study that cannot be read is passed over.
    pub fn earlier(&self, record: &StudyRecord) -> Result<Vec<EarlierStudy>, StoreError> {
        let mut studies = Vec::new();
        let mut room = TRIALS;
        for summary in self.list()?.into_iter().rev().filter(|summary| summary.name != record.name) {
            let (Ok(other), Ok(trials)) = (self.study(&summary.name), self.trials(&summary.name)) else { continue };
            let told = history(&other, &trials).into_iter().filter_map(|observation| fitting(record, observation));
            let observations: Vec<Observation> = told.take(room).collect();
            let begins = observations.first().is_some_and(|first| first.configuration.0.is_empty());
            if begins && observations.len() >= LEAST {
                room -= observations.len();
                let StudyRecord { name, model, device, .. } = other;
                studies.push(EarlierStudy { name, model, device, observations });
            }
        }
        Ok(studies)
    }
}

/// What an observation of another study tells about this one's objectives and constraints; none where a technique is none of
/// this one's, an objective is missing, or not all data were used.
fn fitting(record: &StudyRecord, observation: Observation) -> Option<Observation> {
    let known = |id: &str| record.space.iter().any(|technique| technique.description.identity.id == id);
    let fits = observation.fidelity >= 1.0 && observation.configuration.0.iter().all(|choice| known(&choice.technique));
    let Observed::Measured { metrics } = observation.outcome else { return None };
    let wanted = |value: &MetricValue| {
        let (objectives, constraints) = (&record.objectives, &record.constraints);
        objectives.iter().any(|o| o.metric == value.metric) || constraints.iter().any(|c| c.metric == value.metric)
    };
    let metrics: Vec<MetricValue> = metrics.into_iter().filter(wanted).collect();
    let complete = record.objectives.iter().all(|o| metrics.iter().any(|value| value.metric == o.metric));
    (fits && complete).then_some(Observation { outcome: Observed::Measured { metrics }, ..observation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{measured, study, trial};
    use crate::metrics;

    #[test]
    fn what_other_studies_measured_is_found_and_what_does_not_fit_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("s.db")).unwrap();
        let outcome = |accuracy| {
            let costs = [(metrics::END_TO_END, 100.0), (metrics::PEAK_MEMORY, 1e6), ("latency.prefill_ms", 5.0)];
            measured(&[&[("multiple-choice.acc", accuracy)][..], &costs].concat())
        };
        for (name, trials) in [("long", 6), ("short", 2)] {
            store.create(&study(name)).unwrap();
            for id in 0..trials {
                let technique = if id == 5 { "gone" } else { "a" };
                let settings = [(technique, id as i64)];
                let trial = trial(id, if id == 0 { &[] } else { &settings }, outcome(0.5));
                store.append(name, Some(&trial), &[]).unwrap();
            }
        }
        let now = study("now");
        let found = store.earlier(&now).unwrap();
        assert_eq!(found.iter().map(|s| (s.name.as_str(), s.observations.len())).collect::<Vec<_>>(), [("long", 5)]);
        let Observed::Measured { metrics: told } = &found[0].observations[1].outcome else { panic!("it was measured") };
        let mut told: Vec<&str> = told.iter().map(|value| value.metric.as_str()).collect();
        told.sort_unstable();
        let mut wanted = vec!["multiple-choice.acc", metrics::END_TO_END, metrics::PEAK_MEMORY, metrics::ACCURACY_DROP];
        wanted.sort_unstable();
        assert_eq!(told, wanted);
        assert!(store.earlier(&study("long")).unwrap().is_empty(), "a study does not tell itself");
    }
}

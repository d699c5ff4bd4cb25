//! What other studies found, those of a store and those that come with the program, for strategies that start warm.

use crate::observed::history;
use crate::{Observation, Observed, Store, StoreError, StudyRecord, Trial};
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
    /// All metrics, in that study's own numbers.
    pub observations: Vec<Observation>,
}

/// Each technique alone on small models, as `benches/techniques.py --study` measures them: what who knows the field would
/// expect before the first trial.
const REFERENCE: [&str; 2] =
    [include_str!("../reference/smollm2-135m-instruct.json"), include_str!("../reference/gemma-3-270m.json")];

impl EarlierStudy {
    /// All that was measured of a study.
    pub fn new(record: &StudyRecord, trials: &[Trial]) -> Self {
        let mut observations = history(record, trials);
        observations.retain(|observation| matches!(observation.outcome, Observed::Measured { .. }));
        let StudyRecord { name, model, device, .. } = record.clone();
        Self { name, model, device, observations }
    }

    /// What it tells about another study, in `room` trials at most; none where that is too little.
    fn about(mut self, record: &StudyRecord, room: usize) -> Option<Self> {
        self.observations.retain(|observation| fits(record, observation));
        self.observations.truncate(room);
        let begins = self.observations.first().is_some_and(|first| first.configuration.0.is_empty());
        (begins && self.observations.len() >= LEAST).then_some(self)
    }
}

impl Store {
    /// What other studies tell about this one: the store's own, the latest first, and then those that come with the program.
    ///
    /// # Errors
    /// Where the store cannot be read. A single study that cannot be read is passed over.
    pub fn earlier(&self, record: &StudyRecord) -> Result<Vec<EarlierStudy>, StoreError> {
        let names = self.list()?.into_iter().rev().map(|summary| summary.name).filter(|name| *name != record.name);
        let stored =
            names.filter_map(|name| Some(EarlierStudy::new(&self.study(&name).ok()?, &self.trials(&name).ok()?)));
        let mut studies: Vec<EarlierStudy> = Vec::new();
        for study in stored.chain(reference()) {
            let room = TRIALS - studies.iter().map(|study| study.observations.len()).sum::<usize>();
            if room < LEAST {
                break;
            }
            studies.extend(study.about(record, room));
        }
        Ok(studies)
    }
}

/// The studies that come with the program.
fn reference() -> impl Iterator<Item = EarlierStudy> {
    REFERENCE.iter().map(|text| serde_json::from_str(text).expect("it was written by this program"))
}

/// Whether an observation of another study tells something about this one: of techniques that both have, an objective, on all
/// data.
fn fits(record: &StudyRecord, observation: &Observation) -> bool {
    let known = |id: &str| record.space.iter().any(|technique| technique.description.identity.id == id);
    let Observed::Measured { metrics } = &observation.outcome else { return false };
    let wanted = record.objectives.iter().any(|o| metrics.iter().any(|value| value.metric == o.metric));
    wanted && observation.fidelity >= 1.0 && observation.configuration.0.iter().all(|choice| known(&choice.technique))
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
        let mut all = vec![
            "multiple-choice.acc",
            "latency.prefill_ms",
            metrics::END_TO_END,
            metrics::PEAK_MEMORY,
            metrics::ACCURACY_DROP,
        ];
        all.sort_unstable();
        assert_eq!(told, all);
        assert!(store.earlier(&study("long")).unwrap().is_empty(), "a study does not tell itself");
    }

    #[test]
    fn studies_that_come_with_the_program_tell_what_default_studies_ask() {
        let asked = [
            "multiple-choice.acc_norm",
            metrics::END_TO_END,
            metrics::PEAK_MEMORY,
            metrics::ACCURACY_DROP,
            "divergence.mean_kl",
        ];
        for study in reference() {
            assert!(
                study.observations.len() > 15 && study.observations[0].configuration.0.is_empty(),
                "{}",
                study.name
            );
            for observation in &study.observations {
                assert!(observation.configuration.0.len() < 2, "{observation:?}");
                let Observed::Measured { metrics } = &observation.outcome else { panic!("{observation:?}") };
                for metric in asked {
                    assert!(
                        metrics.iter().any(|value| value.metric == metric),
                        "{metric} is missing in {observation:?}"
                    );
                }
            }
        }
    }
}

//! Which comparisons with trials of the front the noise leaves open. A trial of the front is better than any other one in some
//! objective; where it is significantly better in none, it may be there by luck, and the other one may dominate it.

use crate::stats::difference;
use crate::{Measurement, Measurements, StudyRecord, Trial, TrialId, metrics};
use aehost_common::Direction;

/// How sure it must be that a difference is no luck.
const CONFIDENCE: f64 = 0.95;
/// Share by which the peak memory of equal processes differs: up to 0.9 % between trials of a study and what confirmed them.
const PEAK_NOISE: f64 = 0.01;

/// The `others` that may dominate `trial`: it is significantly better than them in no objective.
pub(crate) fn may_dominate<'a>(
    record: &StudyRecord,
    trial: &Trial,
    others: impl IntoIterator<Item = &'a Trial>,
) -> Vec<TrialId> {
    let Some(own) = trial.outcome.measurements() else { return Vec::new() };
    let open = |other: &&Trial| {
        let measured = other.outcome.measurements();
        other.id != trial.id && measured.is_some_and(|other| !is_better(record, own, other))
    };
    others.into_iter().filter(open).map(|other| other.id).collect()
}

/// Whether `own` is significantly better than `other` in an objective.
fn is_better(record: &StudyRecord, own: &Measurements, other: &Measurements) -> bool {
    record.objectives.iter().any(|objective| {
        // A loss against one baseline is the smaller, the better the accuracy.
        let drop = objective.metric == metrics::ACCURACY_DROP;
        let metric = if drop { &record.accuracy_metric } else { &objective.metric };
        let (own, other) = (own.metrics.get(metric), other.metrics.get(metric));
        own.zip(other).is_some_and(|(own, other)| is_significant(metric, own, other))
    })
}

fn is_significant(metric: &str, own: &Measurement, other: &Measurement) -> bool {
    // Items are the same for both, repeats are not.
    let paired = metrics::built_in_unit(metric).is_none();
    let Some(mut gain) = difference(other, own, paired) else { return false };
    if own.direction == Direction::Maximize {
        gain.value = -gain.value;
    }
    if metric == metrics::PEAK_MEMORY {
        gain.value += PEAK_NOISE * own.value;
    }
    gain.value < 0.0 && gain.probability_at_most(0.0) >= CONFIDENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fixtures::{study, trial};

    /// Of as many items right and others wrong, latencies around a middle, and a peak of memory.
    fn measured(id: u64, right: usize, latency: f64, peak: f64) -> Trial {
        let items: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < right))).collect();
        let repeats = [-1.0, 0.0, 1.0, -0.5, 0.5].map(|x| latency + x).to_vec();
        let metrics = [
            ("multiple-choice.acc", Measurement::of_items(items, vec![], "identity", "share", Direction::Maximize)),
            (metrics::END_TO_END, Measurement::of_repeats(repeats, "ms", Direction::Minimize)),
            (metrics::PEAK_MEMORY, Some(Measurement::exact(peak, "bytes", Direction::Minimize))),
        ];
        let metrics = metrics.into_iter().map(|(name, metric)| (name.to_owned(), metric.unwrap())).collect();
        trial(id, &[], Outcome::Ok { measurements: Measurements { metrics, ..Measurements::default() } })
    }

    #[test]
    fn a_trial_that_is_better_within_the_noise_only_may_be_dominated() {
        let record = study("s");
        let of = |own: &Trial, other: &Trial| !may_dominate(&record, own, [other]).is_empty();
        let plain = measured(1, 50, 100.0, 1000.0);
        // One item, half a millisecond, half a percent of memory: nothing of it is sure.
        assert!(of(&measured(2, 51, 99.5, 995.0), &plain));
        // Eight of eight items that differ, five milliseconds, or two percent of memory are.
        for better in [measured(2, 58, 101.0, 1000.0), measured(2, 40, 95.0, 1000.0), measured(2, 40, 101.0, 980.0)] {
            assert!(!of(&better, &plain));
        }
        assert!(of(&plain, &measured(2, 58, 95.0, 1000.0)), "what is dominated for sure");
        assert!(!of(&plain, &plain), "not by itself");
    }
}

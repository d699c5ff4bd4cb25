//! Names of the metrics that every study has, apart from those of its evaluators, and the short forms in which people
//! write them.

use crate::{ACCURACY, Objective};
use aehost_common::{Direction, Metric};

/// Milliseconds from the prompt to the last token.
pub const END_TO_END: &str = "latency.e2e_ms";
/// Largest resident memory of the trial.
pub const PEAK_MEMORY: &str = "memory.peak_bytes";
/// Bytes of the weights in the form in which they run.
pub const WEIGHTS_MEMORY: &str = "memory.weights_bytes";
/// Bytes of the caches in the study's scenario.
pub const CACHE_MEMORY: &str = "memory.cache_bytes";
/// Joules for each generated token.
pub const ENERGY: &str = "energy.joules_per_token";
/// Percent of the baseline's accuracy that was lost; computed by the study from the accuracy metric.
pub const ACCURACY_DROP: &str = "accuracy.drop";

/// Tokens that were gone through to train the configuration; what it costs to make, and not to use.
pub const TRAINING_TOKENS: &str = "training.tokens";

const BUILT_IN: [(&str, &str, Direction); 11] = [
    ("latency.ttft_ms", "ms", Direction::Minimize),
    ("latency.tpot_ms", "ms", Direction::Minimize),
    (END_TO_END, "ms", Direction::Minimize),
    ("throughput.prefill_tokens_per_s", "tokens/s", Direction::Maximize),
    ("throughput.decode_tokens_per_s", "tokens/s", Direction::Maximize),
    ("throughput.tokens_per_step", "tokens/step", Direction::Maximize),
    (PEAK_MEMORY, "bytes", Direction::Minimize),
    (WEIGHTS_MEMORY, "bytes", Direction::Minimize),
    (CACHE_MEMORY, "bytes", Direction::Minimize),
    (ENERGY, "J", Direction::Minimize),
    (ACCURACY_DROP, "%", Direction::Minimize),
];

/// The metrics that every study has: the meter's, and the accuracy drop.
pub fn built_in() -> Vec<Metric> {
    BUILT_IN.iter().map(|&(name, unit, direction)| Metric { name: name.into(), unit: unit.into(), direction }).collect()
}

/// The metric of studies that have training data.
pub fn of_training() -> Metric {
    Metric { name: TRAINING_TOKENS.into(), unit: "tokens".into(), direction: Direction::Minimize }
}

/// The unit of a built-in metric.
pub(crate) fn built_in_unit(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(n, ..)| *n == name).map(|&(_, unit, _)| unit)
}

/// The full name of a metric from what people write: `memory.peak` is `memory.peak_bytes`, `accuracy drop` is
/// `accuracy.drop`. Names that are not built in come back as they are.
pub fn canonical(words: &str) -> String {
    let dotted = words.split_whitespace().collect::<Vec<_>>().join(".");
    let matching = |name: &&str| {
        **name == dotted
            || ["_ms", "_bytes", "_tokens_per_s", ".joules_per_token"]
                .iter()
                .any(|unit| name.strip_suffix(unit) == Some(dotted.as_str()))
    };
    BUILT_IN.iter().map(|(name, ..)| *name).find(matching).map_or_else(|| dotted.clone(), str::to_owned)
}

/// An objective that names no metric of the study.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("objective `{metric}` is no metric of this study; it measures: {known}")]
pub struct UnknownObjective {
    /// As it was written.
    pub metric: String,
    /// All metrics.
    pub known: String,
}

impl Objective {
    /// The objective that people write as `accuracy`, `latency.e2e` or a full name, with the metric's direction.
    pub fn resolve(words: &str, accuracy_metric: &str, known: &[Metric]) -> Result<Self, UnknownObjective> {
        let name = if words.trim() == ACCURACY { accuracy_metric.to_owned() } else { canonical(words) };
        match known.iter().find(|m| m.name == name) {
            Some(metric) => Ok(Self { metric: name, direction: metric.direction }),
            None => Err(UnknownObjective {
                metric: words.trim().to_owned(),
                known: known.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_stand_for_full_names() {
        for (short, full) in [
            ("memory.peak", PEAK_MEMORY),
            ("latency.tpot", "latency.tpot_ms"),
            ("latency.tpot_ms", "latency.tpot_ms"),
            ("accuracy drop", ACCURACY_DROP),
            ("energy", ENERGY),
            ("throughput.decode", "throughput.decode_tokens_per_s"),
            ("perplexity.token", "perplexity.token"),
        ] {
            assert_eq!(canonical(short), full);
        }
    }

    #[test]
    fn objectives_take_the_direction_of_their_metric() {
        let accuracy =
            Metric { name: "multiple-choice.acc".into(), unit: "share".into(), direction: Direction::Maximize };
        let known: Vec<Metric> = [accuracy].into_iter().chain(built_in().into_iter().skip(9)).collect();
        let resolve = |words| Objective::resolve(words, "multiple-choice.acc", &known);
        let accuracy = resolve("accuracy").unwrap();
        assert_eq!((accuracy.metric.as_str(), accuracy.direction), ("multiple-choice.acc", Direction::Maximize));
        assert_eq!(resolve("energy").unwrap().metric, ENERGY);
        assert_eq!(
            resolve("speed").unwrap_err().to_string(),
            "objective `speed` is no metric of this study; it measures: multiple-choice.acc, energy.joules_per_token, \
             accuracy.drop"
        );
    }
}

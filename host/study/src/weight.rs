//! What counts in the efficiency score, and how much: `latency.e2e=2`.

use crate::{Objective, metrics};
use aehost_common::Metric;
use serde::{Deserialize, Serialize};

/// How much savings of one metric count in the efficiency score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// The metric by its full name.
    pub metric: String,
    /// Its share of all weights is its exponent in the geometric mean.
    pub weight: f64,
}

/// Why a weight makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// No number above 0 after an equals sign.
    #[error("weight \"{0}\" is not METRIC=NUMBER with a number above 0")]
    Form(String),
    /// The metric may be 0, and has no ratio.
    #[error("weight \"{0}\": a loss may be 0 and has no ratio; weigh `accuracy` instead")]
    Drop(String),
    /// A metric that the study does not measure.
    #[error("weight \"{text}\": `{metric}` is no metric of this study; it measures: {known}")]
    Metric {
        /// The weight.
        text: String,
        /// The metric as it was written.
        metric: String,
        /// All metrics.
        known: String,
    },
}

impl Weight {
    /// Latency, peak memory, and energy where it is measured, each as much as the others.
    pub fn default_ones() -> [Self; 3] {
        [metrics::END_TO_END, metrics::PEAK_MEMORY, metrics::ENERGY].map(|m| Self { metric: m.into(), weight: 1.0 })
    }

    /// Reads `METRIC=NUMBER`; the metric as in objectives.
    ///
    /// # Errors
    /// When it has another form, or the study does not measure the metric.
    pub fn resolve(text: &str, accuracy_metric: &str, known: &[Metric]) -> Result<Self, WeightError> {
        let form = || WeightError::Form(text.to_owned());
        let (words, number) = text.split_once('=').ok_or_else(form)?;
        let weight = number.trim().parse().ok().filter(|w: &f64| w.is_finite() && *w > 0.0).ok_or_else(form)?;
        let objective = Objective::resolve(words, accuracy_metric, known).map_err(|unknown| WeightError::Metric {
            text: text.to_owned(),
            metric: unknown.metric,
            known: unknown.known,
        })?;
        if objective.metric == metrics::ACCURACY_DROP {
            return Err(WeightError::Drop(text.to_owned()));
        }
        Ok(Self { metric: objective.metric, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_people_write_them() {
        let record = crate::fixtures::study("s");
        let resolve = |text| Weight::resolve(text, &record.accuracy_metric, &record.metrics);
        let read = |text| resolve(text).map(|w| (w.metric, w.weight)).unwrap();
        assert_eq!(read("latency.e2e=2"), (metrics::END_TO_END.to_owned(), 2.0));
        assert_eq!(read("accuracy = 0.5"), ("multiple-choice.acc".to_owned(), 0.5));
        for wrong in ["latency.e2e", "latency.e2e=fast", "latency.e2e=0", "latency.e2e=-1", "latency.e2e=inf"] {
            assert_eq!(resolve(wrong), Err(WeightError::Form(wrong.into())));
        }
        assert_eq!(resolve("accuracy drop=1"), Err(WeightError::Drop("accuracy drop=1".into())));
        let unknown = resolve("speed=1").unwrap_err().to_string();
        assert!(unknown.starts_with("weight \"speed=1\": `speed` is no metric of this study"), "{unknown}");
    }
}

//! Hard limits on metrics, written as people say them: `memory.peak <= 150 MiB`, `accuracy drop <= 1.2 %`. The text is
//! the serialised form; metric, direction and bound follow from it.

use crate::metrics;
use aehost_common::Metric;
use serde::{Deserialize, Serialize};

/// One hard limit. A trial is feasible when it satisfies all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    /// The metric by its full name.
    pub metric: String,
    /// Whether the bound is the largest allowed value; otherwise it is the smallest.
    pub at_most: bool,
    /// In the metric's own unit (bytes, ms, J, percent for the accuracy drop).
    pub bound: f64,
    /// As it was written.
    pub text: String,
}

/// Why a constraint makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// No `<=` or `>=`.
    #[error("constraint \"{0}\" has no operator: write METRIC <= BOUND or METRIC >= BOUND")]
    Operator(String),
    /// The bound is no number.
    #[error("constraint \"{text}\": `{bound}` is not a finite number")]
    Bound {
        /// The constraint.
        text: String,
        /// What stands in the number's place.
        bound: String,
    },
    /// A unit that does not exist.
    #[error("constraint \"{text}\": unknown unit `{unit}`; known units: {known}")]
    Unit {
        /// The constraint.
        text: String,
        /// What stands in the unit's place.
        unit: String,
        /// All units.
        known: String,
    },
    /// A unit of another quantity.
    #[error("constraint \"{text}\": `{unit}` does not measure {metric}, which is in {expected}")]
    Mismatch {
        /// The constraint.
        text: String,
        /// The unit given.
        unit: String,
        /// The metric.
        metric: String,
        /// The unit of the metric.
        expected: String,
    },
    /// A metric that the study does not measure.
    #[error("constraint \"{text}\": unknown metric `{metric}`; this study measures: {known}")]
    Metric {
        /// The constraint.
        text: String,
        /// The metric's name.
        metric: String,
        /// All metrics.
        known: String,
    },
}

/// Unit, the quantity it measures (as in [`Metric::unit`]), and how many of the quantity's own unit it is.
const UNITS: [(&str, &str, f64); 12] = [
    ("B", "bytes", 1.0),
    ("KB", "bytes", 1e3),
    ("MB", "bytes", 1e6),
    ("GB", "bytes", 1e9),
    ("KiB", "bytes", 1024.0),
    ("MiB", "bytes", 1_048_576.0),
    ("GiB", "bytes", 1_073_741_824.0),
    ("ms", "ms", 1.0),
    ("s", "ms", 1e3),
    ("%", "%", 1.0),
    ("J", "J", 1.0),
    ("tokens/s", "tokens/s", 1.0),
];

impl Constraint {
    /// Reads `METRIC <= BOUND [UNIT]` (or `>=`). Names that are not built in are taken as an evaluator's;
    /// [`Constraint::check`] finds out whether the study measures them.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let text = text.trim();
        let (words, at_most, bound) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((words, bound)), _) => (words, true, bound.trim()),
            (None, Some((words, bound))) => (words, false, bound.trim()),
            (None, None) => return Err(ConstraintError::Operator(text.to_owned())),
        };
        let metric = metrics::canonical(words);
        let (number, unit) = split_unit(bound);
        let number: f64 = number
            .parse()
            .ok()
            .filter(|v: &f64| v.is_finite())
            .ok_or_else(|| ConstraintError::Bound { text: text.to_owned(), bound: bound.to_owned() })?;
        let factor = if unit.is_empty() { 1.0 } else { factor(text, &metric, unit)? };
        Ok(Self { metric, at_most, bound: number * factor, text: text.to_owned() })
    }

    /// Whether the study measures the metric, and the unit fits it.
    pub fn check(&self, known: &[Metric]) -> Result<(), ConstraintError> {
        let Some(metric) = known.iter().find(|m| m.name == self.metric) else {
            return Err(ConstraintError::Metric {
                text: self.text.clone(),
                metric: self.metric.clone(),
                known: known.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", "),
            });
        };
        let unit = self.unit();
        let fits = unit.is_empty()
            || (unit == "%" && metric.unit == "share")
            || UNITS.iter().any(|(name, quantity, _)| *name == unit && *quantity == metric.unit);
        if fits { Ok(()) } else { Err(self.mismatch(unit, &metric.unit)) }
    }

    /// By how much `value` breaks the limit, as a share of the bound (of 1 where the bound is 0); 0 when it holds.
    pub fn violation(&self, value: f64) -> f64 {
        let excess = if self.at_most { value - self.bound } else { self.bound - value };
        if excess.is_nan() {
            return f64::INFINITY;
        }
        let scale = if self.bound == 0.0 { 1.0 } else { self.bound.abs() };
        (excess / scale).max(0.0)
    }

    fn unit(&self) -> &str {
        let bound = self.text.split("<=").nth(1).or_else(|| self.text.split(">=").nth(1)).unwrap_or("");
        split_unit(bound.trim()).1
    }

    fn mismatch(&self, unit: &str, expected: &str) -> ConstraintError {
        ConstraintError::Mismatch {
            text: self.text.clone(),
            unit: unit.to_owned(),
            metric: self.metric.clone(),
            expected: expected.to_owned(),
        }
    }
}

/// `150 MiB` and `150MiB` are 150 and MiB; the exponent of `1e3` belongs to the number.
fn split_unit(bound: &str) -> (&str, &str) {
    let end = (0..=bound.len())
        .rev()
        .filter(|&end| bound.is_char_boundary(end))
        .find(|&end| bound[..end].trim_end().parse::<f64>().is_ok_and(f64::is_finite))
        .unwrap_or(bound.len());
    (bound[..end].trim(), bound[end..].trim())
}

/// What one `unit` is in the metric's own unit. A percentage of an evaluator's share (0 to 1) is a hundredth.
fn factor(text: &str, metric: &str, unit: &str) -> Result<f64, ConstraintError> {
    let Some((_, quantity, factor)) = UNITS.iter().find(|(name, ..)| *name == unit) else {
        return Err(ConstraintError::Unit {
            text: text.to_owned(),
            unit: unit.to_owned(),
            known: UNITS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "),
        });
    };
    match metrics::built_in_unit(metric) {
        Some(own) if own != *quantity => Err(ConstraintError::Mismatch {
            text: text.to_owned(),
            unit: unit.to_owned(),
            metric: metric.to_owned(),
            expected: own.to_owned(),
        }),
        None if *quantity == "%" => Ok(0.01),
        _ => Ok(*factor),
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Constraint {
    type Error = ConstraintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_common::Direction;

    fn known() -> Vec<Metric> {
        let share = Metric { name: "multiple-choice.acc".into(), unit: "share".into(), direction: Direction::Maximize };
        let nats = Metric { name: "perplexity.token".into(), unit: "".into(), direction: Direction::Minimize };
        [share, nats].into_iter().chain(metrics::built_in().into_iter().skip(9)).collect()
    }

    fn message(text: &str) -> String {
        match Constraint::parse(text) {
            Err(error) => error.to_string(),
            Ok(constraint) => constraint.check(&known()).unwrap_err().to_string(),
        }
    }

    #[test]
    fn units_are_converted_to_the_metrics_own() {
        for (text, metric, at_most, bound) in [
            ("memory.peak <= 150 MiB", "memory.peak_bytes", true, 157_286_400.0),
            ("memory.peak<=150MB", "memory.peak_bytes", true, 150e6),
            ("latency.tpot <= 20 ms", "latency.tpot_ms", true, 20.0),
            ("latency.ttft <= 1.5e0 s", "latency.ttft_ms", true, 1500.0),
            ("accuracy drop <= 1.2 %", "accuracy.drop", true, 1.2),
            ("energy.joules_per_token <= 0.5 J", "energy.joules_per_token", true, 0.5),
            ("multiple-choice.acc >= 60 %", "multiple-choice.acc", false, 0.6),
            ("perplexity.token <= 25", "perplexity.token", true, 25.0),
        ] {
            let constraint = Constraint::parse(text).unwrap();
            assert_eq!((constraint.metric.as_str(), constraint.at_most), (metric, at_most), "{text}");
            assert!((constraint.bound - bound).abs() < 1e-9 * bound, "{text}: {}", constraint.bound);
            assert_eq!(constraint.to_string(), text);
        }
    }

    #[test]
    fn the_text_is_the_serialised_form() {
        let constraint = Constraint::parse("memory.peak <= 150 MiB").unwrap();
        let json = serde_json::to_string(&constraint).unwrap();
        assert_eq!(json, r#""memory.peak <= 150 MiB""#);
        assert_eq!(serde_json::from_str::<Constraint>(&json).unwrap(), constraint);
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        assert_eq!(
            message("memory.peak < 150 MiB"),
            "constraint \"memory.peak < 150 MiB\" has no operator: write METRIC <= BOUND or METRIC >= BOUND"
        );
        assert_eq!(message("memory.peak <= much"), "constraint \"memory.peak <= much\": `much` is not a finite number");
        assert_eq!(
            message("memory.peak <= 150 furlongs"),
            "constraint \"memory.peak <= 150 furlongs\": unknown unit `furlongs`; known units: B, KB, MB, GB, KiB, MiB, \
             GiB, ms, s, %, J, tokens/s"
        );
        assert_eq!(
            message("memory.peak <= 150 ms"),
            "constraint \"memory.peak <= 150 ms\": `ms` does not measure memory.peak_bytes, which is in bytes"
        );
        assert_eq!(
            message("latency.p99 <= 20 ms"),
            "constraint \"latency.p99 <= 20 ms\": unknown metric `latency.p99`; this study measures: \
             multiple-choice.acc, perplexity.token, energy.joules_per_token, accuracy.drop"
        );
        assert_eq!(
            message("multiple-choice.acc >= 3 ms"),
            "constraint \"multiple-choice.acc >= 3 ms\": `ms` does not measure multiple-choice.acc, which is in share"
        );
    }

    #[test]
    fn violation_is_the_relative_excess() {
        let most = Constraint::parse("latency.tpot <= 20 ms").unwrap();
        assert_eq!(most.violation(20.0), 0.0);
        assert_eq!(most.violation(25.0), 0.25);
        assert_eq!(most.violation(f64::NAN), f64::INFINITY);
        let least = Constraint::parse("multiple-choice.acc >= 0.5").unwrap();
        assert_eq!(least.violation(0.25), 0.5);
        let zero = Constraint::parse("accuracy drop <= 0 %").unwrap();
        assert_eq!(zero.violation(0.5), 0.5);
    }
}

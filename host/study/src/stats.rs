//! Statistics of measurements: means and medians with their standard errors, and the comparison of a trial with the
//! baseline item by item. Items are compared in pairs because two variants agree on most of them: the spread of the
//! differences is far smaller than that of the items.

#[cfg(test)]
mod tests;

use crate::student::{student_cdf, student_quantile};
use crate::{Measurement, Provenance};
use aehost_common::Direction;
use serde::{Deserialize, Serialize};

/// A number with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error; 0 where a single sample shows no spread.
    pub standard_error: f64,
    /// Degrees of freedom behind the standard error (samples less one).
    pub degrees: f64,
}

impl Estimate {
    /// The interval that covers the true value with probability `confidence`, by Student's t.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        if self.standard_error == 0.0 {
            return (self.value, self.value);
        }
        let reach = student_quantile(0.5 + 0.5 * confidence, self.degrees) * self.standard_error;
        (self.value - reach, self.value + reach)
    }

    /// Probability that the true value is at most `bound`.
    pub fn probability_at_most(&self, bound: f64) -> f64 {
        if self.standard_error == 0.0 {
            return if self.value <= bound { 1.0 } else { 0.0 };
        }
        student_cdf((bound - self.value) / self.standard_error, self.degrees)
    }
}

/// The mean of `samples` with `weights` (empty: equal) and its standard error, that of a ratio estimator:
/// n / (n - 1) * sum(w^2 (x - mean)^2) / sum(w)^2 (Cochran, Sampling Techniques, 3rd ed., section 6.4). None for no samples.
pub fn weighted_mean(samples: &[f64], weights: &[f64]) -> Option<Estimate> {
    let influence = Influence::of(samples, weights)?;
    Some(influence.estimate(|i| influence.at(i)))
}

/// The weighted mean under a measurement's transform, its error by the delta method. None for no samples or an unknown
/// transform.
pub fn transformed_mean(samples: &[f64], weights: &[f64], transform: &str) -> Option<Estimate> {
    let mean = weighted_mean(samples, weights)?;
    match transform {
        "identity" => Some(mean),
        "exp" => {
            let value = mean.value.exp();
            Some(Estimate { value, standard_error: value * mean.standard_error, degrees: mean.degrees })
        }
        _ => None,
    }
}

/// The value below which a share `p` of the samples lies, with linear interpolation (type 7 of Hyndman and Fan 1996).
pub fn percentile(samples: &[f64], p: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = p.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * (position - low as f64))
}

/// The median of the samples.
pub fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 0.5)
}

/// The median and its standard error, sqrt(pi / 2) times that of the mean: right for normal noise, and on the safe side
/// for noise with outliers, which widens the spread more than it moves the median.
pub fn median_estimate(samples: &[f64]) -> Option<Estimate> {
    let value = median(samples)?;
    let mean = weighted_mean(samples, &[])?;
    let standard_error = (std::f64::consts::PI / 2.0).sqrt() * mean.standard_error;
    Some(Estimate { value, standard_error, degrees: mean.degrees })
}

impl Measurement {
    /// A quality metric from one sample an item. None for no samples, an unknown transform or a result that is not finite.
    pub fn of_items(
        samples: Vec<f64>,
        weights: Vec<f64>,
        transform: &str,
        unit: &str,
        direction: Direction,
    ) -> Option<Self> {
        let estimate = transformed_mean(&samples, &weights, transform)?;
        let mut made = Self::exact(estimate.value, unit, direction);
        made.standard_error = estimate.standard_error;
        made.transform = transform.to_owned();
        (made.samples, made.weights) = (samples, weights);
        (made.value.is_finite() && made.standard_error.is_finite()).then_some(made)
    }

    /// A metric of the meter from its repeats; the headline is the median.
    pub fn of_repeats(samples: Vec<f64>, unit: &str, direction: Direction) -> Option<Self> {
        let estimate = median_estimate(&samples)?;
        let mut made = Self::exact(estimate.value, unit, direction);
        made.standard_error = estimate.standard_error;
        made.samples = samples;
        (made.value.is_finite() && made.standard_error.is_finite()).then_some(made)
    }

    /// A metric that does not vary, such as bytes that were counted.
    pub fn exact(value: f64, unit: &str, direction: Direction) -> Self {
        Self {
            value,
            unit: unit.to_owned(),
            direction,
            standard_error: 0.0,
            samples: Vec::new(),
            weights: Vec::new(),
            transform: "identity".to_owned(),
            provenance: Provenance::Measured,
        }
    }

    /// The value with its standard error.
    pub fn estimate(&self) -> Estimate {
        let degrees = (self.samples.len() as f64 - 1.0).max(1.0);
        Estimate { value: self.value, standard_error: self.standard_error, degrees }
    }
}

/// A trial against the baseline on one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Trial less baseline.
    pub difference: Estimate,
    /// Trial over baseline.
    pub ratio: Estimate,
    /// Items (or repeats) compared.
    pub items: usize,
    /// Whether they were compared one by one; otherwise the two errors were added as independent.
    pub paired: bool,
}

/// Compares a trial's quality metric with the baseline's. Samples are paired in order; when one run has more of them, its
/// first ones are used, as [`crate::subset`] orders them. Without samples on both sides, or under unknown transforms,
/// the values are compared as independent. None when the baseline is 0 or a figure is not finite.
pub fn compare(baseline: &Measurement, trial: &Measurement) -> Option<Comparison> {
    let comparison = paired(baseline, trial).or_else(|| independent(baseline, trial))?;
    [comparison.difference, comparison.ratio]
        .iter()
        .all(|e| e.value.is_finite() && e.standard_error.is_finite())
        .then_some(comparison)
}

/// Trial less baseline, by pairs of samples where `pairs` says so and there are some. None when a figure is not finite.
pub(crate) fn difference(baseline: &Measurement, trial: &Measurement, pairs: bool) -> Option<Estimate> {
    let paired = if pairs { paired(baseline, trial) } else { None };
    let difference = paired.map_or_else(|| independent_difference(baseline, trial), |comparison| comparison.difference);
    (difference.value.is_finite() && difference.standard_error.is_finite()).then_some(difference)
}

fn independent_difference(baseline: &Measurement, trial: &Measurement) -> Estimate {
    let (b, x) = (baseline.estimate(), trial.estimate());
    let standard_error = b.standard_error.hypot(x.standard_error);
    Estimate { value: x.value - b.value, standard_error, degrees: b.degrees.min(x.degrees) }
}

fn paired(baseline: &Measurement, trial: &Measurement) -> Option<Comparison> {
    if baseline.transform != trial.transform {
        return None;
    }
    let items = baseline.samples.len().min(trial.samples.len());
    if items < 2 {
        return None;
    }
    fn first(m: &Measurement, items: usize) -> Option<Influence<'_>> {
        let weights = if m.weights.is_empty() { &[][..] } else { m.weights.get(..items)? };
        Influence::of(&m.samples[..items], weights)
    }
    let (b, x) = (first(baseline, items)?, first(trial, items)?);
    let (difference, ratio) = match trial.transform.as_str() {
        "identity" => {
            let ratio = x.mean / b.mean;
            let mut relative = x.estimate(|i| (x.at(i) - ratio * b.at(i)) / b.mean);
            relative.value = ratio;
            let mut difference = x.estimate(|i| x.at(i) - b.at(i));
            difference.value = x.mean - b.mean;
            (difference, relative)
        }
        "exp" => {
            let log = x.estimate(|i| x.at(i) - b.at(i));
            let ratio = (x.mean - b.mean).exp();
            let relative = Estimate { value: ratio, standard_error: ratio * log.standard_error, ..log };
            let (from, to) = (b.mean.exp(), x.mean.exp());
            let mut difference = x.estimate(|i| to * x.at(i) - from * b.at(i));
            difference.value = to - from;
            (difference, relative)
        }
        _ => return None,
    };
    Some(Comparison { difference, ratio, items, paired: true })
}

fn independent(baseline: &Measurement, trial: &Measurement) -> Option<Comparison> {
    let (b, x) = (baseline.estimate(), trial.estimate());
    if b.value == 0.0 {
        return None;
    }
    let difference = independent_difference(baseline, trial);
    let ratio = x.value / b.value;
    let standard_error = (ratio / b.value * b.standard_error).hypot(x.standard_error / b.value);
    Some(Comparison {
        difference,
        ratio: Estimate { value: ratio, standard_error, degrees: difference.degrees },
        items: baseline.samples.len().min(trial.samples.len()),
        paired: false,
    })
}

/// How much of the baseline's accuracy is lost, in percent: 100 (b - x) / b where more is better, 100 (x - b) / b where
/// less is (perplexity). Negative when the trial is better.
pub fn accuracy_drop(baseline: &Measurement, trial: &Measurement) -> Option<Drop> {
    let comparison = compare(baseline, trial)?;
    let sign = match trial.direction {
        Direction::Maximize => -1.0,
        Direction::Minimize => 1.0,
    };
    let percent = Estimate {
        // No loss is 0, not the -0 that the sign makes of it: people and JSON tell the two apart.
        value: 100.0 * sign * (comparison.ratio.value - 1.0) + 0.0,
        standard_error: 100.0 * comparison.ratio.standard_error,
        degrees: comparison.ratio.degrees,
    };
    let (low, high) = percent.interval(0.95);
    Some(Drop { percent, interval: [low, high], items: comparison.items, paired: comparison.paired })
}

/// A loss of accuracy relative to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Percent of the baseline's accuracy.
    pub percent: Estimate,
    /// 95 % confidence interval of `percent`.
    pub interval: [f64; 2],
    /// Items compared.
    pub items: usize,
    /// Whether they were compared one by one.
    pub paired: bool,
}

/// How much each sample moves a weighted mean: the linearisation behind every standard error here.
struct Influence<'a> {
    samples: &'a [f64],
    weights: &'a [f64],
    total: f64,
    mean: f64,
}

impl<'a> Influence<'a> {
    fn of(samples: &'a [f64], weights: &'a [f64]) -> Option<Self> {
        if samples.is_empty() || !(weights.is_empty() || weights.len() == samples.len()) {
            return None;
        }
        let (total, sum) = if weights.is_empty() {
            (samples.len() as f64, samples.iter().sum::<f64>())
        } else {
            (weights.iter().sum(), samples.iter().zip(weights).map(|(x, w)| x * w).sum())
        };
        (total > 0.0).then(|| Self { samples, weights, total, mean: sum / total })
    }

    fn at(&self, i: usize) -> f64 {
        let weight = self.weights.get(i).copied().unwrap_or(1.0);
        weight * (self.samples[i] - self.mean) / self.total
    }

    /// The mean with the standard error that follows from `influence` of each sample.
    fn estimate(&self, influence: impl Fn(usize) -> f64) -> Estimate {
        let n = self.samples.len();
        let degrees = (n as f64 - 1.0).max(1.0);
        let squares: f64 = (0..n).map(|i| influence(i).powi(2)).sum();
        let standard_error = if n < 2 { 0.0 } else { (squares * n as f64 / degrees).sqrt() };
        Estimate { value: self.mean, standard_error, degrees }
    }
}

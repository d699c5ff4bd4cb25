//! Statistics of measurements: means and medians with their standard errors, and the comparison of a trial with the
//! baseline item by item. Items are compared in pairs because two variants agree on most of them: the spread of the
//! differences is far smaller than that of the items.

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
    let degrees = b.degrees.min(x.degrees);
    let ratio = x.value / b.value;
    let combined = |from: f64, to: f64| (from * b.standard_error).hypot(to * x.standard_error);
    Some(Comparison {
        difference: Estimate { value: x.value - b.value, standard_error: combined(1.0, 1.0), degrees },
        ratio: Estimate { value: ratio, standard_error: combined(ratio / b.value, 1.0 / b.value), degrees },
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
        value: 100.0 * sign * (comparison.ratio.value - 1.0),
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1e-12), "{a} is not {b}");
    }

    fn share(samples: Vec<f64>) -> Measurement {
        Measurement::of_items(samples, vec![], "identity", "share", Direction::Maximize).unwrap()
    }

    #[test]
    fn equal_weights_give_the_textbook_mean_and_error() {
        let estimate = weighted_mean(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], &[]).unwrap();
        assert_eq!(estimate.value, 5.0);
        close(estimate.standard_error, (32.0 / 7.0 / 8.0f64).sqrt(), 1e-12);
        let weighted = weighted_mean(&[2.0, 4.0, 9.0], &[3.0, 3.0, 3.0]).unwrap();
        close(weighted.standard_error, weighted_mean(&[2.0, 4.0, 9.0], &[]).unwrap().standard_error, 1e-12);
        assert_eq!(weighted_mean(&[1.0, 4.0], &[3.0, 1.0]).unwrap().value, 1.75);
        assert_eq!(weighted_mean(&[], &[]), None);
        assert_eq!(weighted_mean(&[1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        close(percentile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.9).unwrap(), 4.6, 1e-12);
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    /// The spread of an estimator over many draws of items, which its standard error should predict.
    fn spread(draws: usize, mut estimator: impl FnMut(&mut StdRng) -> (f64, f64)) -> (f64, f64) {
        let mut random = StdRng::seed_from_u64(5);
        let results: Vec<(f64, f64)> = (0..draws).map(|_| estimator(&mut random)).collect();
        let mean = results.iter().map(|r| r.0).sum::<f64>() / draws as f64;
        let variance = results.iter().map(|r| (r.0 - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
        (variance.sqrt(), results.iter().map(|r| r.1).sum::<f64>() / draws as f64)
    }

    #[test]
    fn standard_errors_predict_the_spread_of_repeated_draws() {
        let perplexity = |random: &mut StdRng| {
            let weights: Vec<f64> = (0..60).map(|_| random.random_range(100..600) as f64).collect();
            let base: Vec<f64> = (0..60).map(|_| 3.0 + random.random_range(-0.8..0.8)).collect();
            let trial = base.iter().map(|b| b + 0.05 + random.random_range(-0.1..0.1)).collect();
            let of = |s| Measurement::of_items(s, weights.clone(), "exp", "", Direction::Minimize).unwrap();
            (of(base), of(trial))
        };
        let (observed, predicted) = spread(4000, |random| {
            let m = perplexity(random).0;
            (m.value, m.standard_error)
        });
        close(predicted, observed, 0.05);
        let (observed, predicted) = spread(4000, |random| {
            let (b, x) = perplexity(random);
            let drop = accuracy_drop(&b, &x).unwrap().percent;
            (drop.value, drop.standard_error)
        });
        close(predicted, observed, 0.05);
        let accuracy = |random: &mut StdRng| {
            let base: Vec<f64> = (0..200).map(|_| f64::from(random.random_bool(0.4))).collect();
            let trial = base.iter().map(|b| if random.random_bool(0.1) { 1.0 - b } else { *b }).collect();
            (share(base), share(trial))
        };
        for metric in [0, 1] {
            let (observed, predicted) = spread(4000, |random| {
                let (b, x) = accuracy(random);
                let c = compare(&b, &x).unwrap();
                let e = if metric == 0 { c.ratio } else { c.difference };
                (e.value, e.standard_error)
            });
            close(predicted, observed, 0.05);
        }
    }

    #[test]
    fn a_drop_is_relative_to_the_baseline_and_knows_the_direction() {
        let (base, trial) = (share(vec![1.0, 1.0, 1.0, 1.0, 0.0]), share(vec![1.0, 1.0, 1.0, 0.0, 0.0]));
        let drop = accuracy_drop(&base, &trial).unwrap();
        close(drop.percent.value, 25.0, 1e-12);
        assert!(drop.paired && drop.interval[0] < 25.0 && drop.interval[1] > 25.0);
        assert_eq!(drop.items, 5);
        let of = |s| Measurement::of_items(s, vec![], "exp", "", Direction::Minimize).unwrap();
        let worse = accuracy_drop(&of(vec![1.0, 2.0]), &of(vec![1.0, 2.2])).unwrap();
        close(worse.percent.value, 100.0 * (0.1f64.exp() - 1.0), 1e-9);
        assert_eq!(
            accuracy_drop(&base, &base).unwrap().percent,
            Estimate { value: 0.0, standard_error: 0.0, degrees: 4.0 }
        );
    }

    #[test]
    fn a_smaller_run_is_paired_with_the_first_items_of_a_larger_one() {
        let base = share(vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        let drop = accuracy_drop(&base, &share(vec![1.0, 0.0, 0.0])).unwrap();
        close(drop.percent.value, 50.0, 1e-12);
        assert_eq!((drop.items, drop.paired), (3, true));
    }

    #[test]
    fn a_baseline_of_zero_has_no_drop() {
        assert_eq!(accuracy_drop(&share(vec![0.0, 0.0]), &share(vec![1.0, 0.0])), None);
    }

    #[test]
    fn values_without_samples_are_compared_as_independent() {
        let mut base = Measurement::exact(10.0, "", Direction::Minimize);
        base.standard_error = 0.3;
        let mut trial = Measurement::exact(12.0, "", Direction::Minimize);
        trial.standard_error = 0.4;
        let c = compare(&base, &trial).unwrap();
        assert!(!c.paired);
        close(c.difference.standard_error, 0.5, 1e-12);
        close(c.ratio.standard_error, (0.036f64.powi(2) + 0.04f64.powi(2)).sqrt(), 1e-9);
    }

    #[test]
    fn probabilities_follow_from_the_error() {
        let estimate = Estimate { value: 1.0, standard_error: 1.0, degrees: 1.0 };
        close(estimate.probability_at_most(2.0), 0.75, 1e-9);
        let exact = Estimate { standard_error: 0.0, ..estimate };
        assert_eq!((exact.probability_at_most(1.0), exact.probability_at_most(0.9)), (1.0, 0.0));
    }

    #[test]
    fn results_that_are_not_finite_are_no_measurement() {
        assert_eq!(Measurement::of_items(vec![f64::NAN], vec![], "identity", "", Direction::Minimize), None);
        assert_eq!(Measurement::of_items(vec![1e4, 1e4], vec![], "exp", "", Direction::Minimize), None);
    }
}

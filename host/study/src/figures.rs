//! What follows from a trial's measurements next to the baseline's: the accuracy drop, the efficiency score, and which
//! constraints hold.
//!
//! Feasibility is judged on point estimates, at screening as at confirmation. At screening that is rough: on 100 items one
//! item more or less is several percent of the accuracy. The standard error and the probability that all constraints hold
//! stand beside every verdict, the search is told the standard error, what is confirmed is chosen by that probability, and
//! only confirmed figures are headlines.

use crate::{
    Constraint, Drop, Estimate, Measurements, Outcome, Provenance, StudyRecord, Trial, TrialId, Weight, accuracy_drop,
    metrics,
};
use aehost_common::Direction;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The judgement of one measured trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The trial in which the figures were measured; a confirmation has its own number.
    pub measured_in: TrialId,
    /// Loss of accuracy; none where the accuracy metric is unavailable or the baseline's is 0.
    pub accuracy_drop: Option<Drop>,
    /// How much cheaper it is; none where latency or memory is unavailable.
    pub efficiency: Option<Efficiency>,
    /// The constraints that are broken.
    pub violations: Vec<Violation>,
    /// Whether there are none.
    pub feasible: bool,
    /// Probability that all constraints hold, from the standard errors, as if the constraints were independent. Where
    /// nothing was trained, a loss of accuracy is taken to be at least 0: what makes a model cheaper does not make it
    /// better, so a gain on few items is luck, and no reason to trust a trial more than one that is certain to lose nothing.
    pub probability_feasible: f64,
}

/// Geometric mean of how much better it is than the baseline in the metrics that the study weighs: latency, memory, and energy
/// where it was measured (not estimated), unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Efficiency {
    /// The mean; more than 1 is cheaper than the baseline.
    pub score: f64,
    /// By metric baseline/trial, or trial/baseline where more is better.
    pub factors: BTreeMap<String, f64>,
}

/// A constraint that does not hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    /// Which one.
    pub constraint: Constraint,
    /// The trial's value; none where the metric is unavailable, which breaks the constraint.
    pub value: Option<f64>,
    /// Excess as a share of the bound; 1 where the metric is unavailable.
    pub amount: f64,
}

impl Figures {
    /// Judges `trial` against `baseline`. None unless both were measured.
    pub fn of(record: &StudyRecord, baseline: &Trial, trial: &Trial) -> Option<Self> {
        let (base, own) = (baseline.outcome.measurements()?, trial.outcome.measurements()?);
        let metric = &record.accuracy_metric;
        let accuracy_drop = match (base.metrics.get(metric), own.metrics.get(metric)) {
            (Some(base), Some(own)) => accuracy_drop(base, own),
            _ => None,
        };
        let mut violations = Vec::new();
        let mut probability_feasible = 1.0;
        for constraint in &record.constraints {
            let estimate = estimate(&constraint.metric, own, accuracy_drop.as_ref());
            let amount = estimate.map_or(1.0, |e| constraint.violation(e.value));
            if amount > 0.0 {
                let value = estimate.map(|e| e.value);
                violations.push(Violation { constraint: constraint.clone(), value, amount });
            }
            let loses = constraint.metric == metrics::ACCURACY_DROP && !record.trains(&trial.configuration);
            probability_feasible *= estimate.map_or(0.0, |e| match loses {
                true => probability_of_loss(constraint, &e),
                false => probability(constraint, &e),
            });
        }
        let efficiency = Efficiency::of(record.weights(), base, own);
        let feasible = violations.is_empty();
        Some(Self { measured_in: trial.id, accuracy_drop, efficiency, violations, feasible, probability_feasible })
    }

    /// Sum of the relative excesses.
    pub fn violation(&self) -> f64 {
        self.violations.iter().map(|v| v.amount).sum()
    }

    /// The efficiency score, if it is known.
    pub fn score(&self) -> Option<f64> {
        self.efficiency.as_ref().map(|e| e.score)
    }
}

impl Efficiency {
    fn of(weights: Cow<[Weight]>, baseline: &Measurements, trial: &Measurements) -> Option<Self> {
        let factor = |name: &str| {
            let (base, own) = (baseline.metrics.get(name)?, trial.metrics.get(name)?);
            let measured = base.provenance == Provenance::Measured && own.provenance == Provenance::Measured;
            let ratio = match own.direction {
                Direction::Minimize => base.value / own.value,
                Direction::Maximize => own.value / base.value,
            };
            (measured && base.value > 0.0 && own.value > 0.0).then_some(ratio)
        };
        let (mut factors, mut logarithms, mut total) = (BTreeMap::new(), 0.0, 0.0);
        for Weight { metric, weight } in weights.iter() {
            let Some(factor) = factor(metric) else {
                // Few machines measure it.
                if metric == metrics::ENERGY {
                    continue;
                }
                return None;
            };
            factors.insert(metric.clone(), factor);
            logarithms += weight * factor.ln();
            total += weight;
        }
        (total > 0.0).then(|| Self { score: (logarithms / total).exp(), factors })
    }
}

fn estimate(metric: &str, measurements: &Measurements, drop: Option<&Drop>) -> Option<Estimate> {
    if metric == metrics::ACCURACY_DROP {
        return drop.map(|d| d.percent);
    }
    measurements.metrics.get(metric).map(|m| m.estimate())
}

fn probability(constraint: &Constraint, estimate: &Estimate) -> f64 {
    if constraint.at_most {
        estimate.probability_at_most(constraint.bound)
    } else {
        let mirrored = Estimate { value: -estimate.value, ..*estimate };
        mirrored.probability_at_most(-constraint.bound)
    }
}

/// As [`probability`], given that the quantity is at least 0.
fn probability_of_loss(constraint: &Constraint, estimate: &Estimate) -> f64 {
    if !constraint.at_most || constraint.bound < 0.0 {
        return probability(constraint, estimate);
    }
    let below = estimate.probability_at_most(0.0);
    let within = estimate.probability_at_most(constraint.bound) - below;
    // So much better than the baseline that rounding leaves nothing above 0: what is above it lies next to it.
    if below > 1.0 - 1e-9 { 1.0 } else { within / (1.0 - below) }
}

impl Outcome {
    /// The same outcome, or `diverged` where a number is NaN or infinite: such a number is no measurement, and has no JSON
    /// form.
    #[must_use]
    pub fn finite(self) -> Self {
        let Some(measurements) = self.measurements() else { return self };
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        let bad = measurements
            .metrics
            .iter()
            .find(|(_, m)| !(finite(&[m.value, m.standard_error]) && finite(&m.samples) && finite(&m.weights)));
        match bad {
            Some((name, _)) => Outcome::Diverged { message: format!("{name} has values that are NaN or infinite") },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Measurement;
    use crate::fixtures::{measured, study, trial};

    fn cost(latency: f64, memory: f64) -> Outcome {
        measured(&[("latency.e2e_ms", latency), ("memory.peak_bytes", memory), ("multiple-choice.acc", 0.5)])
    }

    #[test]
    fn the_efficiency_score_is_the_geometric_mean_of_the_savings() {
        let (base, own) = (trial(0, &[], cost(80.0, 90.0)), trial(1, &[("a", 1)], cost(20.0, 10.0)));
        let figures = Figures::of(&study("s"), &base, &own).unwrap();
        assert!((figures.score().unwrap() - 6.0).abs() < 1e-12);
        assert!((Figures::of(&study("s"), &base, &base).unwrap().score().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn weights_say_what_counts_in_the_score() {
        let (base, own) = (trial(0, &[], cost(80.0, 90.0)), trial(1, &[("a", 1)], cost(20.0, 10.0)));
        let score = |weights: &[&str]| {
            let mut record = study("s");
            let weight = |text: &&str| Weight::resolve(text, &record.accuracy_metric, &record.metrics).unwrap();
            record.weights = weights.iter().map(weight).collect();
            Figures::of(&record, &base, &own).unwrap().score()
        };
        // Four times as fast, a ninth of the memory, equal accuracy.
        let close = |score: Option<f64>, expected: f64| assert!((score.unwrap() - expected).abs() < 1e-12, "{score:?}");
        close(score(&["latency.e2e=1"]), 4.0);
        close(score(&["latency.e2e=2", "memory.peak=1"]), (4.0f64 * 4.0 * 9.0).cbrt());
        close(score(&["memory.peak=3", "accuracy=1"]), 9f64.powf(0.75));
        close(score(&["memory.peak=1", "energy=5"]), 9.0);
        assert_eq!(score(&["memory.peak=1", "latency.ttft=1"]), None, "what was not measured");
        assert_eq!(score(&["energy=1"]), None);
    }

    #[test]
    fn energy_counts_where_it_was_measured_but_not_where_it_was_estimated() {
        let with_energy = |joules: f64, provenance: Provenance| {
            let Outcome::Ok { mut measurements } = cost(10.0, 10.0) else { unreachable!() };
            let energy = Measurement { provenance, ..Measurement::exact(joules, "J", Direction::Minimize) };
            measurements.metrics.insert(metrics::ENERGY.into(), energy);
            Outcome::Ok { measurements }
        };
        let declared = || Provenance::Estimated { formula: "watts * seconds".into(), inputs: BTreeMap::new() };
        let score = |provenance: &dyn Fn() -> Provenance| {
            let base = trial(0, &[], with_energy(8.0, provenance()));
            let own = trial(1, &[("a", 1)], with_energy(1.0, provenance()));
            Figures::of(&study("s"), &base, &own).unwrap().score().unwrap()
        };
        assert!((score(&|| Provenance::Measured) - 2.0).abs() < 1e-12);
        assert!((score(&declared) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn every_broken_constraint_is_listed_with_its_excess() {
        let mut record = study("s");
        record.constraints = ["latency.e2e <= 10 ms", "memory.peak <= 1 KB", "energy <= 1 J"]
            .map(|c| Constraint::parse(c).unwrap())
            .into();
        let figures = Figures::of(&record, &trial(0, &[], cost(1.0, 1.0)), &trial(1, &[], cost(15.0, 500.0))).unwrap();
        let broken: Vec<_> =
            figures.violations.iter().map(|v| (v.constraint.text.as_str(), v.value, v.amount)).collect();
        assert_eq!(broken, [("latency.e2e <= 10 ms", Some(15.0), 0.5), ("energy <= 1 J", None, 1.0)]);
        assert!(!figures.feasible);
        assert_eq!(figures.probability_feasible, 0.0);
    }

    #[test]
    fn the_probability_of_a_constraint_follows_from_the_paired_error() {
        let with = |samples: Vec<f64>| {
            let Outcome::Ok { mut measurements } = cost(10.0, 10.0) else { unreachable!() };
            let accuracy = Measurement::of_items(samples, vec![], "identity", "share", Direction::Maximize).unwrap();
            measurements.metrics.insert("multiple-choice.acc".into(), accuracy);
            Outcome::Ok { measurements }
        };
        let base: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let mut own = base.clone();
        own[1..=9].fill(0.0);
        own[20] = 1.0;
        let figures = Figures::of(&study("s"), &trial(0, &[], with(base)), &trial(1, &[], with(own))).unwrap();
        let drop = figures.accuracy_drop.unwrap();
        assert!((drop.percent.value - 8.0).abs() < 1e-9);
        assert!(!figures.feasible && figures.probability_feasible > 0.1 && figures.probability_feasible < 0.5);
    }

    #[test]
    fn a_gain_on_few_items_counts_less_than_the_certainty_to_lose_nothing() {
        let estimate = |value: f64, standard_error: f64| Estimate { value, standard_error, degrees: 100.0 };
        let constraint = Constraint::parse("accuracy drop <= 1.2 %").unwrap();
        let [lucky, certain, even] =
            [(-14.0, 10.0), (0.0, 1.0), (0.0, 10.0)].map(|(v, e)| probability_of_loss(&constraint, &estimate(v, e)));
        assert!(probability(&constraint, &estimate(-14.0, 10.0)) > probability(&constraint, &estimate(0.0, 1.0)));
        assert!(certain > 0.7 && lucky < 0.3 && even < lucky, "{lucky} {certain} {even}");
        assert_eq!(probability_of_loss(&constraint, &estimate(0.0, 0.0)), 1.0);
        assert_eq!(probability_of_loss(&constraint, &estimate(-90.0, 1.0)), 1.0);
        assert_eq!(probability_of_loss(&constraint, &estimate(5.0, 0.0)), 0.0);
    }

    #[test]
    fn numbers_that_are_not_finite_make_a_trial_diverged() {
        assert_eq!(
            measured(&[("perplexity.token", f64::NAN)]).finite(),
            Outcome::Diverged { message: "perplexity.token has values that are NaN or infinite".into() }
        );
        assert_eq!(cost(1.0, 1.0).finite(), cost(1.0, 1.0));
    }
}

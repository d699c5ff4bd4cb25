//! The one objective of a proposal, and what is believed of it.

use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::history::{History, Trial};
use aehost_sdk::strategy::process::Processes;
use aehost_sdk::strategy::search::gaussian::Process;
use aehost_sdk::strategy::search::hypervolume::Scale;
use aehost_sdk::strategy::search::normal::Belief;
use aehost_sdk::strategy::search::pareto::Point;
use aehost_sdk::strategy::search::rows::Row;
use aehost_sdk::strategy::surrogate::Applicability;
use aehost_sdk::strategy::{Configuration, Random, Search};

/// Share of the sum in the augmented Chebyshev function (equation 2).
const SUM: f64 = 0.05;

/// Weights that are uniform on the simplex.
pub fn weights(objectives: usize, random: &mut Random) -> Vec<f64> {
    let parts: Vec<f64> = (0..objectives).map(|_| -(1.0 - random.unit()).ln()).collect();
    let sum: f64 = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    parts.into_iter().map(|part| part / sum).collect()
}

/// The augmented Chebyshev function of normalised costs.
fn chebyshev(costs: &[f64], weights: &[f64]) -> f64 {
    let weighted = || costs.iter().zip(weights).map(|(cost, weight)| cost * weight);
    weighted().fold(f64::NEG_INFINITY, f64::max) + SUM * weighted().sum::<f64>()
}

/// A model of the weighted objectives and of the metrics under constraints.
pub struct Scalar {
    objective: Process,
    constraints: Vec<Process>,
    applicable: Applicability,
    /// The least feasible value.
    least: Option<f64>,
    /// The best trials first, at most eight.
    pub best: Vec<Configuration>,
}

impl Scalar {
    /// Of what was told; what is out counts as measured with its expectation (kriging believer).
    pub fn fit(search: &mut Search, encoding: &Encoding, known: &mut Processes, weights: &[f64]) -> Option<Self> {
        let history = &search.history;
        let measured: Vec<(&Trial, &Point)> = history.measured().collect();
        let scale = Scale::of(measured.iter().map(|(_, point)| &point.costs), &vec![1.0; weights.len()])?;
        let value = |point: &Point| match point.costs.iter().all(|cost| cost.is_finite()) {
            true => chebyshev(&scale.normalise(&point.costs), weights),
            false => f64::NAN,
        };
        let mut rows: Vec<Row> = measured.iter().map(|(trial, _)| encoding.encode(&trial.configuration)).collect();
        let mut targets = vec![measured.iter().map(|(_, point)| value(point)).collect::<Vec<f64>>()];
        for constraint in history.constraints() {
            let column = history.column(&constraint.metric);
            let told = |trial: &Trial| column.and_then(|c| trial.metrics[c]).map_or(f64::NAN, |(value, _)| value);
            targets.push(measured.iter().map(|(trial, _)| told(trial)).collect());
        }
        let mut order: Vec<usize> = (0..measured.len()).filter(|i| targets[0][*i].is_finite()).collect();
        order.sort_by(|a, b| {
            let of = |i: usize| (measured[i].1.violation, targets[0][i]);
            of(*a).0.total_cmp(&of(*b).0).then(of(*a).1.total_cmp(&of(*b).1))
        });
        let least = order.first().filter(|i| measured[**i].1.feasible()).map(|i| targets[0][*i]);
        let best = order.into_iter().take(8).map(|i| measured[i].0.configuration.clone()).collect();
        let variances = |count: usize| vec![vec![0.0; count]; 1 + history.constraints().len()];
        let mut processes = known.fit(&rows, &targets, &variances(rows.len()));
        if !history.pending().is_empty() {
            for (_, configuration) in history.pending() {
                let row = encoding.encode(configuration);
                let all = aehost_sdk::strategy::search::rows::dense(&row, encoding.features().len());
                targets.iter_mut().zip(&processes).for_each(|(target, process)| target.push(process.predict(&all).0));
                rows.push(row);
            }
            processes = known.condition(&rows, &targets, &variances(rows.len()));
        }
        let refused = search.refused().to_vec();
        let applicable = Applicability::new(encoding, &search.history, &refused, &mut search.random);
        let mut processes = processes.into_iter();
        Some(Self { objective: processes.next()?, constraints: processes.collect(), applicable, least, best })
    }

    /// Expected improvement times the probability of feasibility; the probability alone while nothing feasible is known.
    pub fn worth(&self, row: &[(usize, f64)], dense: &[f64], history: &History) -> f64 {
        let belief = |process: &Process| {
            let (mean, deviation) = process.predict(dense);
            Belief { mean, deviation, log: false }
        };
        let held = self.constraints.iter().zip(history.constraints()).map(|(process, constraint)| {
            let below = belief(process).at_most(constraint.bound);
            if constraint.at_most { below } else { 1.0 - below }
        });
        let feasible = self.applicable.of(row, dense) * held.product::<f64>();
        feasible * self.least.map_or(1.0, |least| belief(&self.objective).below(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_1_and_the_worst_weighted_objective_counts() {
        let mut random = Random::new(1);
        for objectives in 1..5 {
            let weights = weights(objectives, &mut random);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && weights.iter().all(|w| *w >= 0.0));
        }
        assert!((chebyshev(&[1.0, 0.5], &[0.25, 0.75]) - (0.375 + 0.05 * 0.625)).abs() < 1e-12);
    }
}

//! Which parameters matter: permutation importance in a random forest (Breiman 2001, Random Forests, section 10). A forest
//! is fitted to the measured trials; a parameter's importance is how much worse the trees predict the trials that they
//! were not grown on when that parameter's values are shuffled. It needs no model of the response, copes with mixed and
//! conditional parameters, and with two dozen trials; the share of variance that the forest explains on unseen trials
//! stands beside it, and below about 0.2 the ranking means little.

use crate::{StudyRecord, Trial};
use aehost_common::{Domain, Parameter, Settings, Value};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

const TREES: usize = 300;
/// Fewer trials than this say nothing about importance.
const LEAST_TRIALS: usize = 8;
/// A leaf is not split below this many trials.
const LEAST_SPLIT: usize = 4;

/// How much the parameters matter to one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The metric.
    pub metric: String,
    /// Share of the metric's variance that the forest explains on trials it has not seen; at most 1, and below 0 when it
    /// is worse than the mean.
    pub explained: f64,
    /// Parameters by falling importance.
    pub parameters: Vec<ParameterImportance>,
}

/// How much one parameter matters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterImportance {
    /// `technique`, for whether it is on, or `technique.parameter`.
    pub parameter: String,
    /// Its share of all importance, in [0, 1]; the shares of a metric add up to 1 (or are all 0).
    pub share: f64,
}

/// The parameters that `trials` vary in, as numbers, with a value for each trial. A parameter that is not active has one
/// value of its own below all others.
pub(crate) struct Features {
    names: Vec<String>,
    /// By feature, then by trial.
    columns: Vec<Vec<f64>>,
}

impl Features {
    pub fn of(record: &StudyRecord, trials: &[&Trial]) -> Self {
        let mut features = Self { names: Vec::new(), columns: Vec::new() };
        for technique in &record.space {
            let id = &technique.description.identity.id;
            let settings: Vec<Option<&Settings>> = trials
                .iter()
                .map(|t| t.configuration.0.iter().find(|c| c.technique == *id).map(|c| &c.settings))
                .collect();
            features.push(id.clone(), settings.iter().map(|s| f64::from(s.is_some())).collect());
            for parameter in &technique.parameters {
                let value = |settings: &Option<&Settings>| {
                    settings.and_then(|s| s.get(&parameter.name)).map_or(f64::NEG_INFINITY, |v| number(parameter, v))
                };
                features.push(format!("{id}.{}", parameter.name), settings.iter().map(value).collect());
            }
        }
        features
    }

    fn push(&mut self, name: String, column: Vec<f64>) {
        if column.iter().any(|v| *v != column[0]) {
            self.names.push(name);
            self.columns.push(column);
        }
    }
}

/// Orders the values of a parameter; trees see no more than the order.
fn number(parameter: &Parameter, value: &Value) -> f64 {
    match (&parameter.domain, value) {
        (Domain::Choice { values, .. }, value) => values.iter().position(|v| v == value).map_or(-1.0, |i| i as f64),
        (_, Value::Flag(on)) => f64::from(*on),
        (_, value) => value.as_real().unwrap_or(-1.0),
    }
}

/// The importance of each feature for `response` (one value a trial). None for too few trials, or a constant response.
pub(crate) fn importance(metric: &str, features: &Features, response: &[f64], seed: u64) -> Option<Importance> {
    let n = response.len();
    let mean = response.iter().sum::<f64>() / n as f64;
    let variance = response.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n as f64;
    if n < LEAST_TRIALS || features.columns.is_empty() || variance <= 0.0 {
        return None;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut harm = vec![0.0; features.columns.len()];
    let mut unseen = vec![(0.0, 0u32); n];
    for _ in 0..TREES {
        let grown_on: Vec<usize> = (0..n).map(|_| random.random_range(0..n)).collect();
        let tree = Tree::grow(&features.columns, response, grown_on.clone(), &mut random);
        let rest: Vec<usize> = (0..n).filter(|i| !grown_on.contains(i)).collect();
        if rest.is_empty() {
            continue;
        }
        let mut error = 0.0;
        for &i in &rest {
            let predicted = tree.predict(|f| features.columns[f][i]);
            error += (predicted - response[i]).powi(2);
            unseen[i].0 += predicted;
            unseen[i].1 += 1;
        }
        for (feature, harm) in harm.iter_mut().enumerate() {
            let mut shuffled = rest.clone();
            shuffled.shuffle(&mut random);
            let with_shuffled: f64 = rest
                .iter()
                .zip(&shuffled)
                .map(|(&i, &j)| {
                    let predicted = tree.predict(|f| features.columns[f][if f == feature { j } else { i }]);
                    (predicted - response[i]).powi(2)
                })
                .sum();
            *harm += (with_shuffled - error) / rest.len() as f64;
        }
    }
    let seen: Vec<(usize, f64)> = unseen
        .iter()
        .enumerate()
        .filter(|(_, (_, trees))| *trees > 0)
        .map(|(i, (sum, trees))| (i, sum / f64::from(*trees)))
        .collect();
    let error = seen.iter().map(|(i, predicted)| (predicted - response[*i]).powi(2)).sum::<f64>() / seen.len() as f64;
    let total: f64 = harm.iter().map(|h| h.max(0.0)).sum();
    let share = |h: &f64| if total > 0.0 { h.max(0.0) / total } else { 0.0 };
    let mut parameters: Vec<ParameterImportance> = features
        .names
        .iter()
        .zip(&harm)
        .map(|(name, harm)| ParameterImportance { parameter: name.clone(), share: share(harm) })
        .collect();
    parameters.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.parameter.cmp(&b.parameter)));
    Some(Importance { metric: metric.to_owned(), explained: 1.0 - error / variance, parameters })
}

/// A regression tree that splits where the squared error falls most.
enum Tree {
    Leaf(f64),
    Split { feature: usize, threshold: f64, below: Box<Tree>, above: Box<Tree> },
}

impl Tree {
    fn grow(columns: &[Vec<f64>], response: &[f64], samples: Vec<usize>, random: &mut StdRng) -> Self {
        let mean = samples.iter().map(|&i| response[i]).sum::<f64>() / samples.len() as f64;
        if samples.len() < LEAST_SPLIT {
            return Tree::Leaf(mean);
        }
        // A third of the features at each split, but at least two: Breiman's choice for regression.
        let mut tried: Vec<usize> = (0..columns.len()).collect();
        tried.shuffle(random);
        tried.truncate(columns.len().div_ceil(3).max(2));
        let best = tried
            .into_iter()
            .filter_map(|feature| Some((feature, best_threshold(&columns[feature], response, &samples)?)))
            .min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let Some((feature, (threshold, _))) = best else { return Tree::Leaf(mean) };
        let (below, above) = samples.into_iter().partition(|&i| columns[feature][i] < threshold);
        let mut grow = |samples| Box::new(Tree::grow(columns, response, samples, random));
        Tree::Split { feature, threshold, below: grow(below), above: grow(above) }
    }

    fn predict(&self, value: impl Fn(usize) -> f64) -> f64 {
        let mut tree = self;
        loop {
            match tree {
                Tree::Leaf(mean) => return *mean,
                Tree::Split { feature, threshold, below, above } => {
                    tree = if value(*feature) < *threshold { below } else { above };
                }
            }
        }
    }
}

/// The value to split at and the squared error that is left (less a constant); none when all values are equal.
fn best_threshold(column: &[f64], response: &[f64], samples: &[usize]) -> Option<(f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|&a, &b| column[a].total_cmp(&column[b]));
    let total: f64 = sorted.iter().map(|&i| response[i]).sum();
    let (n, mut below) = (sorted.len() as f64, 0.0);
    let mut best: Option<(f64, f64)> = None;
    for (k, pair) in sorted.windows(2).enumerate() {
        below += response[pair[0]];
        let (left, right) = (column[pair[0]], column[pair[1]]);
        if left == right {
            continue;
        }
        let k = k as f64 + 1.0;
        // Sum of squares less n_below * mean_below^2 + n_above * mean_above^2.
        let error = -(below * below / k + (total - below).powi(2) / (n - k));
        if best.is_none_or(|(_, least)| error < least) {
            best = Some((right, error));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(columns: &[(&str, Vec<f64>)]) -> Features {
        let mut features = Features { names: vec![], columns: vec![] };
        for (name, column) in columns {
            features.push((*name).into(), column.clone());
        }
        features
    }

    fn shares(importance: &Importance) -> Vec<(&str, f64)> {
        importance.parameters.iter().map(|p| (p.parameter.as_str(), p.share)).collect()
    }

    #[test]
    fn what_drives_the_response_comes_first() {
        let mut random = StdRng::seed_from_u64(2);
        let mut column = || (0..24).map(|_| f64::from(random.random_range(0..4))).collect::<Vec<f64>>();
        let (strong, weak, idle) = (column(), column(), column());
        let response: Vec<f64> = strong.iter().zip(&weak).map(|(s, w)| 10.0 * s + 3.0 * w).collect();
        let features = features(&[("idle", idle), ("weak", weak), ("strong", strong), ("constant", vec![1.0; 24])]);
        let importance = importance("m", &features, &response, 0).unwrap();
        let shares = shares(&importance);
        assert_eq!(shares.iter().map(|s| s.0).collect::<Vec<_>>(), ["strong", "weak", "idle"]);
        assert!(shares[0].1 > 0.7 && shares[2].1 < 0.05, "{shares:?}");
        assert!((shares.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(importance.explained > 0.6, "{}", importance.explained);
    }

    #[test]
    fn noise_is_not_explained() {
        let mut random = StdRng::seed_from_u64(4);
        let column: Vec<f64> = (0..24).map(|_| f64::from(random.random_range(0..4))).collect();
        let response: Vec<f64> = (0..24).map(|_| random.random()).collect();
        assert!(importance("m", &features(&[("x", column)]), &response, 0).unwrap().explained < 0.2);
    }

    #[test]
    fn too_little_says_nothing() {
        let column: Vec<f64> = (0..24).map(f64::from).collect();
        assert_eq!(importance("m", &features(&[("x", column.clone())]), &[1.0; 24], 0), None);
        assert_eq!(importance("m", &features(&[("x", vec![1.0, 2.0])]), &[1.0, 2.0], 0), None);
        assert_eq!(importance("m", &features(&[]), &column, 0), None);
    }

    #[test]
    fn a_split_leaves_the_least_squared_error() {
        let (column, response) = ([1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 7.0, 7.0, 8.0]);
        assert_eq!(best_threshold(&column, &response, &[4, 3, 2, 1, 0]).map(|b| b.0), Some(3.0));
        assert_eq!(best_threshold(&[1.0; 5], &response, &[0, 1, 2]), None);
    }
}

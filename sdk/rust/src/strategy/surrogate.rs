//! What is expected of configurations that were not measured: the words in which surrogates speak.

use super::denoising::{Told, denoise};
use super::history::History;
use super::search::boosting::{self, Ensemble, Options};
use super::search::normal::Belief;
use super::search::rows::Row;
use super::{Configuration, Direction, Objective, Random, encoding::Encoding};

/// A model of the metrics that stands in for the device.
pub trait Surrogate {
    /// What it expects of an encoded configuration.
    fn expect(&self, row: &[(usize, f64)], history: &History) -> Expectation;

    /// Of each metric the error on trials that it was not trained on, as a share of the metric's standard deviation, and what
    /// predicts it.
    fn quality(&self) -> Vec<(f64, &'static str)>;

    /// Whether it knows better than single measurements what measured configurations cost, because it knows their noise.
    fn smooths(&self) -> bool {
        false
    }
}

/// A configuration that is out, as a row and the values that are expected of all metrics.
pub type Fantasy = (Row, Vec<f64>);

/// What is expected of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Of each metric of the history, in its own unit and direction.
    pub metrics: Vec<Belief>,
    /// Of each objective, to be minimised.
    pub costs: Vec<Belief>,
    /// Probability that it can be applied and that all constraints hold.
    pub feasible: f64,
}

impl Expectation {
    /// Of beliefs about the metrics, and the probability that the configuration can be applied. A metric to be maximised is no
    /// logarithm.
    pub fn new(history: &History, metrics: Vec<Belief>, applicable: f64) -> Self {
        let cost = |(belief, objective): (&Belief, &Objective)| match objective.direction {
            Direction::Minimize => *belief,
            Direction::Maximize => Belief { mean: -belief.mean, ..*belief },
        };
        let costs = metrics.iter().zip(history.objectives()).map(cost).collect();
        let held = history.constraints().iter().map(|constraint| {
            let belief = history.column(&constraint.metric).map(|column| metrics[column]);
            let below = belief.map_or(0.5, |belief| belief.at_most(constraint.bound));
            if constraint.at_most { below } else { 1.0 - below }
        });
        let feasible = applicable * held.product::<f64>();
        Self { metrics, costs, feasible }
    }
}

/// What surrogates are trained on: one row for each measured trial, and each fantasy.
#[derive(Debug, Clone)]
pub struct Training {
    /// Encoded configurations.
    pub rows: Vec<Row>,
    /// Of each metric the values, or their logarithms, in the order of the rows; not a number where they are missing.
    pub targets: Vec<Vec<f64>>,
    /// The same for their variances.
    pub variances: Vec<Vec<f64>>,
    /// Of each metric whether its targets are logarithms.
    pub logs: Vec<bool>,
}

impl Training {
    /// What was told so far, with less noise where other metrics help.
    pub fn new(encoding: &Encoding, history: &History, fantasies: &[Fantasy]) -> Self {
        Self::with_logs(encoding, history, fantasies, |_| None)
    }

    /// The same where something else than the trials may say, of a column, whether logarithms are to be learnt.
    pub fn with_logs(
        encoding: &Encoding,
        history: &History,
        fantasies: &[Fantasy],
        logs: impl Fn(usize) -> Option<bool>,
    ) -> Self {
        let measured: Vec<&_> = history.measured().map(|(trial, _)| trial).collect();
        let mut rows: Vec<Row> = measured.iter().map(|trial| encoding.encode(&trial.configuration)).collect();
        rows.extend(fantasies.iter().map(|(row, _)| row.clone()));
        let mut training = Self { rows, targets: Vec::new(), variances: Vec::new(), logs: Vec::new() };
        let companion = |column: usize| measured.iter().map(|trial| trial.companions[column]).collect();
        let companions: Vec<Vec<Told>> = (0..history.companions().len()).map(companion).collect();
        for column in 0..history.metrics().len() {
            let told = measured.iter().map(|trial| trial.metrics[column].unwrap_or((f64::NAN, 0.0)));
            let mut values: Vec<Told> = denoise(&told.collect::<Vec<_>>(), &companions);
            values.extend(fantasies.iter().map(|(_, values)| (values[column], 0.0)));
            let plain: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
            let maximised = history.objectives().get(column).is_some_and(|o| o.direction == Direction::Maximize);
            let positive = plain.iter().all(|v| v.is_nan() || *v > 0.0);
            let log = !maximised && positive && logs(column).unwrap_or_else(|| multiplies(&plain));
            // The deviation of a logarithm is the relative deviation.
            let variance = |(value, error): &(f64, f64)| if log { (error / value).powi(2) } else { error * error };
            training.variances.push(values.iter().map(variance).collect());
            training.targets.push(if log { plain.iter().map(|v| v.ln()).collect() } else { plain });
            training.logs.push(log);
        }
        training
    }
}

/// The probability that configurations can be applied at all, learnt from those that could not be measured or were refused.
#[derive(Debug, Clone)]
pub struct Applicability(Option<Ensemble>);

impl Applicability {
    /// What was told so far.
    pub fn new(encoding: &Encoding, history: &History, refused: &[Configuration], random: &mut Random) -> Self {
        let told = history.trials().iter().map(|t| (&t.configuration, f64::from(u8::from(t.point.is_some()))));
        let known = told.chain(refused.iter().map(|configuration| (configuration, 0.0)));
        let (rows, targets): (Vec<Row>, Vec<f64>) = known.map(|(c, target)| (encoding.encode(c), target)).unzip();
        if !targets.contains(&0.0) {
            return Self(None);
        }
        let options = Options { trees: 8, ..Options::default() };
        Self(boosting::fit(&rows, encoding.features().len(), &[targets], &options, random).pop())
    }

    /// Of an encoded configuration, sparse and dense.
    pub fn of(&self, row: &[(usize, f64)], dense: &[f64]) -> f64 {
        self.0.as_ref().map_or(1.0, |model| model.predict(row, dense).0.clamp(0.01, 1.0))
    }
}

/// Whether values are better modelled by their logarithms: all are positive, and less skewed so. Costs that multiply become
/// sums.
fn multiplies(values: &[f64]) -> bool {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if known.is_empty() || known.iter().any(|v| *v <= 0.0) {
        return false;
    }
    let (least, most) = known.iter().fold((f64::INFINITY, 0.0f64), |(l, m), v| (l.min(*v), m.max(*v)));
    if most > 1e4 * least {
        // Such small values are zeros in disguise, and would be all that counts.
        return false;
    }
    let logarithms: Vec<f64> = known.iter().map(|v| v.ln()).collect();
    skewness(&logarithms).abs() < skewness(&known).abs()
}

fn skewness(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let moment = |power| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

/// What is expected of a configuration, metric by metric.
pub fn words(history: &History, expectation: &Expectation) -> String {
    let metrics = history.metrics().iter().zip(&expectation.metrics);
    let words = metrics.map(|(metric, belief)| {
        let (middle, spread) = (belief.median(), 0.5 * (belief.at(1.0) - belief.at(-1.0)));
        format!("{metric} {} ± {}", rounded(middle), rounded(spread))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Three digits.
fn rounded(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e6).contains(&size) {
        let digits = (2.0 - size.max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.2e}")
    }
}

//! What is believed of configurations that were not measured, by surrogates of each metric and of whether a configuration
//! can be applied at all.

use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::history::History;
use aehost_sdk::strategy::search::boosting::{self, Ensemble, Options};
use aehost_sdk::strategy::search::normal::Belief;
use aehost_sdk::strategy::search::rows::{Row, dense};
use aehost_sdk::strategy::{Configuration, Direction, Objective, Random};

/// Measured trials before surrogates say anything.
pub const LEAST: usize = 3;

/// Surrogates of one state of knowledge.
pub struct Model {
    width: usize,
    /// One a metric of the history.
    metrics: Vec<Metric>,
    /// Of 1 where a configuration could be measured and 0 where not; none while all could.
    applicable: Option<Ensemble>,
}

/// The surrogate of one metric.
struct Metric {
    ensemble: Ensemble,
    /// Whether it was trained on logarithms.
    log: bool,
}

/// What is believed of one configuration.
#[derive(Debug, Clone)]
pub struct Outlooks {
    /// Of each metric of the history, in its own unit and direction.
    pub metrics: Vec<Belief>,
    /// Of each objective, to be minimised.
    pub costs: Vec<Belief>,
    /// Probability that it can be applied and that all constraints hold.
    pub feasible: f64,
}

impl Model {
    /// Trains on what was told and, as if they had been measured, on `fantasies`: configurations with values of all metrics.
    /// None while too little was measured.
    pub fn fit(
        encoding: &Encoding,
        history: &History,
        refused: &[Configuration],
        fantasies: &[(Row, Vec<f64>)],
        random: &mut Random,
    ) -> Option<Self> {
        let width = encoding.features().len();
        let measured: Vec<&_> = history.measured().map(|(trial, _)| trial).collect();
        if measured.len() < LEAST {
            return None;
        }
        let encoded = |configuration: &Configuration| encoding.encode(configuration);
        let mut rows: Vec<Row> = measured.iter().map(|trial| encoded(&trial.configuration)).collect();
        rows.extend(fantasies.iter().map(|(row, _)| row.clone()));
        let columns = 0..history.metrics().len();
        let values = columns.map(|column| {
            let told = measured.iter().map(|trial| trial.metrics[column].map_or(f64::NAN, |(value, _)| value));
            told.chain(fantasies.iter().map(|(_, values)| values[column])).collect::<Vec<f64>>()
        });
        let (targets, logs): (Vec<Vec<f64>>, Vec<bool>) = values.map(transformed).unzip();
        let options = Options::default();
        let ensembles = boosting::fit(&rows, width, &targets, &options, random);
        let metrics = ensembles.into_iter().zip(logs).map(|(ensemble, log)| Metric { ensemble, log }).collect();
        let told = history.trials().iter().map(|t| (&t.configuration, f64::from(u8::from(t.point.is_some()))));
        let known = told.chain(refused.iter().map(|configuration| (configuration, 0.0)));
        let (rows, targets): (Vec<Row>, Vec<f64>) = known.map(|(c, target)| (encoded(c), target)).unzip();
        let applicable = targets.contains(&0.0).then(|| boosting::fit(&rows, width, &[targets], &options, random));
        Some(Self { width, metrics, applicable: applicable.and_then(|mut one| one.pop()) })
    }

    /// What is believed of an encoded configuration.
    pub fn judge(&self, row: &[(usize, f64)], history: &History) -> Outlooks {
        let dense = dense(row, self.width);
        let metrics: Vec<Belief> =
            self.metrics.iter().map(|metric| metric.ensemble.belief(row, &dense, metric.log)).collect();
        let cost = |(belief, objective): (&Belief, &Objective)| match objective.direction {
            Direction::Minimize => *belief,
            // A maximised metric never is a logarithm.
            Direction::Maximize => Belief { mean: -belief.mean, ..*belief },
        };
        let costs = metrics.iter().zip(history.objectives()).map(cost).collect();
        let applicable = self.applicable.as_ref().map_or(1.0, |model| model.predict(row, &dense).0.clamp(0.01, 1.0));
        let held = history.constraints().iter().map(|constraint| {
            let belief = history.column(&constraint.metric).map(|column| metrics[column]);
            let below = belief.map_or(0.5, |belief| belief.at_most(constraint.bound));
            if constraint.at_most { below } else { 1.0 - below }
        });
        let feasible = applicable * held.product::<f64>();
        Outlooks { metrics, costs, feasible }
    }

    /// Of each metric the error on trials that a surrogate was not trained on, as a share of the metric's spread.
    pub fn errors(&self) -> Vec<f64> {
        self.metrics.iter().map(|metric| metric.ensemble.error() / metric.ensemble.spread()).collect()
    }
}

/// Logarithms where all values are positive and are less skewed so: costs that multiply become sums.
fn transformed(values: Vec<f64>) -> (Vec<f64>, bool) {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if known.is_empty() || known.iter().any(|v| *v <= 0.0) {
        return (values, false);
    }
    let (least, most) = known.iter().fold((f64::INFINITY, 0.0f64), |(l, m), v| (l.min(*v), m.max(*v)));
    if most > 1e4 * least {
        // Such small values are zeros in disguise, and would be all that counts.
        return (values, false);
    }
    let logarithms: Vec<f64> = known.iter().map(|v| v.ln()).collect();
    if skewness(&logarithms).abs() < skewness(&known).abs() {
        (values.iter().map(|v| v.ln()).collect(), true)
    } else {
        (values, false)
    }
}

fn skewness(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let moment = |power| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

/// What is expected of a configuration, metric by metric.
pub fn words(history: &History, outlooks: &Outlooks) -> String {
    let metrics = history.metrics().iter().zip(&outlooks.metrics);
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

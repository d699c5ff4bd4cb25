//! What earlier studies tell about this one. Models and devices differ in scale first: a metric's change from the study's own
//! baseline is what carries over, and what it gets wrong here is learnt like anything else.

use super::denoising::{self, MISSING, Told, denoise, of_quality};
use super::encoding::Encoding;
use super::history::History;
use super::process::Processes;
use super::search::gaussian::Process;
use super::search::rows::{Row, center_and_spread, dense};
use super::surrogate::{Fantasy, Training};
use super::{EarlierStudy, MetricValue, Observation, Outcome, Space};

/// Times that each process of earlier changes is fitted; a fit has few steps.
const FITS: usize = 3;
/// Trials that vary less than this share of what varied in earlier studies have not seen enough.
const NARROW: f64 = 0.5;
/// Variance of what a technique alone changes, in variances of all changes: earlier studies tell mostly of few techniques at once,
/// and changes are expected to add up, as logarithms of ratios do.
const WEIGHT: f64 = 0.2;

/// What configurations changed in earlier studies.
#[derive(Debug, Clone)]
pub struct Earlier {
    width: usize,
    rows: Vec<Row>,
    /// Of each metric differences from the baseline and logarithms of ratios to it; none where nothing is known.
    changes: Vec<[Option<Changes>; 2]>,
    /// Of changes here and there.
    joint: Processes,
    names: Vec<String>,
}

/// One metric's changes, trial by trial, and a process of them.
type Changes = (Vec<f64>, Process);

/// One metric's changes, learnt here and in earlier studies, whose trials count as so noisy as they are wrong about this one.
#[derive(Debug, Clone)]
pub struct Transfer {
    joint: Process,
    baseline: f64,
    /// Trials of this study that it knows.
    count: usize,
    /// Standard deviation of the metric among them.
    spread: f64,
    /// Standard deviation of earlier changes.
    typical: f64,
}

impl Transfer {
    /// Mean and standard deviation at a row of all numbers.
    pub fn predict(&self, dense: &[f64]) -> (f64, f64) {
        let (change, deviation) = self.joint.predict(dense);
        (self.baseline + change, deviation)
    }

    /// Whether trials here differ so little, measured by what changed elsewhere, that they tell nothing about others.
    pub fn is_alone(&self) -> bool {
        self.spread < NARROW * self.typical
    }

    /// Root mean square error of each trial predicted from all others, in standard deviations of the metric.
    pub fn error(&self) -> f64 {
        self.joint.error_of_first(self.count) / self.spread
    }
}

impl Earlier {
    /// Of studies whose configurations lie in this space; none where they tell nothing.
    pub fn new(studies: &[EarlierStudy], space: &Space, encoding: &Encoding, history: &History) -> Option<Self> {
        let metrics = history.metrics();
        let mut rows: Vec<Row> = Vec::new();
        let mut names = Vec::new();
        let mut changes: Vec<[Vec<f64>; 2]> = vec![Default::default(); metrics.len()];
        for study in studies {
            let fitting =
                study.observations.iter().filter(|observation| space.check(&observation.configuration).is_ok());
            let told: Vec<(&Observation, &[MetricValue])> =
                fitting.filter_map(|observation| Some((observation, measured(observation)?))).collect();
            let Some(baseline) = told.iter().position(|(observation, _)| observation.configuration.is_empty()) else {
                continue;
            };
            if told.len() < 2 {
                continue;
            }
            names.push(study.name.clone());
            rows.extend(told.iter().map(|(observation, _)| encoding.encode(&observation.configuration)));
            let column = |metric: &str| {
                told.iter().map(|(_, values)| denoising::told(values, metric).unwrap_or(MISSING)).collect::<Vec<Told>>()
            };
            let others = told[baseline].1.iter().map(|value| &value.metric).filter(|metric| !metrics.contains(metric));
            let others: Vec<Vec<Told>> =
                others.filter(|metric| of_quality(metric)).map(|metric| column(metric)).collect();
            for (metric, changes) in metrics.iter().zip(&mut changes) {
                let values = denoise(&column(metric), &others);
                let then = values[baseline].0;
                changes[0].extend(values.iter().map(|(now, _)| now - then));
                let ratio = |now: f64| if now > 0.0 && then > 0.0 { (now / then).ln() } else { f64::NAN };
                changes[1].extend(values.iter().map(|(now, _)| ratio(*now)));
            }
        }
        let targets: Vec<Vec<f64>> = changes.into_iter().flatten().collect();
        let known = |target: &Vec<f64>| target.iter().filter(|change| change.is_finite()).count() > 1;
        if rows.is_empty() || !targets.iter().any(known) {
            return None;
        }
        let variances = vec![vec![0.0; rows.len()]; targets.len()];
        let mut processes = Processes::additive(encoding, targets.len(), WEIGHT);
        (0..FITS * targets.len()).for_each(|_| _ = processes.fit(&rows, &targets, &variances));
        let made = processes.condition(&rows, &targets, &variances).into_iter().zip(targets);
        let mut made = made.map(|(made, target)| known(&target).then_some((target, made)));
        let changes = metrics.iter().map(|_| std::array::from_fn(|_| made.next().flatten())).collect();
        let (width, joint) = (encoding.features().len(), Processes::additive(encoding, metrics.len(), WEIGHT));
        Some(Self { width, rows, changes, joint, names })
    }

    /// Predictors of the metrics after what was told; none of those of which nothing is known.
    pub fn after(&mut self, training: &Training, history: &History, fantasies: &[Fantasy]) -> Vec<Option<Transfer>> {
        let baseline = history.measured().find(|(trial, _)| trial.trial == 0).map(|(trial, _)| &trial.metrics);
        let rows: Vec<Vec<f64>> = training.rows.iter().map(|row| dense(row, self.width)).collect();
        let mut all = Training { rows: [&training.rows[..], &self.rows].concat(), ..training.clone() };
        let mut baselines = Vec::new();
        for metric in 0..history.metrics().len() {
            let log = training.logs[metric];
            let value = baseline.and_then(|metrics| metrics.get(metric).copied().flatten());
            let baseline = value.map(|(value, _)| if log { value.ln() } else { value });
            let known = baseline.zip(self.changes[metric][usize::from(log)].as_ref());
            let (target, variances) = (&mut all.targets[metric], &mut all.variances[metric]);
            match known {
                Some((baseline, (changes, process))) => {
                    target.iter_mut().for_each(|target| *target -= baseline);
                    let (share, wrong) = agreement(process, &rows, target);
                    target.extend(changes.iter().map(|change| share * change));
                    variances.extend(changes.iter().map(|_| wrong));
                }
                None => {
                    target.extend(self.rows.iter().map(|_| f64::NAN));
                    variances.extend(self.rows.iter().map(|_| 0.0));
                }
            }
            baselines.push(known.map(|(baseline, (_, process))| (baseline, process.spread())));
        }
        let joint = self.joint.after(&all, fantasies);
        let each = joint.into_iter().zip(baselines).zip(&training.targets);
        each.map(|((joint, known), target)| {
            let count = target.iter().filter(|target| target.is_finite()).count();
            let spread = center_and_spread(target).1;
            known.map(|(baseline, typical)| Transfer { joint, baseline, count, spread, typical })
        })
        .collect()
    }

    /// Whether a metric's changes are ratios, where anything is known of it: other models and devices are larger or faster by a
    /// factor, so all that is positive carries over as such.
    pub fn multiplies(&self, metric: usize) -> Option<bool> {
        let [differences, ratios] = &self.changes[metric];
        let known = |changes: &Option<Changes>| {
            changes.as_ref().map_or(0, |(changes, _)| changes.iter().filter(|change| change.is_finite()).count())
        };
        differences.as_ref().map(|_| known(ratios) == known(differences))
    }

    /// What it knows, in words.
    pub fn words(&self) -> String {
        format!("{} trials of earlier studies are known: {}", self.rows.len(), self.names.join(", "))
    }
}

/// The factor on earlier changes that fits changes here best, by least squares with one more observation of 1, and the mean
/// square of what that gets wrong, with one more of a quarter of the earlier changes' variance.
fn agreement(earlier: &Process, rows: &[Vec<f64>], changes: &[f64]) -> (f64, f64) {
    let typical = earlier.spread().powi(2);
    let pairs = rows.iter().zip(changes).filter(|(_, change)| change.is_finite());
    let pairs: Vec<(f64, f64)> = pairs.map(|(row, change)| (earlier.predict(row).0, *change)).collect();
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>();
    let share = (typical + sum(&|(there, here)| there * here)) / (typical + sum(&|(there, _)| there * there));
    let wrong = 0.25 * typical + sum(&|(there, here)| (here - share * there).powi(2));
    (share, wrong / (1 + pairs.len()) as f64)
}

fn measured(observation: &Observation) -> Option<&[MetricValue]> {
    match &observation.outcome {
        Outcome::Measured(values) => Some(values),
        Outcome::Infeasible(_) | Outcome::Failed(_) => None,
    }
}

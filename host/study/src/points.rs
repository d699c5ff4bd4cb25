//! Trials as points in the space of the objectives: what the front, the hypervolume and the choice of confirmations need.

use crate::{Figures, Purpose, StudyRecord, Trial, TrialId};
use aehost_common::Direction;
use aehost_search::pareto::{Point, front};

/// A trial's place among the objectives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub trial: TrialId,
    pub point: Point,
}

/// Baseline and search trials at full fidelity that measured every objective, as points. `feasible` may overrule the
/// screening's verdict on a trial.
pub(crate) fn place(record: &StudyRecord, trials: &[Trial], feasible: impl Fn(TrialId) -> Option<bool>) -> Vec<Placed> {
    let Some(baseline) = trials.iter().find(|t| t.purpose == Purpose::Baseline) else { return Vec::new() };
    trials
        .iter()
        .filter(|t| t.purpose != Purpose::Confirmation && t.fidelity >= 1.0)
        .filter_map(|trial| {
            let figures = Figures::of(record, baseline, trial)?;
            let metrics = &trial.outcome.measurements()?.metrics;
            let value = |metric: &str| match metrics.get(metric) {
                Some(measurement) => Some(measurement.value),
                None if metric == crate::metrics::ACCURACY_DROP => figures.accuracy_drop.map(|d| d.percent.value),
                None => None,
            };
            let costs = record.objectives.iter().map(|objective| {
                let value = value(&objective.metric)?;
                Some(if objective.direction == Direction::Maximize { -value } else { value })
            });
            let costs = costs.collect::<Option<Vec<f64>>>()?;
            let violation = match feasible(trial.id) {
                Some(true) => 0.0,
                Some(false) if figures.feasible => f64::MIN_POSITIVE,
                _ => figures.violation(),
            };
            Some(Placed { trial: trial.id, point: Point { costs, violation } })
        })
        .collect()
}

/// Every objective scaled so that the best feasible value is 0 and the worst is 1; an objective without spread is 0.
pub(crate) fn scaled(placed: &[Placed]) -> Vec<Placed> {
    let feasible = || placed.iter().filter(|p| p.point.feasible()).map(|p| &p.point.costs);
    let objectives = placed.first().map_or(0, |p| p.point.costs.len());
    let ranges: Vec<(f64, f64)> = (0..objectives)
        .map(|i| {
            let values = || feasible().map(|values| values[i]);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            (low, if high > low { high - low } else { f64::INFINITY })
        })
        .collect();
    let scale = |placed: &Placed| {
        let costs = placed.point.costs.iter().zip(&ranges).map(|(v, (low, range))| (v - low) / range).collect();
        Placed { trial: placed.trial, point: Point { costs, violation: placed.point.violation } }
    };
    placed.iter().map(scale).collect()
}

/// The points that nothing beats.
pub(crate) fn on_front(placed: &[Placed]) -> Vec<&Placed> {
    let points: Vec<Point> = placed.iter().map(|p| p.point.clone()).collect();
    front(&points).into_iter().map(|i| &placed[i]).collect()
}

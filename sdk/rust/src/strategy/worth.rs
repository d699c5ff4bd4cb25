//! What candidates are worth: expected hypervolume improvement times the probability that it counts.

use super::candidates::Candidate;
use super::history::{History, Trial};
use super::search::hypervolume::{Scale, hypervolume, minimal};
use super::search::improvement::Improvement;
use super::search::pareto::Point;
use super::surrogate::words;

/// How far beyond the worst of the front hypervolumes reach, as a share of its range and of that of all trials.
const BEYOND: f64 = 0.1;
/// Most points of the front that boxes are made of, by the number of objectives.
const POINTS: [usize; 6] = [64, 64, 64, 48, 24, 12];
/// What candidates are worth.
pub struct Worth {
    front: Vec<Vec<f64>>,
    reference: Vec<f64>,
    /// None while nothing feasible was measured.
    improvement: Option<Improvement>,
    /// Volume of the front, or 0.
    volume: f64,
}

impl Worth {
    /// Of what was told, each trial's costs given by `point`, and of costs that trials still out are believed to have.
    pub fn new(history: &History, mut point: impl FnMut(&Trial, &Point) -> Point, believed: Vec<Vec<f64>>) -> Self {
        let finite = |costs: &Vec<f64>| costs.iter().all(|cost| cost.is_finite());
        let feasible: Vec<Vec<f64>> = history
            .measured()
            .filter(|(_, point)| point.feasible())
            .map(|(t, p)| point(t, p).costs)
            .filter(finite)
            .collect();
        let mut front = minimal(feasible.clone());
        // What beats the baseline in nothing is worth nothing, and where the front is short all feasible trials tell the scale.
        let first = || history.measured().filter(|(trial, _)| trial.trial == 0);
        let baseline = first().map(|(_, point)| &point.costs);
        // What is worse by no more than the noise may be as good: accuracies on few questions.
        let noise = |objective: usize| first().filter_map(|(trial, _)| Some(trial.metrics[objective]?.1)).sum::<f64>();
        let apart: Vec<f64> = (0..history.objectives().len())
            .map(|objective| {
                let costs = || feasible.iter().map(|costs| costs[objective]);
                costs().fold(f64::NEG_INFINITY, f64::max) - costs().fold(f64::INFINITY, f64::min)
            })
            .collect();
        let scale = Scale::of(front.iter().chain(baseline), &apart).map(|mut scale| {
            let beyond = apart.iter().enumerate().map(|(objective, apart)| BEYOND * apart + noise(objective));
            scale.nadir.iter_mut().zip(beyond).for_each(|(nadir, beyond)| *nadir += beyond);
            scale
        });
        let Some(scale) = scale.filter(|_| !front.is_empty()) else {
            return Self { front, reference: Vec::new(), improvement: None, volume: 0.0 };
        };
        let reference = scale.reference(BEYOND);
        let volume = hypervolume(&front, &reference);
        front.extend(believed);
        let limit = POINTS[reference.len().min(POINTS.len() - 1)];
        let mut kept = minimal(front.clone());
        kept.truncate(limit);
        Self { improvement: Some(Improvement::new(&kept, &reference)), front, reference, volume }
    }

    /// Candidates, the most worthwhile first.
    pub fn order(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        let values: Vec<f64> = candidates.iter().map(|candidate| self.value(candidate)).collect();
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        order
    }

    /// Expected gain times the probability that it counts; the probability alone while nothing feasible is known.
    pub fn value(&mut self, candidate: &Candidate) -> f64 {
        let feasible = candidate.expected.feasible;
        match &mut self.improvement {
            Some(improvement) => feasible * improvement.expected(&candidate.expected.costs),
            None => feasible,
        }
    }

    /// The share of the hypervolume that the surrogates see beyond the front.
    pub fn remaining(&self, candidates: &[Candidate]) -> f64 {
        if self.improvement.is_none() {
            return 1.0;
        }
        let likely = candidates.iter().filter(|candidate| candidate.expected.feasible >= 0.5);
        let expected = likely.map(|c| c.expected.costs.iter().map(|belief| belief.median()).collect());
        let mut reached = minimal(self.front.iter().cloned().chain(expected).collect());
        reached.truncate(POINTS[self.reference.len().min(POINTS.len() - 1)]);
        let volume = hypervolume(&reached, &self.reference);
        if volume > 0.0 { (1.0 - self.volume / volume).clamp(0.0, 1.0) } else { 1.0 }
    }

    /// Why a candidate is measured, in words.
    pub fn why(&mut self, history: &History, candidate: &Candidate) -> String {
        let value = self.value(candidate);
        let expected = words(history, &candidate.expected);
        let near = candidate.near.map_or(String::new(), |trial| format!("one change from trial {trial}; "));
        let gain = match &self.improvement {
            Some(_) if self.volume > 0.0 => {
                format!("expected to add {:.1} % of hypervolume", 100.0 * value / self.volume)
            }
            Some(_) => "expected to add most to the front".into(),
            None => "most likely to be feasible".into(),
        };
        format!("{near}{gain}: {expected}; feasible with {:.0} %", 100.0 * candidate.expected.feasible)
    }
}

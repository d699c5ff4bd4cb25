//! Which trials are measured again at full fidelity when the search has ended: the baseline first; then the candidate that
//! is expected to gain most, which weighs its efficiency score with the probability that it satisfies the constraints; its
//! two nearest neighbours on the front, those first which may dominate it as far as the noise tells; and, while none of these
//! holds what it promised, the next candidates.
//!
//! Each step follows from the stored trials alone, so an interrupted confirmation goes on where it was.

use crate::doubt::may_dominate;
use crate::points::{self, Placed};
use crate::{Figures, Outcome, Purpose, StudyRecord, Trial, TrialId};
use std::collections::BTreeMap;

/// Neighbours of the first candidate that are confirmed with it.
const NEIGHBOURS: usize = 2;
/// Candidates at most, when one after the other disappoints.
const CANDIDATES: usize = 6;

/// The next trial to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    pub trial: TrialId,
    /// Whether it may be left out when time is short.
    pub optional: bool,
}

/// Confirmations by the trial that they confirm.
pub(crate) fn confirmations(trials: &[Trial]) -> BTreeMap<TrialId, &Trial> {
    trials.iter().filter_map(|t| Some((t.confirms?, t))).collect()
}

/// What to confirm next; none when all is done. `placed` holds the objectives of the search's trials, scaled to comparable
/// ranges.
pub(crate) fn next(record: &StudyRecord, trials: &[Trial], placed: &[Placed]) -> Option<Next> {
    let done = confirmations(trials);
    let baseline = trials.iter().find(|t| t.purpose == Purpose::Baseline)?;
    let Some(confirmed_baseline) = done.get(&baseline.id) else {
        return Some(Next { trial: baseline.id, optional: false });
    };
    let candidates = candidates(record, baseline, trials);
    let first = *candidates.first()?;
    let mut wanted = vec![first];
    let rivals = rivals(record, trials, first, placed).into_iter().filter(|id| *id != baseline.id);
    wanted.extend(rivals.take(NEIGHBOURS));
    if !matches!(confirmed_baseline.outcome, Outcome::Ok { .. }) {
        return None;
    }
    if let Some(position) = wanted.iter().position(|id| !done.contains_key(id)) {
        return Some(Next { trial: wanted[position], optional: position > 0 });
    }
    let holds = |trial: &&Trial| {
        let figures = Figures::of(record, confirmed_baseline, trial);
        trial.confirms != Some(baseline.id) && figures.is_some_and(|f| f.feasible && f.score() > Some(1.0))
    };
    if done.values().any(holds) || done.len() > CANDIDATES {
        return None;
    }
    candidates.into_iter().find(|id| !done.contains_key(id)).map(|trial| Next { trial, optional: true })
}

/// Measured trials that promise a gain, by expected gain: probability of being feasible times the logarithm of the score.
fn candidates(record: &StudyRecord, baseline: &Trial, trials: &[Trial]) -> Vec<TrialId> {
    let mut gains: Vec<(TrialId, f64)> = trials
        .iter()
        .filter(|t| t.purpose == Purpose::Search && t.fidelity >= 1.0)
        .filter_map(|t| {
            let figures = Figures::of(record, baseline, t)?;
            Some((t.id, figures.probability_feasible * figures.score()?.ln()))
        })
        .filter(|(_, gain)| *gain > 0.0)
        .collect();
    gains.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    gains.into_iter().map(|(id, _)| id).collect()
}

/// The points of the front that are to be told from `trial`: those that may dominate it, then the others, by distance. `trial`
/// need not be on the front: luck on few items beats what is better.
fn rivals(record: &StudyRecord, trials: &[Trial], trial: TrialId, placed: &[Placed]) -> Vec<TrialId> {
    let Some(own) = placed.iter().find(|p| p.trial == trial) else { return Vec::new() };
    let others: Vec<&Placed> = points::on_front(placed).into_iter().filter(|p| p.trial != trial).collect();
    let measured = |id: TrialId| trials.iter().find(|t| t.id == id);
    let open = measured(trial)
        .map_or_else(Vec::new, |own| may_dominate(record, own, others.iter().filter_map(|p| measured(p.trial))));
    let distance = |p: &Placed| p.point.costs.iter().zip(&own.point.costs).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut others: Vec<(bool, f64, TrialId)> =
        others.into_iter().map(|p| (!open.contains(&p.trial), distance(p), p.trial)).collect();
    others.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    others.into_iter().map(|(.., id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{measured, study, trial};

    fn figures(latency: f64, accuracy: f64) -> Outcome {
        let metrics = [("latency.e2e_ms", latency), ("memory.peak_bytes", 100.0), ("multiple-choice.acc", accuracy)];
        measured(&metrics)
    }

    /// Adds the confirmation of each trial that is asked for, with this accuracy, and gives the order.
    fn order(mut trials: Vec<Trial>, accuracy: impl Fn(TrialId) -> f64) -> Vec<(u64, bool)> {
        let record = study("s");
        let mut order = Vec::new();
        loop {
            let placed = points::scaled(&points::place(&record, &trials, |_| None));
            let Some(Next { trial: id, optional }) = next(&record, &trials, &placed) else { return order };
            assert!(order.len() < 20, "it does not end");
            order.push((id.0, optional));
            let (number, latency) = (trials.len() as u64, 100.0 - id.0 as f64);
            let outcome = figures(latency, accuracy(id));
            trials.push(Trial { purpose: Purpose::Confirmation, confirms: Some(id), ..trial(number, &[], outcome) });
        }
    }

    /// Trial 1 is the best feasible one; 2 and 3 are on the front; 4 is beaten; 5 is cheap but loses half the accuracy.
    fn searched() -> Vec<Trial> {
        vec![
            trial(0, &[], figures(100.0, 0.5)),
            trial(1, &[("a", 1)], figures(50.0, 0.48)),
            trial(2, &[("a", 2)], figures(60.0, 0.485)),
            trial(3, &[("a", 3)], figures(90.0, 0.495)),
            trial(4, &[("a", 4)], figures(91.0, 0.49)),
            trial(5, &[("b", 1)], figures(10.0, 0.25)),
        ]
    }

    #[test]
    fn the_best_candidate_comes_after_the_baseline_and_before_its_neighbours() {
        assert_eq!(order(searched(), |_| 0.5), [(0, false), (1, false), (2, true), (3, true)]);
    }

    #[test]
    fn a_candidate_that_luck_keeps_off_the_front_has_neighbours_too() {
        let mut trials = searched();
        // Hardly cheaper than trial 1, and luckier: it stands on the front in trial 1's place.
        trials[1] = trial(1, &[("a", 1)], figures(50.0, 0.484));
        trials[2] = trial(2, &[("a", 2)], figures(49.99, 0.485));
        let placed = points::scaled(&points::place(&study("s"), &trials, |_| None));
        assert!(points::on_front(&placed).iter().all(|p| p.trial != TrialId(1)));
        assert_eq!(rivals(&study("s"), &trials, TrialId(1), &placed)[0], TrialId(2));
    }

    #[test]
    fn what_may_dominate_the_candidate_comes_before_what_is_nearer() {
        let mut trials = searched();
        // Trial 2 is nearer, but slower beyond doubt; trial 3 may be slower by luck.
        trials[2] = trial(2, &[("a", 2)], figures(51.5, 0.485));
        trials[3] = trial(3, &[("a", 3)], figures(52.0, 0.5));
        for (id, standard_error) in [(1, 0.5), (2, 0.1), (3, 5.0)] {
            let Outcome::Ok { measurements } = &mut trials[id].outcome else { unreachable!() };
            let latency = measurements.metrics.get_mut("latency.e2e_ms").unwrap();
            (latency.standard_error, latency.samples) = (standard_error, vec![latency.value; 30]);
        }
        let placed = points::scaled(&points::place(&study("s"), &trials, |_| None));
        assert_eq!(rivals(&study("s"), &trials, TrialId(1), &placed)[..2], [TrialId(3), TrialId(2)]);
    }

    #[test]
    fn while_all_disappoint_further_candidates_follow() {
        let disappoint = |id: TrialId| if id.0 == 0 { 0.5 } else { 0.3 };
        assert_eq!(order(searched(), disappoint), [(0, false), (1, false), (2, true), (3, true), (4, true)]);
    }

    #[test]
    fn candidates_are_weighed_by_the_chance_that_they_are_feasible() {
        let with_error = |id: u64, latency: f64, accuracy: f64, standard_error: f64| {
            let Outcome::Ok { mut measurements } = figures(latency, accuracy) else { unreachable!() };
            let metric = measurements.metrics.get_mut("multiple-choice.acc").unwrap();
            metric.standard_error = standard_error;
            // Enough samples for the normal distribution; they do not enter, as the baseline has none.
            metric.samples = vec![accuracy; 1000];
            trial(id, &[("a", id as i64)], Outcome::Ok { measurements })
        };
        let trials = vec![
            trial(0, &[], figures(100.0, 0.5)),
            // Half a standard error beyond the limit of 5 %, but five times as fast; and safe, but hardly any faster.
            with_error(1, 20.0, 0.47, 0.01),
            with_error(2, 80.0, 0.5, 0.0),
        ];
        assert_eq!(candidates(&study("s"), &trials[0], &trials), [TrialId(1), TrialId(2)]);
    }

    #[test]
    fn a_baseline_that_fails_its_confirmation_ends_it() {
        let mut trials = searched();
        let failed = Outcome::Timeout { message: "slow".into() };
        trials.push(Trial { purpose: Purpose::Confirmation, confirms: Some(TrialId(0)), ..trial(6, &[], failed) });
        assert_eq!(next(&study("s"), &trials, &[]), None);
    }
}

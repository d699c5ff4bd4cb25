//! Which trials are measured again at full fidelity when the search has ended: the baseline first; then the candidate that
//! is expected to gain most, which weighs its efficiency score with the probability that it satisfies the constraints; its
//! two nearest neighbours on the front; and, while none of these holds what it promised, the next candidates.
//!
//! Each step follows from the stored trials alone, so an interrupted confirmation goes on where it was.

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

/// What to confirm next; none when all is done. `front` holds the front of the search with each trial's objectives,
/// scaled to comparable ranges.
pub(crate) fn next(record: &StudyRecord, trials: &[Trial], front: &[(TrialId, Vec<f64>)]) -> Option<Next> {
    let done = confirmations(trials);
    let baseline = trials.iter().find(|t| t.purpose == Purpose::Baseline)?;
    let Some(confirmed_baseline) = done.get(&baseline.id) else {
        return Some(Next { trial: baseline.id, optional: false });
    };
    let candidates = candidates(record, baseline, trials);
    let first = *candidates.first()?;
    let mut wanted = vec![first];
    wanted.extend(neighbours(first, front).into_iter().filter(|id| *id != baseline.id).take(NEIGHBOURS));
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

/// The other points of the front by distance from `trial`; none when it is not on the front.
fn neighbours(trial: TrialId, front: &[(TrialId, Vec<f64>)]) -> Vec<TrialId> {
    let Some((_, own)) = front.iter().find(|(id, _)| *id == trial) else { return Vec::new() };
    let distance = |values: &[f64]| values.iter().zip(own).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut others: Vec<(TrialId, f64)> =
        front.iter().filter(|(id, _)| *id != trial).map(|(id, values)| (*id, distance(values))).collect();
    others.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    others.into_iter().map(|(id, _)| id).collect()
}

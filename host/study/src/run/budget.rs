//! How much of a study's budget is used, and what the rest will be spent on.

use super::Run;
use crate::confirmation::confirmations;
use crate::{EvaluatorUse, Outcome, Purpose, Standing, StudyPhase, Trial};

/// Duplicate proposals in a row after which the search ends.
const DUPLICATES: u32 = 50;
/// Proposals in a row that were answered without measuring, after which the search ends.
const UNMEASURED: u32 = 500;
/// Confirmations that time is kept for: the baseline, the first candidate and its neighbours.
const PLANNED_CONFIRMATIONS: f64 = 4.0;

impl Run<'_> {
    pub(super) fn trials_limit(&self) -> u32 {
        self.session.limits.trials.unwrap_or(self.record.budget_trials)
    }

    pub(super) fn seconds_limit(&self) -> Option<f64> {
        self.session.limits.seconds.or(self.record.budget_seconds)
    }

    /// Why the search is over, if it is.
    pub(super) fn exhausted(&self, duplicates: u32, unmeasured: u32) -> Option<String> {
        let used = self.used();
        if used >= self.trials_limit() {
            return Some(format!("all {used} trials are done"));
        }
        if let Some(limit) = self.seconds_limit()
            && self.clock.elapsed() + self.trial_seconds() + self.reserved_seconds() > limit
        {
            return Some(format!("the {limit:.0} s are used up after {used} trials"));
        }
        if duplicates >= DUPLICATES {
            return Some(format!("the strategy repeated itself {duplicates} times in a row"));
        }
        (unmeasured >= UNMEASURED).then(|| format!("{unmeasured} proposals in a row could not be measured"))
    }

    /// Trials that count toward the budget: the baseline, and what was handed to a worker.
    pub(super) fn used(&self) -> u32 {
        self.trials.iter().filter(|t| counts(t)).count() as u32
    }

    /// Mean seconds of a trial so far.
    pub(super) fn trial_seconds(&self) -> f64 {
        let seconds: f64 =
            self.trials.iter().filter(|t| t.purpose != Purpose::Confirmation).map(|t| t.timings.total()).sum();
        seconds / f64::from(self.used().max(1))
    }

    /// Expected seconds of a confirmation: the mean of those that were made, otherwise the baseline's time with its
    /// evaluations scaled to the larger number of items.
    pub(super) fn confirmation_seconds(&self) -> f64 {
        let made: Vec<f64> = confirmations(&self.trials).values().map(|t| t.timings.total()).collect();
        if !made.is_empty() {
            return made.iter().sum::<f64>() / made.len() as f64;
        }
        let Some(baseline) = self.trials.first() else { return 0.0 };
        let growth = |label: Option<&str>| {
            let of = |e: &EvaluatorUse| f64::from(e.confirm_items) / f64::from(e.items.max(1));
            let evaluators = &self.record.evaluators;
            match label.and_then(|label| evaluators.iter().find(|e| e.label == label)) {
                Some(evaluator) => of(evaluator),
                None => evaluators.iter().map(of).fold(1.0, f64::max),
            }
        };
        let seconds = baseline.timings.0.iter().map(|(phase, seconds)| match phase.split_once('.') {
            Some(("evaluate", label)) => seconds * growth(Some(label)),
            None if phase == "evaluate" => seconds * growth(None),
            _ => *seconds,
        });
        seconds.sum()
    }

    /// Seconds kept for confirmations, half of the limit at most.
    pub(super) fn reserved_seconds(&self) -> f64 {
        if !self.record.confirm {
            return 0.0;
        }
        let wanted = PLANNED_CONFIRMATIONS * self.confirmation_seconds();
        self.seconds_limit().map_or(wanted, |limit| wanted.min(0.5 * limit))
    }

    pub(super) fn standing(&self, phase: StudyPhase) -> Standing {
        let (used, elapsed) = (self.used(), self.clock.elapsed());
        let seconds_left = (used > 0).then(|| {
            let made = confirmations(&self.trials).len() as f64;
            let confirming = (PLANNED_CONFIRMATIONS - made).max(1.0) * self.confirmation_seconds();
            let wanted = match phase {
                StudyPhase::Confirmation => confirming,
                _ => {
                    let trials = f64::from(self.trials_limit().saturating_sub(used)) * self.trial_seconds();
                    trials + if self.record.confirm { confirming } else { 0.0 }
                }
            };
            self.seconds_limit().map_or(wanted, |limit| wanted.min((limit - elapsed).max(0.0)))
        });
        Standing {
            trials_done: used,
            trials_budget: self.trials_limit(),
            phase,
            best: self.best,
            elapsed_seconds: elapsed,
            seconds_left,
        }
    }
}

/// Whether a trial was handed to a worker in the search. What a worker found not applicable costs next to nothing, and
/// does not count either.
pub(super) fn counts(trial: &Trial) -> bool {
    trial.purpose != Purpose::Confirmation && !matches!(trial.outcome, Outcome::Infeasible { .. })
}

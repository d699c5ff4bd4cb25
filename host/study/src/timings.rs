//! Where the time of a study goes. The phases of a trial do not overlap and add up to the time since the trial before, so
//! the share spent on anything but applying, measuring and evaluating follows from the stored trials.

use crate::{Timings, Trial};
use serde::Serialize;
use std::collections::BTreeMap;

/// Phases that are the purpose of a study; a part may follow after a dot (`evaluate.perplexity`).
const PRODUCTIVE: [&str; 3] = ["apply", "measure", "evaluate"];

impl Timings {
    /// Adds seconds to a phase.
    pub fn add(&mut self, phase: &str, seconds: f64) {
        *self.0.entry(phase.to_owned()).or_insert(0.0) += seconds;
    }

    /// Adds another account to this one.
    pub fn add_all(&mut self, other: &Timings) {
        for (phase, seconds) in &other.0 {
            self.add(phase, *seconds);
        }
    }

    /// Seconds of all phases.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// Seconds of one phase with its parts.
    pub fn of(&self, phase: &str) -> f64 {
        self.0.iter().filter(|(name, _)| head(name) == phase).map(|(_, seconds)| seconds).sum()
    }

    /// Seconds of applying, measuring and evaluating.
    pub fn productive(&self) -> f64 {
        PRODUCTIVE.iter().map(|phase| self.of(phase)).sum()
    }
}

/// Where the time of a whole study went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TimingsSummary {
    /// Seconds by phase.
    pub seconds: BTreeMap<String, f64>,
    /// Seconds of all phases.
    pub total_seconds: f64,
    /// Share of the total that is neither applying, measuring nor evaluating, in [0, 1].
    pub overhead: f64,
}

impl TimingsSummary {
    /// Adds the trials up.
    pub fn of(trials: &[Trial]) -> Self {
        let mut sum = Timings::default();
        trials.iter().for_each(|trial| sum.add_all(&trial.timings));
        let total_seconds = sum.total();
        let overhead = if total_seconds > 0.0 { 1.0 - sum.productive() / total_seconds } else { 0.0 };
        Self { seconds: sum.0, total_seconds, overhead }
    }
}

fn head(phase: &str) -> &str {
    phase.split_once('.').map_or(phase, |(head, _)| head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{measured, trial};

    #[test]
    fn overhead_is_what_serves_no_measurement() {
        let mut one = trial(0, &[], measured(&[]));
        for (phase, seconds) in
            [("apply", 1.0), ("measure", 3.0), ("evaluate.perplexity", 4.0), ("ask", 1.5), ("wait", 0.5)]
        {
            one.timings.add(phase, seconds);
        }
        let summary = TimingsSummary::of(&[one.clone(), one]);
        assert_eq!(summary.total_seconds, 20.0);
        assert!((summary.overhead - 0.2).abs() < 1e-12);
        assert_eq!(summary.seconds["evaluate.perplexity"], 8.0);
        assert_eq!(TimingsSummary::of(&[]).overhead, 0.0);
    }
}

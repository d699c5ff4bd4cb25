//! Where the time of a study went, as rows that every view shows alike.

use crate::units::{clean, duration};
use aehost_study::{Timings, TimingsSummary, Trial};
use serde::Serialize;

/// Time spent in one phase over all trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Phase {
    /// The phase's name, as the worker and the host give it.
    pub name: String,
    /// Time, with its unit.
    pub time: String,
    /// Share of the whole, with its sign.
    pub share: String,
    /// Share of the whole in percent.
    pub percent: f64,
    /// Whether it is applying, measuring or evaluating.
    pub productive: bool,
}

/// The phases, the longest first.
pub(crate) fn phases(trials: &[Trial]) -> Vec<Phase> {
    let whole = TimingsSummary::of(trials);
    let mut seconds: Vec<(&String, &f64)> = whole.seconds.iter().collect();
    seconds.sort_by(|a, b| b.1.total_cmp(a.1));
    let percent = |seconds: f64| if whole.total_seconds > 0.0 { 100.0 * seconds / whole.total_seconds } else { 0.0 };
    let phase = |(name, seconds): (&String, &f64)| {
        let mut alone = Timings::default();
        alone.add(name, *seconds);
        Phase {
            name: clean(name),
            time: duration(*seconds),
            share: format!("{:.1} %", percent(*seconds)),
            percent: percent(*seconds),
            productive: alone.productive() > 0.0,
        }
    };
    seconds.into_iter().map(phase).collect()
}

/// One sentence: how long it took, and how much of that served no measurement.
pub(crate) fn summary(trials: &[Trial]) -> String {
    let whole = TimingsSummary::of(trials);
    format!(
        "{} in all; {:.1} % of it is neither applying, measuring nor evaluating.",
        duration(whole.total_seconds),
        100.0 * whole.overhead.max(0.0)
    )
}

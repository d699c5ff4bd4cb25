//! Where the time of a run goes, phase by phase, without gaps: what no phase claims is the host's own.

use crate::Timings;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Attributes the time since the last trial was finished to phases.
pub(super) struct Clock {
    started: Instant,
    /// Seconds of earlier runs of the study.
    before: f64,
    mark: Instant,
    spent: Timings,
}

impl Clock {
    pub fn new(before: f64) -> Self {
        let now = Instant::now();
        Self { started: now, before, mark: now, spent: Timings::default() }
    }

    /// Runs `work` on account of a phase.
    pub fn time<T>(&mut self, phase: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.spent.add(phase, begun.elapsed().as_secs_f64());
        result
    }

    /// Moves seconds from one phase to another, no more than the first has.
    pub fn shift(&mut self, from: &str, to: &str, seconds: f64) {
        let seconds = seconds.clamp(0.0, self.spent.of(from));
        self.spent.add(from, -seconds);
        self.spent.add(to, seconds);
    }

    /// Adds the worker's own account of a run that took `seconds`; the rest of it was waiting.
    pub fn add_run(&mut self, seconds: f64, worker: &Timings) {
        self.spent.add_all(worker);
        self.spent.add("wait", (seconds - worker.total()).max(0.0));
    }

    /// The phases since the last call; together they are the time that passed.
    pub fn drain(&mut self) -> Timings {
        let now = Instant::now();
        let passed = (now - std::mem::replace(&mut self.mark, now)).as_secs_f64();
        self.spent.add("host", (passed - self.spent.total()).max(0.0));
        std::mem::take(&mut self.spent)
    }

    /// Seconds that the study has taken in all its runs.
    pub fn elapsed(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970.
pub(super) fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

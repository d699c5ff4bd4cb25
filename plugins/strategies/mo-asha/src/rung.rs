//! What was measured at one fidelity.

use aehost_sdk::strategy::history::Trial;
use aehost_sdk::strategy::search::pareto::{self, Point};
use aehost_sdk::strategy::{Configuration, TrialId};

/// The trials of one fidelity.
pub struct Rung {
    /// Share of the data, in (0, 1].
    pub fidelity: f64,
    /// Told, whatever came of them.
    count: usize,
    measured: Vec<Member>,
    points: Vec<Point>,
}

struct Member {
    trial: TrialId,
    configuration: Configuration,
    promoted: bool,
}

impl Rung {
    /// An empty one.
    pub fn new(fidelity: f64) -> Self {
        Self { fidelity, count: 0, measured: Vec::new(), points: Vec::new() }
    }

    /// Takes in a result.
    pub fn tell(&mut self, told: &Trial) {
        self.count += 1;
        if let Some(point) = &told.point {
            let (trial, configuration) = (told.trial, told.configuration.clone());
            self.measured.push(Member { trial, configuration, promoted: false });
            self.points.push(point.clone());
        }
    }

    /// Results so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first of the best so many that was not promoted; it counts as promoted from now on.
    pub fn promote(&mut self, quota: usize) -> Option<(TrialId, Configuration)> {
        let best = pareto::best(&self.points, quota).into_iter().map(|ranked| ranked.index);
        let next = best.into_iter().find(|index| !self.measured[*index].promoted)?;
        let member = &mut self.measured[next];
        member.promoted = true;
        Some((member.trial, member.configuration.clone()))
    }

    /// Its fidelity in words.
    pub fn words(&self) -> String {
        format!("on {:.0} % of the data", 100.0 * self.fidelity)
    }

    /// What became of its trials, in words.
    pub fn summary(&self) -> String {
        let promoted = self.measured.iter().filter(|member| member.promoted).count();
        format!("{} of {} trials measured, {promoted} promoted", self.measured.len(), self.count)
    }
}

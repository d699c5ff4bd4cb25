//! Asynchronous successive halving for several objectives (MO-ASHA: Schmucker, Donini, Zafar, Salinas, Archambeau,
//! arXiv:2106.12639). New configurations are measured on little; of each rung the best share is measured again on more. Only
//! what was measured at one fidelity is compared, and ends of fronts and what is lonely on them go first.

mod rung;

use aehost_sdk::strategy::*;
use rung::Rung;
use std::collections::BTreeMap;

/// The share of the budget that at the end goes to full fidelity: what else is found then comes too late to be promoted.
const FINISH: u32 = 6;

struct MoAsha {
    search: Search,
    /// From the lowest fidelity to 1.
    rungs: Vec<Rung>,
    /// One of so many is promoted.
    factor: usize,
    /// The rung of each trial that is out.
    out: BTreeMap<TrialId, usize>,
    asked: u32,
}

impl Strategy for MoAsha {
    fn describe() -> Description {
        let summary = "Measures many configurations on little data, and the best of them on more.";
        Description::new(identity!("mo-asha", summary, "MO-ASHA, arXiv:2106.12639"))
            .multi_fidelity()
            .parameter(
                real("least", "The smallest share of the data that a configuration is measured on.", 0.01..=1.0)
                    .log()
                    .default(0.25),
            )
            .parameter(integer("factor", "By how much more is measured; one of so many gets it.", 2..=4).default(4))
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let (least, factor) = (settings.real("least")?, settings.integer("factor")?);
        let mut rungs = Vec::new();
        let mut fidelity = least;
        while fidelity < 1.0 {
            rungs.push(Rung::new(fidelity));
            fidelity *= factor as f64;
        }
        rungs.push(Rung::new(1.0));
        Ok(Self { search: Search::new(problem, 0)?, rungs, factor: factor as usize, out: BTreeMap::new(), asked: 0 })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let (rung, proposal) = match self.promotion() {
                Some((rung, configuration, why)) => (rung, self.search.again(configuration, why)),
                None => match self.search.ask(1, allowed, |_, _| None).pop() {
                    Some(drawn) => {
                        (0, Proposal { why: format!("drawn at random, {}", self.rungs[0].words()), ..drawn })
                    }
                    None => break,
                },
            };
            self.out.insert(proposal.trial, rung);
            self.asked += 1;
            proposals.push(Proposal { fidelity: self.rungs[rung].fidelity, ..proposal });
        }
        Ok(proposals)
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        for observation in observations {
            let (trial, fidelity) = (observation.trial, observation.fidelity);
            let rung = self.out.remove(&trial).or_else(|| self.rungs.iter().position(|rung| rung.fidelity == fidelity));
            self.search.tell(vec![observation]);
            if let (Some(rung), Some(told)) = (rung, self.search.history.trials().last()) {
                self.rungs[rung].tell(told);
            }
        }
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        let notes = self.rungs.iter().map(|rung| format!("{}: {}", rung.words(), rung.summary()));
        Outlook { remaining_gain: None, notes: notes.collect() }
    }
}

impl MoAsha {
    /// What is measured on more next, at which rung, and why; none where new configurations are worth more.
    fn promotion(&mut self) -> Option<(usize, Configuration, String)> {
        let top = self.rungs.len() - 1;
        for from in (0..top).rev() {
            let quota = self.rungs[from].count() / self.factor;
            if let Some((trial, configuration)) = self.rungs[from].promote(quota) {
                let (words, count) = (self.rungs[from].words(), self.rungs[from].count());
                let why = format!(
                    "trial {trial} is among the best {quota} of {count} {words}; now {}",
                    self.rungs[from + 1].words()
                );
                return Some((from + 1, configuration, why));
            }
        }
        let left = self.search.budget.saturating_sub(1 + self.asked);
        if left > self.search.budget / FINISH {
            return None;
        }
        (0..top).rev().find_map(|from| {
            let (trial, configuration) = self.rungs[from].promote(usize::MAX)?;
            let why = format!(
                "trial {trial} is the best {} that went no further, and the budget ends",
                self.rungs[from].words()
            );
            Some((top, configuration, why))
        })
    }
}

aehost_sdk::strategy!(MoAsha);

#[cfg(test)]
mod tests;

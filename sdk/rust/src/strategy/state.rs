//! What every search keeps, whatever it proposes: the space, what was told, what was proposed, the generator, and an initial
//! design for the time when nothing is known.

use super::{
    Choice, Configuration, Error, Feasibility, Observation, Problem, Proposal, Random, Space, TrialId, admitted, design,
};
use crate::strategy::history::History;
use std::collections::{HashSet, VecDeque};

/// How many random configurations may be no news before the space counts as exhausted.
const DRAWS: u32 = 1000;
/// Random configurations among which the one furthest from all others is taken.
const CANDIDATES: usize = 48;

/// The part of a search that all strategies share.
#[derive(Debug, Clone)]
pub struct Search {
    /// What may be proposed.
    pub space: Space,
    /// What was told, and what is waited for.
    pub history: History,
    /// The source of all chance.
    pub random: Random,
    /// Trials of the whole search, the baseline included.
    pub budget: u32,
    /// Keys of everything proposed or refused, and of the baseline. Asked about, never gone through: its order is chance.
    seen: HashSet<String>,
    /// What is left of the initial design, with the reason for each.
    design: VecDeque<(Configuration, String)>,
    /// Slots of the initial design that space-filling points take after the fixed ones.
    filling: usize,
    /// Everything proposed, the baseline first.
    proposed: Vec<Configuration>,
    refused: Vec<Configuration>,
}

impl Search {
    /// A search whose first `initial` proposals are the initial design. Errors: invalid-input, without an objective.
    pub fn new(problem: Problem, initial: usize) -> Result<Self, Error> {
        let landmarks = initial;
        Self::with_landmarks(problem, initial, landmarks)
    }

    /// The same with at most so many techniques tried alone; the other slots are filled with points unlike any other.
    pub fn with_landmarks(problem: Problem, initial: usize, landmarks: usize) -> Result<Self, Error> {
        if problem.objectives.is_empty() {
            return Err(Error::invalid("the problem has no objective; name at least one"));
        }
        let history = History::new(&problem);
        let space = Space::new(problem.space);
        let mut design = design::landmarks(&space);
        design.truncate(landmarks.min(initial));
        Ok(Self {
            seen: HashSet::from([space.key(&[])]),
            filling: initial - design.len(),
            design: design.into(),
            random: Random::new(problem.seed),
            budget: problem.budget,
            proposed: vec![Configuration::new()],
            refused: Vec::new(),
            history,
            space,
        })
    }

    /// Up to `count` proposals: the initial design, then what `propose` finds, then random ones where that finds nothing.
    /// What `propose` gives must have been checked by [`Search::news`].
    pub fn ask<F: Feasibility>(
        &mut self,
        count: u32,
        allowed: &F,
        mut propose: impl FnMut(&mut Self, &F) -> Option<(Configuration, String)>,
    ) -> Vec<Proposal> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let next = self.designed(allowed).or_else(|| propose(self, allowed)).or_else(|| self.drawn(allowed));
            let Some((configuration, why)) = next else { break };
            proposals.push(self.again(configuration, why));
        }
        proposals
    }

    /// Proposes a configuration that may have been proposed before, as at another fidelity.
    pub fn again(&mut self, configuration: Configuration, why: String) -> Proposal {
        let trial = self.proposed.len() as TrialId;
        self.proposed.push(configuration.clone());
        self.history.propose(trial, configuration.clone());
        Proposal { trial, configuration, fidelity: 1.0, why }
    }

    /// Takes in results. What was measured elsewhere is not proposed again, and takes the place of a point of the initial design.
    pub fn tell(&mut self, observations: Vec<Observation>) {
        for observation in observations {
            if self.seen.insert(self.space.key(&observation.configuration)) {
                self.proposed.push(observation.configuration.clone());
                match self.filling.checked_sub(1) {
                    Some(filling) => self.filling = filling,
                    None => _ = self.design.pop_back(),
                }
            }
            self.history.tell(observation);
        }
    }

    /// The next point of the initial design that is allowed.
    fn designed(&mut self, allowed: &impl Feasibility) -> Option<(Configuration, String)> {
        while let Some((configuration, why)) = self.design.pop_front() {
            if self.news(&configuration, allowed) {
                return Some((configuration, why));
            }
        }
        if self.filling == 0 {
            return None;
        }
        self.filling -= 1;
        self.unlike(allowed).map(|found| (found, "initial design: unlike anything tried".into()))
    }

    /// Of some random configurations that are news the one furthest from everything proposed.
    pub fn unlike(&mut self, allowed: &impl Feasibility) -> Option<Configuration> {
        let candidates: Vec<Configuration> = (0..DRAWS)
            .map(|_| self.space.sample(&mut self.random))
            .filter(|candidate| !self.seen.contains(&self.space.key(candidate)))
            .filter(|candidate| admitted(candidate, allowed, self.history.constraints()))
            .take(CANDIDATES)
            .collect();
        let furthest = design::furthest(&self.space, &self.proposed, candidates)?;
        self.seen.insert(self.space.key(&furthest));
        Some(furthest)
    }

    /// A random configuration that is news.
    fn drawn(&mut self, allowed: &impl Feasibility) -> Option<(Configuration, String)> {
        for _ in 0..DRAWS {
            let drawn = self.space.sample(&mut self.random);
            if self.news(&drawn, allowed) {
                return Some((drawn, "drawn at random: nothing better is new".into()));
            }
        }
        None
    }

    /// Whether a configuration is worth a trial; it is never asked about again.
    pub fn news(&mut self, configuration: &[Choice], allowed: &impl Feasibility) -> bool {
        if !self.seen.insert(self.space.key(configuration)) {
            return false;
        }
        let admitted = admitted(configuration, allowed, self.history.constraints());
        if !admitted {
            self.refused.push(configuration.to_vec());
        }
        admitted
    }

    /// Whether a configuration, by its key, was proposed or refused before, or is the baseline.
    pub fn seen(&self, key: &str) -> bool {
        self.seen.contains(key)
    }

    /// Configurations that were not proposed because they are known not to be allowed.
    pub fn refused(&self) -> &[Configuration] {
        &self.refused
    }
}

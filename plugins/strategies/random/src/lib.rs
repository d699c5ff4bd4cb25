//! Random search: configurations drawn uniformly, never one twice, never one known to be infeasible. The honest baseline
//! that any other strategy has to beat (Bergstra and Bengio: Random Search for Hyper-Parameter Optimization, 2012).

use aehost_sdk::strategy::*;
use std::collections::HashSet;

/// How many draws in a row may be repeats or infeasible before the space counts as exhausted.
const DRAWS: u32 = 1000;

struct RandomSearch {
    space: Space,
    random: Random,
    seen: HashSet<String>,
    next: TrialId,
}

impl Strategy for RandomSearch {
    fn describe() -> Description {
        let reference = "Bergstra, Bengio: Random Search for Hyper-Parameter Optimization, JMLR 2012";
        Description::new(identity!("random", "Draws configurations at random, none twice.", reference))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        let space = Space::new(problem.space);
        let seen = HashSet::from([space.key(&[])]);
        Ok(Self { space, random: Random::new(problem.seed), seen, next: 1 })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let fresh = (0..DRAWS).find_map(|_| {
                let configuration = self.space.sample(&mut self.random);
                let new = self.seen.insert(self.space.key(&configuration));
                (new && allowed.check(&configuration).is_ok()).then_some(configuration)
            });
            let Some(configuration) = fresh else { break };
            proposals.push(Proposal { trial: self.next, configuration, fidelity: 1.0, why: "drawn at random".into() });
            self.next += 1;
        }
        Ok(proposals)
    }

    fn tell(&mut self, _: Vec<Observation>) -> Result<(), Error> {
        Ok(())
    }
}

aehost_sdk::strategy!(RandomSearch);

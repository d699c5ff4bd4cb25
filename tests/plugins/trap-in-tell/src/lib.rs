//! A strategy that panics when it is told the result of its own first trial.

use aehost_sdk::strategy::*;

struct TrapInTell {
    space: Space,
    random: Random,
    next: TrialId,
}

impl Strategy for TrapInTell {
    fn describe() -> Description {
        Description::new(identity!("trap-in-tell", "Panics when it is told a result."))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        Ok(Self { space: Space::new(problem.space), random: Random::new(problem.seed), next: 1 })
    }

    fn ask(&mut self, count: u32, _: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let configuration = self.space.sample(&mut self.random);
            proposals.push(Proposal { trial: self.next, configuration, fidelity: 1.0, why: "drawn at random".into() });
            self.next += 1;
        }
        Ok(proposals)
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        for observation in observations {
            assert!(observation.trial == 0, "trial {} is more than this plugin can bear", observation.trial);
        }
        Ok(())
    }
}

aehost_sdk::strategy!(TrapInTell);

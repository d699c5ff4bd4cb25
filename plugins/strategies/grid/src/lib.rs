//! Grid search: every combination once, ranges cut into levels. Combinations come by their distance from the defaults: each
//! technique alone as it comes, then one setting changed or two techniques together, and so on, extremes before what lies
//! between. So a budget that ends early has seen the widest differences.

mod order;

use aehost_sdk::strategy::*;
use order::Combinations;

struct Grid {
    combinations: Combinations,
    constraints: Vec<Constraint>,
    next: TrialId,
}

impl Strategy for Grid {
    fn describe() -> Description {
        Description::new(identity!("grid", "Tries every combination, the plainest first.")).parameter(
            integer("levels", "Values tried of a range that has more; both ends are among them.", 2..=64).default(5i64),
        )
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        let levels = Settings(problem.settings).integer("levels")? as usize;
        let combinations = Combinations::new(Space::new(problem.space), levels);
        Ok(Self { combinations, constraints: problem.constraints, next: 1 })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        while proposals.len() < count as usize {
            let Some(configuration) = self.combinations.next() else { break };
            if admitted(&configuration, allowed, &self.constraints) {
                let why = "next combination of the grid".into();
                proposals.push(Proposal { trial: self.next, configuration, fidelity: 1.0, why });
                self.next += 1;
            }
        }
        Ok(proposals)
    }

    fn tell(&mut self, _: Vec<Observation>) -> Result<(), Error> {
        Ok(())
    }
}

aehost_sdk::strategy!(Grid);

//! Random search: configurations drawn uniformly, never one twice, never one known to be infeasible. The honest baseline
//! that any other strategy has to beat (Bergstra and Bengio: Random Search for Hyper-Parameter Optimization, 2012).

use aehost_sdk::strategy::*;
use std::collections::HashSet;

/// How many draws in a row may be repeats or infeasible before the space counts as exhausted.
const DRAWS: u32 = 1000;

struct RandomSearch {
    space: Space,
    constraints: Vec<Constraint>,
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
        Ok(Self { space, constraints: problem.constraints, random: Random::new(problem.seed), seen, next: 1 })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let fresh = (0..DRAWS).find_map(|_| {
                let configuration = self.space.sample(&mut self.random);
                let new = self.seen.insert(self.space.key(&configuration));
                (new && admitted(&configuration, allowed, &self.constraints)).then_some(configuration)
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

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing;

    #[test]
    fn draws_are_lawful_and_differ_and_the_seed_decides() {
        let problem = testing::mixed_problem(1);
        let space = Space::new(problem.space.clone());
        let draw = |seed: u64| {
            let problem = Problem { seed, ..problem.clone() };
            RandomSearch::start(problem).unwrap().ask(50, &testing::everything).unwrap()
        };
        let proposals = draw(1);
        let keys: HashSet<String> = proposals.iter().map(|p| space.key(&p.configuration)).collect();
        assert_eq!((proposals.len(), keys.len()), (50, 50));
        assert!(proposals.iter().all(|p| space.check(&p.configuration).is_ok()));
        assert_eq!(proposals.iter().map(|p| p.trial).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
        assert_eq!(draw(1), proposals);
        assert_ne!(draw(2), proposals);
    }

    #[test]
    fn an_exhausted_space_yields_no_more() {
        let problem =
            Problem { space: vec![testing::technique("a", [flag("x", "").into()])], ..testing::mixed_problem(1) };
        let mut search = RandomSearch::start(problem).unwrap();
        assert_eq!(search.ask(9, &testing::everything).unwrap().len(), 2);
        assert!(search.ask(9, &testing::everything).unwrap().is_empty());
    }

    #[test]
    fn what_the_host_refuses_is_not_proposed() {
        let refuse = |configuration: &[Choice]| match configuration.iter().any(|c| c.technique == "prune") {
            true => Err(Error::not_applicable("no")),
            false => Ok(vec![]),
        };
        let mut problem = testing::mixed_problem(1);
        problem.constraints = vec![Constraint { metric: "memory.weights_bytes".into(), at_most: true, bound: 1.0 }];
        let proposals = RandomSearch::start(problem).unwrap().ask(20, &refuse).unwrap();
        assert!(proposals.iter().flat_map(|p| &p.configuration).all(|c| c.technique != "prune"));
        assert_eq!(proposals.len(), 20);
    }
}

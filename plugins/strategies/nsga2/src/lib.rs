//! NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002) for tens of measurements: constrained
//! domination, crowding, and crossover that keeps stages together. Steady-state (Durillo et al., EMO 2009): every child is
//! bred from all that is known when it is asked for, so results count at once whatever the number of workers.

mod design;
mod population;

use aehost_sdk::strategy::*;
use population::Population;
use std::collections::{HashSet, VecDeque};

/// How often a child is bred anew because it is no news or not allowed, before a random configuration is tried.
const BREEDINGS: u32 = 64;
/// How many random configurations may be no news before the space counts as exhausted.
const DRAWS: u32 = 1000;
/// Share of children that have two parents.
const CROSSOVER: f64 = 0.9;

struct Nsga2 {
    space: Space,
    constraints: Vec<Constraint>,
    population: Population,
    random: Random,
    /// Keys of everything proposed, and of the baseline.
    seen: HashSet<String>,
    /// What is left of the initial design, with the reason for each.
    design: VecDeque<(Configuration, String)>,
    /// Slots of the initial design that space-filling points take after the fixed ones.
    filling: usize,
    proposed: Vec<Configuration>,
}

impl Strategy for Nsga2 {
    fn describe() -> Description {
        let reference = "Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist Multiobjective Genetic Algorithm, 2002";
        let summary = "Breeds new configurations from the best so far, keeping the whole front in view.";
        Description::new(identity!("nsga2", summary, reference))
            .parameter(integer(
                "initial",
                "Trials of the initial design; 0 takes half of the budget, 4 to 24.",
                0..=1000,
            ))
            .parameter(integer(
                "population",
                "Trials that may become parents; 0 takes a fifth of the budget, 8 to 40.",
                0..=1000,
            ))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        let settings = Settings(problem.settings);
        if problem.objectives.is_empty() {
            return Err(Error::invalid("the problem has no objective; name at least one"));
        }
        let budget = i64::from(problem.budget);
        let or = |given: i64, automatic: i64| if given > 0 { given as usize } else { automatic as usize };
        let initial = or(settings.integer("initial")?, (budget / 2).clamp(4, 24));
        let parents = or(settings.integer("population")?, (budget / 5).clamp(8, 40));
        let space = Space::new(problem.space);
        let mut design = design::landmarks(&space);
        design.truncate(initial);
        let filling = initial - design.len();
        Ok(Self {
            seen: HashSet::from([space.key(&[])]),
            population: Population::new(problem.objectives, problem.constraints.clone(), parents),
            random: Random::new(problem.seed),
            constraints: problem.constraints,
            proposed: vec![Configuration::new()],
            space,
            design: design.into(),
            filling,
        })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let mut proposals = Vec::new();
        for _ in 0..count {
            let Some((configuration, why)) = self.propose(allowed) else { break };
            let trial = self.proposed.len() as TrialId;
            self.proposed.push(configuration.clone());
            proposals.push(Proposal { trial, configuration, fidelity: 1.0, why });
        }
        Ok(proposals)
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        observations.into_iter().for_each(|observation| self.population.tell(observation));
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        let (front, feasible) = self.population.counts();
        Outlook { remaining_gain: None, notes: vec![format!("{front} of {feasible} feasible trials are on the front")] }
    }
}

impl Nsga2 {
    fn propose(&mut self, allowed: &impl Feasibility) -> Option<(Configuration, String)> {
        while let Some((configuration, why)) = self.design.pop_front() {
            if self.news(&configuration, allowed) {
                return Some((configuration, why));
            }
        }
        if self.filling > 0 {
            self.filling -= 1;
            let candidates: Vec<Configuration> = (0..DRAWS)
                .map(|_| self.space.sample(&mut self.random))
                .filter(|candidate| !self.seen.contains(&self.space.key(candidate)))
                .filter(|candidate| admitted(candidate, allowed, &self.constraints))
                .take(design::CANDIDATES)
                .collect();
            let furthest = design::furthest(&self.space, &self.proposed, candidates)?;
            self.seen.insert(self.space.key(&furthest));
            return Some((furthest, "initial design: unlike anything tried".into()));
        }
        for _ in 0..BREEDINGS {
            let Some((child, why)) = self.breed() else { break };
            if self.news(&child, allowed) {
                return Some((child, why));
            }
        }
        for _ in 0..DRAWS {
            let drawn = self.space.sample(&mut self.random);
            if self.news(&drawn, allowed) {
                return Some((drawn, "drawn at random: breeding gave nothing new".into()));
            }
        }
        None
    }

    /// A child of one or two parents chosen by tournament.
    fn breed(&mut self) -> Option<(Configuration, String)> {
        let [(a, first), (b, second)] = self.population.parents(&mut self.random)?;
        let crossed = a != b && self.random.chance(CROSSOVER);
        let child = if crossed { self.space.cross(first, second, &mut self.random) } else { first.clone() };
        // A child that is a copy of a parent gains from mutation only; others are mutated half of the time.
        let copy = child == *first || child == *second;
        let mutated = copy || self.random.chance(0.5);
        let child = if mutated { self.space.mutate(&child, &mut self.random) } else { child };
        let why = match (crossed, mutated) {
            (true, false) => format!("child of trials {a} and {b}"),
            (true, true) => format!("mutated child of trials {a} and {b}"),
            (false, _) => format!("mutation of trial {a}"),
        };
        Some((child, why))
    }

    /// Whether a configuration is worth a trial; it is never asked about again.
    fn news(&mut self, configuration: &[Choice], allowed: &impl Feasibility) -> bool {
        self.seen.insert(self.space.key(configuration)) && admitted(configuration, allowed, &self.constraints)
    }
}

aehost_sdk::strategy!(Nsga2);

#[cfg(test)]
mod tests;

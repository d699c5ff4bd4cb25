//! How genetic searches make configurations of what was measured.

use super::search::pareto::{Point, Ranked};
use super::share::ShareOfBudget;
use super::{
    Configuration, Description, Error, Feasibility, Observation, Outlook, Problem, Proposal, Random, Search, Settings,
    Space, TrialId,
};

const INITIAL: ShareOfBudget = ShareOfBudget::initial(2, 24);
const POPULATION: ShareOfBudget =
    ShareOfBudget { name: "population", what: "Trials that may become parents", part: 5, least: 8, most: 40 };

/// Share of children that have two parents.
const CROSSOVER: f64 = 0.9;
/// How often a child is bred anew because it is no news or not allowed, before a random configuration is tried.
const BREEDINGS: u32 = 64;

/// A steady-state genetic search, but for what it takes for the best: every child is bred from all that is known when it is asked
/// for, so results count at once whatever the number of workers (Durillo et al., EMO 2009).
pub struct Breeder {
    search: Search,
    /// How many trials may become parents.
    pub limit: usize,
    /// The best trials with their ranks; found again after something was told.
    parents: Option<Vec<Parent>>,
}

impl Breeder {
    /// A description with the parameters of such a search.
    #[must_use]
    pub fn described(description: Description) -> Description {
        description.parameter(INITIAL.parameter()).parameter(POPULATION.parameter())
    }

    /// Begins one.
    ///
    /// # Errors
    /// invalid-input, without an objective or its settings.
    pub fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let initial = INITIAL.of(&settings, problem.budget)?;
        let limit = POPULATION.of(&settings, problem.budget)?;
        Ok(Self { search: Search::new(problem, initial)?, limit, parents: None })
    }

    /// Up to `count` children; `best` finds the parents among the points of what was measured.
    pub fn ask(
        &mut self,
        count: u32,
        allowed: &impl Feasibility,
        best: impl Fn(&[Point], usize) -> Vec<Ranked>,
    ) -> Vec<Proposal> {
        let Self { search, limit, parents } = self;
        search.ask(count, allowed, |search, allowed| {
            let parents = parents.get_or_insert_with(|| {
                let (trials, points): (Vec<_>, Vec<_>) =
                    search.history.measured().map(|(trial, point)| (trial, point.clone())).unzip();
                let parent = |ranked: Ranked| Parent {
                    trial: trials[ranked.index].trial,
                    configuration: trials[ranked.index].configuration.clone(),
                    ranked,
                };
                best(&points, *limit).into_iter().map(parent).collect()
            });
            for _ in 0..BREEDINGS {
                let (child, why) = breed(&search.space, parents, &mut search.random)?;
                if search.news(&child, allowed) {
                    return Some((child, why));
                }
            }
            None
        })
    }

    /// Takes in results.
    pub fn tell(&mut self, observations: Vec<Observation>) {
        // What was not measured teaches nothing here: it is not proposed again anyway.
        self.search.tell(observations);
        self.parents = None;
    }

    /// How many are on the front.
    pub fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

/// A trial that may become a parent.
struct Parent {
    trial: TrialId,
    configuration: Configuration,
    /// How good it is among the others.
    ranked: Ranked,
}

/// The better of two at random: lower rank, then less crowded.
fn tournament<'a>(parents: &'a [Parent], random: &mut Random) -> &'a Parent {
    let (a, b) = (random.pick(parents), random.pick(parents));
    let (first, second) = (a.ranked, b.ranked);
    let second_wins = second.rank < first.rank || (second.rank == first.rank && second.crowding > first.crowding);
    if second_wins { b } else { a }
}

/// A child of one or two parents chosen by tournament; none while nothing was measured.
fn breed(space: &Space, parents: &[Parent], random: &mut Random) -> Option<(Configuration, String)> {
    if parents.is_empty() {
        return None;
    }
    let (first, second) = (tournament(parents, random), tournament(parents, random));
    let (a, b) = (first.trial, second.trial);
    let crossed = a != b && random.chance(CROSSOVER);
    let child = match crossed {
        true => space.cross(&first.configuration, &second.configuration, random),
        false => first.configuration.clone(),
    };
    // A child that is a copy of a parent gains from mutation only; others are mutated half of the time.
    let copy = child == first.configuration || child == second.configuration;
    let mutated = copy || random.chance(0.5);
    let child = if mutated { space.mutate(&child, random) } else { child };
    let why = match (crossed, mutated) {
        (true, false) => format!("child of trials {a} and {b}"),
        (true, true) => format!("mutated child of trials {a} and {b}"),
        (false, _) => format!("mutation of trial {a}"),
    };
    Some((child, why))
}

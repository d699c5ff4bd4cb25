//! NSGA-III (Deb, Jain: IEEE Transactions on Evolutionary Computation 18(4), 2014): as NSGA-II, but what may become a parent is
//! spread along reference directions, which tells points apart where there are many objectives. Steady-state.

use aehost_sdk::strategy::breeding::{Parent, breed};
use aehost_sdk::strategy::search::{niching, pareto::Ranked};
use aehost_sdk::strategy::{state::or_automatic, *};

/// How often a child is bred anew because it is no news or not allowed, before a random configuration is tried.
const BREEDINGS: u32 = 64;

struct Nsga3 {
    search: Search,
    directions: Vec<Vec<f64>>,
    /// How many trials may become parents.
    limit: usize,
    /// The best trials; found again after something was told.
    parents: Option<Vec<Parent>>,
}

impl Strategy for Nsga3 {
    fn describe() -> Description {
        let reference = "Deb, Jain: An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based \
                         Nondominated Sorting, 2014";
        let summary = "Breeds new configurations from the best along all directions; for three objectives and more.";
        Description::new(identity!("nsga3", summary, reference))
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

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let budget = i64::from(problem.budget);
        let initial = or_automatic(settings.integer("initial")?, (budget / 2).clamp(4, 24));
        let limit = or_automatic(settings.integer("population")?, (budget / 5).clamp(8, 40));
        let directions = niching::about(problem.objectives.len(), limit);
        Ok(Self { search: Search::new(problem, initial)?, directions, limit, parents: None })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, directions, limit, parents } = self;
        Ok(search.ask(count, allowed, |search, allowed| {
            let parents = parents.get_or_insert_with(|| best(&search.history, directions, *limit));
            for _ in 0..BREEDINGS {
                let (child, why) = breed(&search.space, parents, &mut search.random)?;
                if search.news(&child, allowed) {
                    return Some((child, why));
                }
            }
            None
        }))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        self.parents = None;
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

/// The best that was measured.
fn best(history: &history::History, directions: &[Vec<f64>], limit: usize) -> Vec<Parent> {
    let (trials, points): (Vec<_>, Vec<_>) = history.measured().map(|(trial, point)| (trial, point.clone())).unzip();
    let parent = |ranked: Ranked| Parent {
        trial: trials[ranked.index].trial,
        configuration: trials[ranked.index].configuration.clone(),
        ranked,
    };
    niching::best(&points, directions, limit).into_iter().map(parent).collect()
}

aehost_sdk::strategy!(Nsga3);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::{benchmarks, promises};

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64), setting("population", 0i64)]
    }

    #[test]
    fn it_keeps_the_promises_of_a_strategy() {
        promises::keep::<Nsga3>(&own());
    }

    #[test]
    fn it_beats_random_search_on_average() {
        let catalogue = &benchmarks::ALL[3];
        let mean = |share: &dyn Fn(u64) -> f64| (0..40).map(share).sum::<f64>() / 40.0;
        let bred = mean(&|seed| catalogue.run::<Nsga3>(seed, 60, &own(), 1).1);
        let drawn = mean(&|seed| catalogue.random(seed, 60));
        assert!(bred > drawn + 0.02, "{bred:.3}, {drawn:.3} drawn");
    }

    #[test]
    #[ignore = "a report"]
    fn report() {
        println!("{}", benchmarks::report::<Nsga3>(&own()));
    }
}

//! The search itself, apart from its export: other strategies are tested against it.

use aehost_sdk::strategy::breeding::{Parent, breed};
use aehost_sdk::strategy::search::pareto::{self, Ranked};
use aehost_sdk::strategy::{state::or_automatic, *};

/// How often a child is bred anew because it is no news or not allowed, before a random configuration is tried.
const BREEDINGS: u32 = 64;

/// The search.
pub struct Nsga2 {
    search: Search,
    /// How many trials may become parents.
    limit: usize,
    /// The best trials with their ranks; found again after something was told.
    parents: Option<Vec<Parent>>,
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

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let budget = i64::from(problem.budget);
        let initial = or_automatic(settings.integer("initial")?, (budget / 2).clamp(4, 24));
        let limit = or_automatic(settings.integer("population")?, (budget / 5).clamp(8, 40));
        Ok(Self { search: Search::new(problem, initial)?, limit, parents: None })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, limit, parents } = self;
        Ok(search.ask(count, allowed, |search, allowed| {
            let parents = parents.get_or_insert_with(|| best(&search.history, *limit));
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
        // What was not measured teaches nothing here: it is not proposed again anyway.
        self.search.tell(observations);
        self.parents = None;
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

/// The best that was measured.
fn best(history: &history::History, limit: usize) -> Vec<Parent> {
    let (trials, points): (Vec<_>, Vec<_>) = history.measured().map(|(trial, point)| (trial, point.clone())).unzip();
    let parent = |ranked: Ranked| Parent {
        trial: trials[ranked.index].trial,
        configuration: trials[ranked.index].configuration.clone(),
        ranked,
    };
    pareto::best(&points, limit).into_iter().map(parent).collect()
}

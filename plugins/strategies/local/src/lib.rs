//! Local search of the front (Pareto local search; Paquete, Chiarandini, Stuetzle 2004): what is one change away from a trial
//! on the front is measured, those of the trial first that was looked around least.

use aehost_sdk::strategy::search::pareto;
use aehost_sdk::strategy::{share::ShareOfBudget, *};

const INITIAL: ShareOfBudget = ShareOfBudget::initial(4, 16);

struct Local {
    search: Search,
    /// How many neighbours of each trial were proposed.
    looked: Vec<(TrialId, u32)>,
}

impl Strategy for Local {
    fn describe() -> Description {
        let reference = "Paquete, Chiarandini, Stuetzle: Pareto Local Optimum Sets in the Biobjective TSP, 2004";
        let summary = "Changes one thing at a time of what is on the front.";
        Description::new(identity!("local", summary, reference)).parameter(INITIAL.parameter())
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let initial = INITIAL.of(&settings, problem.budget)?;
        Ok(Self { search: Search::new(problem, initial)?, looked: Vec::new() })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, looked } = self;
        Ok(search.ask(count, allowed, |search, allowed| {
            let times = |trial: TrialId| looked.iter().find(|(t, _)| *t == trial).map_or(0, |(_, times)| *times);
            let mut around = front(&search.history);
            search.random.shuffle(&mut around);
            around.sort_by_key(|(trial, _)| times(*trial));
            for (trial, configuration) in around {
                let mut near = search.space.neighbours(&configuration, &mut search.random);
                search.random.shuffle(&mut near);
                if let Some(found) = near.into_iter().find(|neighbour| search.news(neighbour, allowed)) {
                    match looked.iter_mut().find(|(t, _)| *t == trial) {
                        Some((_, times)) => *times += 1,
                        None => looked.push((trial, 1)),
                    }
                    return Some((found, format!("one change from trial {trial}")));
                }
            }
            None
        }))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

/// The front, or what comes closest to being feasible.
fn front(history: &history::History) -> Vec<(TrialId, Configuration)> {
    let (trials, points): (Vec<_>, Vec<_>) = history.measured().map(|(trial, point)| (trial, point.clone())).unzip();
    let first = pareto::fronts(&points).into_iter().next().unwrap_or_default();
    first.into_iter().map(|i| (trials[i].trial, trials[i].configuration.clone())).collect()
}

aehost_sdk::strategy!(Local);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::benchmarks;

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64)]
    }

    aehost_sdk::strategy_tests!(Local, &own());

    #[test]
    fn it_beats_random_search_where_one_change_after_another_leads_on() {
        let lead = benchmarks::ALL[0].lead::<Local>(40, 60, &own());
        assert!(lead > 0.1, "{lead:.3}");
    }
}

//! Multi-objective tree-structured Parzen estimator (Ozaki, Tanigaki, Watanabe, Onishi: GECCO 2020): of configurations drawn
//! from the density of the good trials the one is measured that is most likely good rather than bad. Good are the best by
//! constrained non-dominated sorting, each weighing what it adds to the hypervolume.

mod parzen;

use aehost_sdk::strategy::search::hypervolume::{Scale, hypervolume};
use aehost_sdk::strategy::search::pareto::{self, Point};
use aehost_sdk::strategy::{share::ShareOfBudget, *};
use parzen::Parzen;

/// Drawn configurations of which the best is taken.
const CANDIDATES: usize = 48;
/// Least weight of a good trial; the most is 1.
const LEAST: f64 = 0.1;

const INITIAL: ShareOfBudget = ShareOfBudget::initial(3, 16);

struct Motpe {
    search: Search,
}

impl Strategy for Motpe {
    fn describe() -> Description {
        let reference = "Ozaki, Tanigaki, Watanabe, Onishi: Multiobjective Tree-Structured Parzen Estimator, 2020";
        let summary = "Draws what is likely among the good trials and unlikely among the others.";
        Description::new(identity!("motpe", summary, reference)).parameter(INITIAL.parameter())
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let initial = INITIAL.of(&settings, problem.budget)?;
        Ok(Self { search: Search::new(problem, initial)? })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        Ok(self.search.ask(count, allowed, |search, allowed| propose(search, allowed)))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

fn propose(search: &mut Search, allowed: &impl Feasibility) -> Option<(Configuration, String)> {
    let Search { space, history, random, .. } = search;
    let (told, points): (Vec<&Configuration>, Vec<Point>) =
        history.measured().map(|(trial, point)| (&trial.configuration, point.clone())).unzip();
    // A tenth of the trials is good in the paper's problems of many trials; of few, more.
    let count = (points.len() / 5).max(4).min(points.len());
    let good: Vec<usize> = pareto::best(&points, count).into_iter().map(|ranked| ranked.index).collect();
    let weights = weights(&good.iter().map(|i| &points[*i]).collect::<Vec<_>>());
    let likely = Parzen::new(space, good.iter().map(|i| told[*i]).zip(weights).collect());
    let others = (0..told.len()).filter(|i| !good.contains(i)).map(|i| told[i]);
    let failed = history.trials().iter().filter(|trial| trial.point.is_none()).map(|trial| &trial.configuration);
    // What is out is avoided as if it were bad: several workers do not crowd together.
    let out = history.pending().iter().map(|(_, configuration)| configuration);
    let unlikely = Parzen::new(space, others.chain(failed).chain(out).map(|c| (c, 1.0)).collect());
    let mut drawn: Vec<(f64, Configuration)> = (0..CANDIDATES)
        .map(|_| {
            let mut candidate = likely.draw(random);
            space.repair(&mut candidate, random);
            (likely.log(&candidate) - unlikely.log(&candidate), candidate)
        })
        .collect();
    drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (ratio, found) = drawn.into_iter().find(|(_, candidate)| search.news(candidate, allowed))?;
    Some((found, format!("{:.1} times as dense among the {} best trials as among the others", ratio.exp(), good.len())))
}

/// What each adds to the hypervolume of all, the most being 1.
fn weights(points: &[&Point]) -> Vec<f64> {
    let costs: Vec<Vec<f64>> = points.iter().map(|point| point.costs.clone()).collect();
    let objectives = costs.first().map_or(0, Vec::len);
    let Some(scale) = Scale::of(&costs, &vec![1.0; objectives]).filter(|_| points.iter().all(|p| p.feasible())) else {
        return vec![1.0; points.len()];
    };
    let scaled: Vec<Vec<f64>> = costs.iter().map(|costs| scale.normalise(costs)).collect();
    let reference = vec![1.1; objectives];
    let all = hypervolume(&scaled, &reference);
    let without = |i: usize| {
        let rest: Vec<Vec<f64>> = scaled.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, p)| p.clone()).collect();
        all - hypervolume(&rest, &reference)
    };
    let added: Vec<f64> = (0..scaled.len()).map(without).collect();
    let most = added.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    added.into_iter().map(|share| (share / most).clamp(LEAST, 1.0)).collect()
}

aehost_sdk::strategy!(Motpe);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::benchmarks;

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64)]
    }

    aehost_sdk::strategy_tests!(Motpe, &own());

    #[test]
    fn it_beats_random_search_on_average() {
        let lead = benchmarks::ALL[3].lead::<Motpe>(20, 60, &own());
        assert!(lead > 0.02, "{lead:.3}");
    }
}

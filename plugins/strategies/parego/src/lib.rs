//! ParEGO (Knowles: IEEE Transactions on Evolutionary Computation 10(1), 2006): each time the objectives become one by random
//! weights, a Gaussian process models it, and what is measured is what is expected to improve it most, times the probability
//! that all constraints hold.

mod scalar;

use aehost_sdk::strategy::search::rows::dense;
use aehost_sdk::strategy::{encoding::Encoding, process::Processes, share::ShareOfBudget, *};
use scalar::Scalar;

/// Measured trials before a process is fitted.
const LEAST: usize = 3;
/// Candidates of each kind: random ones, neighbours of the best, and children of the best.
const KIND: usize = 120;

const INITIAL: ShareOfBudget = ShareOfBudget::initial(6, 8);

struct ParEgo {
    search: Search,
    encoding: Encoding,
    processes: Processes,
}

impl Strategy for ParEgo {
    fn describe() -> Description {
        let reference = "Knowles: ParEGO, a Hybrid Algorithm with On-Line Landscape Approximation, 2006";
        let summary = "Improves one random weighting of the objectives after the other, by a Gaussian process.";
        Description::new(identity!("parego", summary, reference)).parameter(INITIAL.parameter())
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let initial = INITIAL.of(&settings, problem.budget)?;
        let search = Search::new(problem, initial)?;
        let encoding = Encoding::new(&search.space);
        let processes = Processes::new(&encoding, 1 + search.history.constraints().len());
        Ok(Self { search, encoding, processes })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, encoding, processes } = self;
        Ok(search.ask(count, allowed, |search, allowed| propose(search, encoding, processes, allowed)))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

fn propose(
    search: &mut Search,
    encoding: &Encoding,
    processes: &mut Processes,
    allowed: &impl Feasibility,
) -> Option<(Configuration, String)> {
    if search.history.measured().count() < LEAST {
        return search.unlike(allowed).map(|found| (found, "unlike anything tried: too little is known".into()));
    }
    let weights = scalar::weights(search.history.objectives().len(), &mut search.random);
    let scalar = Scalar::fit(search, encoding, processes, &weights)?;
    let mut candidates = candidates(search, &scalar.best);
    candidates.retain(|candidate| !search.seen(&search.space.key(candidate)));
    let mut scored: Vec<(f64, Configuration)> = candidates
        .into_iter()
        .map(|candidate| {
            let row = encoding.encode(&candidate);
            (scalar.worth(&row, &dense(&row, encoding.features().len()), &search.history), candidate)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (_, found) = scored.into_iter().take(64).find(|(_, candidate)| search.news(candidate, allowed))?;
    let named = search.history.objectives().iter().zip(&weights);
    let named: Vec<String> = named.map(|(o, weight)| format!("{} {:.0} %", o.metric, 100.0 * weight)).collect();
    Some((found, format!("expected to improve most what weighs {}", named.join(", "))))
}

/// Random configurations, what is one change away from the best, and children of the best.
fn candidates(search: &mut Search, best: &[Configuration]) -> Vec<Configuration> {
    let Search { space, random, .. } = search;
    let mut all: Vec<Configuration> = (0..KIND).map(|_| space.sample(random)).collect();
    let mut near: Vec<Configuration> = best.iter().take(3).flat_map(|one| space.neighbours(one, random)).collect();
    random.shuffle(&mut near);
    all.extend(near.into_iter().take(KIND));
    for _ in 0..if best.is_empty() { 0 } else { KIND } {
        let [a, b] = [0; 2].map(|_| &best[random.below(best.len() as u64) as usize]);
        let child = space.cross(a, b, random);
        all.push(space.mutate(&child, random));
    }
    all
}

aehost_sdk::strategy!(ParEgo);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::benchmarks;

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64)]
    }

    aehost_sdk::strategy_tests!(ParEgo, &own());

    #[test]
    fn it_beats_random_search() {
        let lead = benchmarks::ALL[0].lead::<ParEgo>(1, 40, &own());
        assert!(lead > 0.1, "{lead:.3}");
    }
}

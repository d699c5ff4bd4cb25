//! Gaussian processes and expected hypervolume improvement (Emmerich, Giannakoglou, Naujoks 2006), weighted by the probability
//! of feasibility (Gardner et al. 2014). Noise is known from the standard errors that are told: the front that is to be
//! improved is the one that the processes believe in (Daulton, Balandat, Bakshy 2021 integrate over it instead).

use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::model::{Model, Regressor};
use aehost_sdk::strategy::surrogate::{Fantasy, Training};
use aehost_sdk::strategy::{guided::Guided, process::Processes, share::ShareOfBudget, *};

const INITIAL: ShareOfBudget = ShareOfBudget::initial(6, 8);

struct GpEhvi {
    guided: Guided,
    processes: Processes,
}

impl Strategy for GpEhvi {
    fn describe() -> Description {
        let reference = "Daulton, Balandat, Bakshy: Parallel Bayesian Optimization of Multiple Noisy Objectives, 2021";
        let summary =
            "Models all metrics by Gaussian processes, and measures what is expected to add most to the front.";
        Description::new(identity!("gp-ehvi", summary, reference)).parameter(INITIAL.parameter())
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let initial = INITIAL.of(&settings, problem.budget)?;
        let guided = Guided::new(problem, initial)?;
        let processes = Processes::new(&guided.encoding, guided.search.history.metrics().len());
        Ok(Self { guided, processes })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { guided, processes } = self;
        Ok(guided.ask(count, allowed, |encoding: &Encoding, search: &mut Search, fantasies: &[Fantasy]| {
            let training = Training::new(encoding, &search.history, fantasies);
            let metrics = processes.after(&training, fantasies).into_iter().map(Regressor::Process).collect();
            Some(Model::new(encoding, search, &training, metrics))
        }))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.guided.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        self.guided.outlook()
    }
}

aehost_sdk::strategy!(GpEhvi);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::benchmarks;

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64)]
    }

    aehost_sdk::strategy_tests!(GpEhvi, &own());

    #[test]
    fn it_beats_random_search() {
        for benchmark in benchmarks::ALL {
            let lead = benchmark.lead::<GpEhvi>(1, 40, &own());
            assert!(lead > 0.04, "{}: {lead:.3}", benchmark.name);
        }
    }
}

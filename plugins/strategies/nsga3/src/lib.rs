//! NSGA-III (Deb, Jain: IEEE Transactions on Evolutionary Computation 18(4), 2014): as NSGA-II, but what may become a parent is
//! spread along reference directions, which tells points apart where there are many objectives. Steady-state.

use aehost_sdk::strategy::breeding::Breeder;
use aehost_sdk::strategy::search::niching;
use aehost_sdk::strategy::*;

struct Nsga3 {
    breeder: Breeder,
    directions: Vec<Vec<f64>>,
}

impl Strategy for Nsga3 {
    fn describe() -> Description {
        let reference = "Deb, Jain: An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based \
                         Nondominated Sorting, 2014";
        let summary = "Breeds new configurations from the best along all directions; for three objectives and more.";
        Breeder::described(Description::new(identity!("nsga3", summary, reference)))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        let objectives = problem.objectives.len();
        let breeder = Breeder::start(problem)?;
        Ok(Self { directions: niching::about(objectives, breeder.limit), breeder })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { breeder, directions } = self;
        Ok(breeder.ask(count, allowed, |points, limit| niching::best(points, directions, limit)))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.breeder.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        self.breeder.outlook()
    }
}

aehost_sdk::strategy!(Nsga3);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::benchmarks;

    fn own() -> Vec<Setting> {
        vec![setting("initial", 0i64), setting("population", 0i64)]
    }

    aehost_sdk::strategy_tests!(Nsga3, &own());

    #[test]
    fn it_beats_random_search_on_average() {
        let lead = benchmarks::ALL[3].lead::<Nsga3>(40, 60, &own());
        assert!(lead > 0.02, "{lead:.3}");
    }
}

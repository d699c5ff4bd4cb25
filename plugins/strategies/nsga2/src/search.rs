//! The search itself, apart from its export: other strategies are tested against it.

use aehost_sdk::strategy::breeding::Breeder;
use aehost_sdk::strategy::search::pareto;
use aehost_sdk::strategy::*;

/// The search.
pub struct Nsga2(Breeder);

impl Strategy for Nsga2 {
    fn describe() -> Description {
        let reference = "Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist Multiobjective Genetic Algorithm, 2002";
        let summary = "Breeds new configurations from the best so far, keeping the whole front in view.";
        Breeder::described(Description::new(identity!("nsga2", summary, reference)))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        Breeder::start(problem).map(Self)
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        Ok(self.0.ask(count, allowed, pareto::best))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.0.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        self.0.outlook()
    }
}

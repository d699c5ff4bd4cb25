//! The search itself.

use crate::model::Model;
use aehost_sdk::strategy::{guided::Guided, state::or_automatic, *};

/// The search.
pub struct AeLlm(Guided);

impl Strategy for AeLlm {
    fn describe() -> Description {
        let reference = "AE-LLM, arXiv:2603.20492";
        let summary =
            "Learns what techniques do from the trials, and measures what is expected to add most to the front.";
        Description::new(identity!("ae-llm", summary, reference)).parameter(integer(
            "initial",
            "Trials of the initial design; 0 takes a sixth of the budget, 4 to 8.",
            0..=1000,
        ))
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let budget = i64::from(problem.budget);
        let initial = or_automatic(settings.integer("initial")?, (budget / 6).clamp(4, 8));
        Ok(Self(Guided::new(problem, initial)?))
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let fit = |encoding: &_, search: &mut _, fantasies: &[_]| Some(Model::fit(encoding, search, fantasies));
        Ok(self.0.ask(count, allowed, fit))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.0.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        self.0.outlook()
    }
}

//! The search itself.

use crate::model::Surrogates;
use aehost_sdk::strategy::earlier::Earlier;
use aehost_sdk::strategy::{guided::Guided, process::Processes, share::ShareOfBudget, *};

const INITIAL: ShareOfBudget = ShareOfBudget::initial(6, 8);
/// Where earlier studies are known.
const INFORMED: ShareOfBudget = ShareOfBudget { least: 2, most: 2, ..INITIAL };

/// The search.
pub struct AeLlm {
    guided: Guided,
    surrogates: Surrogates,
}

impl Strategy for AeLlm {
    fn describe() -> Description {
        let reference = "AE-LLM, arXiv:2603.20492";
        let summary =
            "Learns what techniques do from the trials, and measures what is expected to add most to the front.";
        Description::new(identity!("ae-llm", summary, reference)).parameter(INITIAL.parameter())
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let earlier = std::mem::take(&mut problem.earlier);
        let initial = if earlier.is_empty() { INITIAL } else { INFORMED };
        let initial = initial.of(&settings, problem.budget)?;
        let guided = Guided::new(problem, initial)?;
        let Guided { search, encoding, .. } = &guided;
        let processes = Processes::new(encoding, search.history.metrics().len());
        let earlier = Earlier::new(&earlier, &search.space, encoding, &search.history);
        Ok(Self { guided, surrogates: Surrogates { processes, earlier } })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { guided, surrogates } = self;
        let fit = |encoding: &_, search: &mut _, fantasies: &[_]| Some(surrogates.fit(encoding, search, fantasies));
        Ok(guided.ask(count, allowed, fit))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.guided.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        let mut outlook = self.guided.outlook();
        outlook.notes.extend(self.surrogates.earlier.as_ref().map(Earlier::words));
        outlook
    }
}

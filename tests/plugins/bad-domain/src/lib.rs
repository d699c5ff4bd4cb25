//! A strategy that proposes settings outside their domains.

use aehost_sdk::strategy::*;

struct BadDomain {
    space: Space,
    next: TrialId,
}

impl Strategy for BadDomain {
    fn describe() -> Description {
        Description::new(identity!("bad-domain", "Proposes settings that no parameter allows."))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        Ok(Self { space: Space::new(problem.space), next: 1 })
    }

    fn ask(&mut self, count: u32, _: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let technique = self.space.techniques().first().ok_or_else(|| Error::invalid("the space is empty"))?;
        let configuration = vec![self.space.choice(technique, |_| "nonsense".into())];
        let why = "to be refused".to_owned();
        let first = self.next;
        self.next += u64::from(count);
        let proposal =
            |trial| Proposal { trial, configuration: configuration.clone(), fidelity: 1.0, why: why.clone() };
        Ok((first..self.next).map(proposal).collect())
    }

    fn tell(&mut self, _: Vec<Observation>) -> Result<(), Error> {
        Ok(())
    }
}

aehost_sdk::strategy!(BadDomain);

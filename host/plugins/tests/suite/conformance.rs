//! What `aehost plugins test` finds wrong with strategies that break one promise each.

use crate::support::{built_in, single};
use aehost_common::{Fault, Settings};
use aehost_plugins::strategy_promises;
use aehost_study::{Configuration, Observation, Outlook, Problem, Proposal, Strategy, StrategyFactory, TrialId};

/// Changes what a sound strategy proposes; it has those of before at hand.
type Spoil = fn(&mut Proposal, &[Proposal]);

struct Spoilt<'a> {
    sound: &'a dyn StrategyFactory,
    spoil: Spoil,
}

struct Running {
    sound: Box<dyn Strategy>,
    spoil: Spoil,
    before: Vec<Proposal>,
}

impl StrategyFactory for Spoilt<'_> {
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        Ok(Box::new(Running { sound: self.sound.start(problem)?, spoil: self.spoil, before: vec![] }))
    }
}

impl Strategy for Running {
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault> {
        let mut proposals = self.sound.ask(count)?;
        for proposal in &mut proposals {
            (self.spoil)(proposal, &self.before);
            self.before.push(proposal.clone());
        }
        Ok(proposals)
    }

    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault> {
        self.sound.tell(observations)
    }

    fn outlook(&mut self) -> Outlook {
        self.sound.outlook()
    }
}

#[test]
fn each_broken_promise_is_named() {
    let catalog = single(&built_in("strategy-random"));
    let sound = catalog.strategy("random").unwrap();
    let broken = |spoil: Spoil| -> Vec<String> {
        let spoilt = Spoilt { sound, spoil };
        let checks = strategy_promises(&spoilt, &spoilt, &Settings::default(), false);
        assert!(checks.len() >= 7, "{checks:?}");
        checks.iter().filter(|check| !check.kept).map(|c| format!("{}: {}", c.promise, c.detail)).collect()
    };
    assert_eq!(broken(|_, _| ()), Vec::<String>::new());
    for (spoil, told) in [
        ((|p, _| p.why.clear()) as Spoil, "says why it proposes what it does: trial 1: its `why` is empty"),
        (|p, _| p.trial = TrialId(p.trial.0 + 1), "numbers its trials from 1: trial 2 where 1 was due"),
        (|p, _| p.fidelity = 0.5, "proposes nothing twice, and never the baseline: trial 1 has a fidelity of 0.5"),
        (
            |p, _| p.configuration = Configuration::default(),
            "proposes nothing twice, and never the baseline: trial 1 is the baseline",
        ),
        (
            |p, before| p.configuration = before.last().map_or(p.configuration.clone(), |b| b.configuration.clone()),
            "proposes nothing twice, and never the baseline: trial 2 repeats `",
        ),
        (
            |p, _| p.configuration.0.iter_mut().for_each(|choice| choice.settings = Settings::default()),
            "stays inside the search space: trial ",
        ),
    ] {
        let broken = broken(spoil);
        assert!(broken.iter().any(|line| line.starts_with(told)), "{told}\nis not in {broken:#?}");
    }
}

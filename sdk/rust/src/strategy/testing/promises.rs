//! What every strategy promises, whatever it proposes: each check fails by panicking.

use super::{benchmarks, everything, measure, mixed_problem, observe, technique};
use crate::strategy::*;
use std::collections::HashSet;

/// Checks all promises of a strategy with these settings.
pub fn keep<S: Strategy>(settings: &[Setting]) {
    let problem = |seed: u64, budget: u32| Problem { settings: settings.to_vec(), budget, ..mixed_problem(seed) };
    // One at a time and several: lawful, new, numbered, and decided by the seed.
    for at_once in [1, 4] {
        let run = |seed: u64| {
            let catalogue = &benchmarks::ALL[3];
            catalogue.run::<S>(seed, 20, settings, at_once).0
        };
        let proposals = run(3);
        assert_eq!(proposals.len(), 19, "the budget is used up");
        lawful::<S>(&(benchmarks::ALL[3].problem)(3, 20).space, &proposals);
        assert_eq!(proposals, run(3), "the seed decides");
        assert_ne!(proposals, run(4), "another seed decides otherwise");
    }
    // Before anything is told, and with an open end.
    let mut search = S::start(problem(1, 24)).expect("the problem makes sense");
    lawful::<S>(&mixed_problem(1).space, &search.ask(30, &everything).expect("a lawful ask"));
    search.outlook();
    // Nothing works.
    type Result = fn(&Proposal) -> Outcome;
    let failed: Result = |_| Outcome::Failed("crashed".into());
    let infeasible: Result = |_| Outcome::Infeasible(Violation { reason: "no".into(), amount: None });
    let nothing: Result = |_| Outcome::Measured(vec![]);
    let constant: Result = |_| benchmarks::measured(&[("cost", 1.0), ("loss", 1.0)]);
    let extreme: Result = |p| benchmarks::measured(&[("cost", 1e300 * (p.trial % 3) as f64), ("loss", f64::NAN)]);
    let broken: Result = |p| {
        let [cost, loss] = measure(&p.configuration);
        benchmarks::measured(&[("cost", cost), ("loss", loss), ("size", 9.0)])
    };
    for (outcome, budget) in
        [failed, infeasible, nothing, constant, extreme, broken].into_iter().zip([0, 1, 2, 24, 24, 24])
    {
        let constraints = vec![Constraint { metric: "size".into(), at_most: true, bound: 1.0 }];
        let told = drive::<S>(Problem { constraints, ..problem(5, budget) }, 14, outcome);
        lawful::<S>(&mixed_problem(5).space, &told);
        assert_eq!(told.len(), 14, "a search goes on after bad results");
    }
    // Spaces without a choice, with little, and with too much.
    let little = vec![
        technique("one", [choice("only", "", ["this"]).into(), integer("number", "", 3..=3).into()]),
        technique("two", [flag("x", "").into(), real("point", "", 0.5..=0.5).into()]),
    ];
    let huge = integer("huge", "", i64::MIN / 4..=i64::MAX / 4).into();
    let wide = technique("wide", [huge, real("scale", "", 1e-300..=1e300).log().into()]);
    for (space, different) in [(vec![], 0), (little, 5), (vec![wide], 12)] {
        let told = drive::<S>(Problem { space: space.clone(), ..problem(2, 24) }, 12, constant);
        lawful::<S>(&space, &told);
        match S::describe().multi_fidelity {
            // Some are measured more than once.
            true => assert!((different..=12).contains(&told.len())),
            false => assert_eq!(told.len(), different),
        }
    }
    // What the host refuses.
    let constraints = vec![Constraint { metric: "memory.weights_bytes".into(), at_most: true, bound: 100.0 }];
    let mut search = S::start(Problem { constraints, ..problem(2, 24) }).expect("the problem makes sense");
    let known = |configuration: &[Choice]| {
        let small = configuration.iter().any(|c| c.technique == "quantise");
        Ok(vec![("memory.weights_bytes".to_owned(), if small { 80.0 } else { 160.0 })])
    };
    let proposals = search.ask(24, &known).expect("a lawful ask");
    assert!(proposals.iter().all(|p| p.configuration.iter().any(|c| c.technique == "quantise")));
    let aimless = Problem { objectives: vec![], ..problem(1, 24) };
    assert!(S::start(aimless).is_err(), "without an objective there is no search");
}

/// Inside the space, never twice at one fidelity, never the baseline, numbered from 1.
fn lawful<S: Strategy>(space: &[TechniqueSpace], proposals: &[Proposal]) {
    let space = Space::new(space.to_vec());
    let mut seen = HashSet::new();
    for (i, proposal) in proposals.iter().enumerate() {
        assert_eq!(space.check(&proposal.configuration), Ok(()), "{:?}", proposal.configuration);
        assert!(!proposal.configuration.is_empty());
        let measurement = (space.key(&proposal.configuration), proposal.fidelity.to_bits());
        assert!(seen.insert(measurement), "{:?} again", proposal.configuration);
        assert_eq!(proposal.trial, i as TrialId + 1);
        let lawful = if S::describe().multi_fidelity { 0.0..=1.0 } else { 1.0..=1.0 };
        assert!(!proposal.why.is_empty() && lawful.contains(&proposal.fidelity) && proposal.fidelity > 0.0);
    }
}

/// At most `most` proposals, one after the other, after a baseline that was measured.
fn drive<S: Strategy>(problem: Problem, most: usize, outcome: fn(&Proposal) -> Outcome) -> Vec<Proposal> {
    let mut search = S::start(problem).expect("the problem makes sense");
    let baseline = Proposal { trial: 0, configuration: vec![], fidelity: 1.0, why: String::new() };
    search.tell(vec![observe(&baseline, &[("cost", 1.0), ("loss", 0.0)])]).expect("a lawful observation");
    let mut proposals = Vec::new();
    while proposals.len() < most {
        let Some(proposal) = search.ask(1, &everything).expect("a lawful ask").pop() else { break };
        let told = Observation { outcome: outcome(&proposal), fidelity: proposal.fidelity, ..observe(&proposal, &[]) };
        search.tell(vec![told]).expect("a lawful observation");
        search.outlook();
        proposals.push(proposal);
    }
    proposals
}

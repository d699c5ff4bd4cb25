use super::*;
use aehost_sdk::strategy::search::hypervolume::hypervolume;
use aehost_sdk::strategy::testing::{benchmarks, everything, measure, mixed_problem, promises};
use std::collections::BTreeMap;

fn rungs(least: f64, factor: i64) -> Vec<Setting> {
    vec![setting("least", least), setting("factor", factor)]
}

/// A search of the mixed problem whose losses are noisy, the noisier the less is measured, until so many full measurements'
/// work is done; gives the proposals and the true costs of those that were measured in full.
fn drive<S: Strategy>(settings: Vec<Setting>, budget: u32, seed: u64, work: f64) -> (Vec<Proposal>, Vec<Vec<f64>>) {
    let mut search = S::start(Problem { settings, budget, ..mixed_problem(seed) }).unwrap();
    let mut noise = Random::new(seed + 100);
    let mut next = vec![Proposal { trial: 0, configuration: vec![], fidelity: 1.0, why: String::new() }];
    let (mut proposals, mut full, mut spent) = (Vec::new(), Vec::new(), 0.0);
    while let Some(proposal) = next.pop() {
        let [cost, loss] = measure(&proposal.configuration);
        spent += proposal.fidelity;
        if spent > work {
            break;
        }
        // Twenty items in full, each with a deviation of a tenth.
        let heard = loss + 0.1 / (20.0 * proposal.fidelity).sqrt() * noise.normal();
        let outcome = benchmarks::measured(&[("cost", cost), ("loss", heard)]);
        let Proposal { trial, configuration, fidelity, .. } = proposal.clone();
        search.tell(vec![Observation { trial, configuration, fidelity, outcome }]).unwrap();
        if proposal.fidelity == 1.0 {
            full.push(vec![cost, loss]);
        }
        if trial > 0 {
            proposals.push(proposal);
        }
        let left = budget.saturating_sub(1 + proposals.len() as u32);
        next = search.ask(left.min(1), &everything).unwrap();
    }
    (proposals, full)
}

#[test]
fn it_keeps_the_promises_of_a_strategy() {
    promises::keep::<MoAsha>(&rungs(0.25, 4));
    promises::keep::<MoAsha>(&rungs(1.0, 2));
}

#[test]
fn a_configuration_climbs_one_rung_at_a_time_until_the_budget_ends() {
    let budget = 60;
    let (proposals, _) = drive::<MoAsha>(rungs(0.25, 2), budget, 1, f64::INFINITY);
    let space = Space::new(mixed_problem(1).space);
    let (mut reached, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for proposal in &proposals {
        let before = reached.insert(space.key(&proposal.configuration), proposal.fidelity);
        let last = proposal.trial > u64::from(budget - budget / FINISH);
        let lawful = match before {
            None => proposal.fidelity == 0.25,
            Some(before) => proposal.fidelity == 2.0 * before || last && proposal.fidelity == 1.0,
        };
        assert!(lawful, "{proposal:?} after {before:?}");
        *counts.entry((4.0 * proposal.fidelity) as u32).or_insert(0u32) += 1;
    }
    assert!(counts[&1] > counts[&2] && counts[&4] >= 10, "{counts:?}");
}

#[test]
fn for_the_same_work_it_finds_more_than_measuring_everything_in_full() {
    let volume = |least| {
        let reached = |seed| hypervolume(&drive::<MoAsha>(rungs(least, 4), 200, seed, 60.0).1, &[1.0, 1.0]);
        (0..30).map(reached).sum::<f64>() / 30.0
    };
    let (halving, full) = (volume(0.25), volume(1.0));
    assert!(halving > full + 0.015, "{halving:.3}, {full:.3} in full");
}

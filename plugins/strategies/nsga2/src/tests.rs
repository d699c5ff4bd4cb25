//! The search as the host drives it, on a mixed and conditional problem with a known answer.

use super::search::Nsga2;
use aehost_sdk::strategy::testing::{self, everything, hypervolume, measure, mixed_problem, observe, run};
use aehost_sdk::strategy::*;
use std::collections::HashSet;

fn problem(seed: u64, budget: u32) -> Problem {
    let settings = vec![setting("initial", 0i64), setting("population", 0i64)];
    Problem { settings, budget, ..mixed_problem(seed) }
}

/// Random search with the same space, generator and number of trials.
fn random_points(seed: u64, budget: u32) -> Vec<[f64; 2]> {
    let space = Space::new(mixed_problem(seed).space);
    let mut random = Random::new(seed);
    let mut seen = HashSet::from([String::new()]);
    let mut points = vec![measure(&[])];
    while points.len() < budget as usize {
        let configuration = space.sample(&mut random);
        if seen.insert(space.key(&configuration)) {
            points.push(measure(&configuration));
        }
    }
    points
}

#[test]
fn it_beats_random_search_on_average() {
    const SEEDS: u64 = 100;
    for (budget, lead) in [(24, 0.01), (60, 0.02)] {
        let mean = |points: &dyn Fn(u64) -> Vec<[f64; 2]>| {
            (0..SEEDS).map(|seed| hypervolume(&points(seed))).sum::<f64>() / SEEDS as f64
        };
        let bred = mean(&|seed| run::<Nsga2>(problem(seed, budget)).1);
        let drawn = mean(&|seed| random_points(seed, budget));
        assert!(bred > drawn + lead, "{budget} trials: {bred:.4} against {drawn:.4} at random");
    }
}

#[test]
fn proposals_are_lawful_new_and_numbered() {
    for seed in 0..20 {
        let (proposals, _) = run::<Nsga2>(problem(seed, 80));
        let space = Space::new(mixed_problem(seed).space);
        let mut seen = HashSet::from([space.key(&[])]);
        for (i, proposal) in proposals.iter().enumerate() {
            assert_eq!(space.check(&proposal.configuration), Ok(()), "{:?}", proposal.configuration);
            assert!(seen.insert(space.key(&proposal.configuration)), "{:?} again", proposal.configuration);
            assert_eq!((proposal.trial, proposal.fidelity), (i as u64 + 1, 1.0));
        }
        assert_eq!(proposals.len(), 79);
    }
}

#[test]
fn the_seed_decides_everything() {
    assert_eq!(run::<Nsga2>(problem(5, 40)).0, run::<Nsga2>(problem(5, 40)).0);
    assert_ne!(run::<Nsga2>(problem(5, 40)).0, run::<Nsga2>(problem(6, 40)).0);
}

#[test]
fn the_initial_design_is_each_technique_alone_then_all_together_then_the_unlike() {
    let mut search = Nsga2::start(problem(1, 24)).unwrap();
    let why: Vec<String> = search.ask(12, &everything).unwrap().into_iter().map(|p| p.why).collect();
    let alone = ["cache", "tune", "prune", "quantise", "sparse"].map(|id| format!("initial design: {id} alone"));
    assert_eq!(why[..5], alone);
    // tune and sparse are in conflict, so there is no configuration of all techniques.
    assert!(why[5..].iter().all(|why| why == "initial design: unlike anything tried"));
}

#[test]
fn many_workers_are_served_before_any_result() {
    let mut search = Nsga2::start(problem(3, 24)).unwrap();
    let proposals = search.ask(30, &everything).unwrap();
    let space = Space::new(mixed_problem(3).space);
    let keys: HashSet<String> = proposals.iter().map(|p| space.key(&p.configuration)).collect();
    assert_eq!(keys.len(), 30);
}

#[test]
fn under_a_constraint_it_finds_more_of_the_feasible_front_than_random_search() {
    const SEEDS: u64 = 100;
    let constraint = Constraint { metric: "loss".into(), at_most: true, bound: 0.05 };
    let feasible = |points: Vec<[f64; 2]>| -> Vec<[f64; 2]> {
        points.into_iter().filter(|[_, loss]| *loss <= constraint.bound).collect()
    };
    let lowest = |points: &[[f64; 2]]| points.iter().map(|[cost, _]| *cost).fold(1.0, f64::min);
    let (mut bred, mut drawn) = (0.0, 0.0);
    for seed in 0..SEEDS {
        let (_, points) = run::<Nsga2>(Problem { constraints: vec![constraint.clone()], ..problem(seed, 60) });
        bred += lowest(&feasible(points)) / SEEDS as f64;
        drawn += lowest(&feasible(random_points(seed, 60))) / SEEDS as f64;
    }
    assert!(bred < drawn - 0.02, "feasible cost {bred:.3} against {drawn:.3} at random");
}

#[test]
fn what_is_known_to_break_a_constraint_is_not_proposed() {
    let constraint = Constraint { metric: "memory.weights_bytes".into(), at_most: true, bound: 100.0 };
    let mut search = Nsga2::start(Problem { constraints: vec![constraint], ..problem(2, 24) }).unwrap();
    let known = |configuration: &[Choice]| {
        let small = configuration.iter().any(|c| c.technique == "quantise");
        Ok(vec![("memory.weights_bytes".to_owned(), if small { 80.0 } else { 160.0 })])
    };
    let proposals = search.ask(24, &known).unwrap();
    assert_eq!(proposals.len(), 24);
    assert!(proposals.iter().all(|p| p.configuration.iter().any(|c| c.technique == "quantise")));
}

#[test]
fn an_exhausted_space_yields_no_more() {
    let space = vec![testing::technique("a", [flag("x", "").into()]), testing::technique("b", [])];
    let mut search = Nsga2::start(Problem { space, ..problem(1, 24) }).unwrap();
    let mut proposals = Vec::new();
    loop {
        let next = search.ask(1, &everything).unwrap();
        let Some(proposal) = next.into_iter().next() else { break };
        search.tell(vec![observe(&proposal, &[("cost", 1.0), ("loss", 1.0)])]).unwrap();
        proposals.push(proposal);
    }
    assert_eq!(proposals.len(), 5);
}

#[test]
fn two_hundred_trials_are_ranked_and_bred_within_a_millisecond_each() {
    let started = std::time::Instant::now();
    let (proposals, _) = run::<Nsga2>(problem(9, 200));
    let each = started.elapsed().as_secs_f64() / proposals.len() as f64;
    assert!(each < 1e-3, "{:.3} ms a round", each * 1e3);
}

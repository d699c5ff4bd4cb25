use super::search::AeLlm;
use aehost_sdk::strategy::testing::benchmarks::{self, Benchmark};
use aehost_sdk::strategy::testing::promises;
use aehost_sdk::strategy::*;

#[path = "../../nsga2/src/search.rs"]
mod nsga2;

/// Settings that leave the choice to the strategy.
fn own() -> Vec<Setting> {
    vec![setting("initial", 0i64)]
}

fn nsga2() -> Vec<Setting> {
    vec![setting("initial", 0i64), setting("population", 0i64)]
}

#[test]
fn it_keeps_the_promises_of_a_strategy() {
    promises::keep::<AeLlm>(&own());
}

#[test]
fn it_beats_nsga2_and_random_search_at_sixty_trials() {
    const SEEDS: [u64; 2] = [1, 2];
    for benchmark in benchmarks::ALL {
        let mean = |share: &dyn Fn(u64) -> f64| SEEDS.iter().map(|seed| share(*seed)).sum::<f64>() / SEEDS.len() as f64;
        let learnt = mean(&|seed| benchmark.run::<AeLlm>(seed, 60, &own(), 1).1);
        let bred = mean(&|seed| benchmark.run::<nsga2::Nsga2>(seed, 60, &nsga2(), 1).1);
        let drawn = mean(&|seed| benchmark.random(seed, 60));
        let name = benchmark.name;
        assert!(learnt > bred + 0.04 && learnt > drawn + 0.04, "{name}: {learnt:.3}, {bred:.3} bred, {drawn:.3} drawn");
    }
}

#[test]
fn reasons_and_outlook_tell_what_is_expected() {
    let catalogue = &benchmarks::ALL[3];
    let mut search = AeLlm::start(Problem { settings: own(), ..(catalogue.problem)(1, 24) }).unwrap();
    assert_eq!(search.outlook().remaining_gain, None);
    let proposals = catalogue.run::<AeLlm>(1, 24, &own(), 1).0;
    let why = &proposals.last().unwrap().why;
    assert!(why.contains("% of hypervolume: loss ") && why.contains(" ± ") && why.contains("feasible with"), "{why}");
    for proposal in proposals {
        let outcome = (catalogue.outcome)(&proposal.configuration);
        let (trial, configuration) = (proposal.trial, proposal.configuration);
        search.tell(vec![Observation { trial, configuration, fidelity: 1.0, outcome }]).unwrap();
    }
    search.ask(12, &testing::everything).unwrap();
    let outlook = search.outlook();
    assert!(outlook.remaining_gain.is_some_and(|gain| (0.0..=1.0).contains(&gain)), "{outlook:?}");
    assert!(outlook.notes[1].contains("latency "), "{outlook:?}");
}

/// Mean and standard deviation of the share of the best hypervolume over seeds, and the time of an ask:
/// `SEEDS=10 cargo test --release -p strategy-ae-llm report -- --ignored --nocapture`.
#[test]
#[ignore = "a report"]
fn report() {
    let seeds: u64 = std::env::var("SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    for benchmark in benchmarks::ALL {
        for budget in [24, 60] {
            let begin = std::time::Instant::now();
            let learnt = summary(seeds, |seed| benchmark.run::<AeLlm>(seed, budget, &own(), 1).1);
            let each = 1e3 * begin.elapsed().as_secs_f64() / (seeds * u64::from(budget)) as f64;
            let bred = summary(seeds, |seed| benchmark.run::<nsga2::Nsga2>(seed, budget, &nsga2(), 1).1);
            let drawn = summary(seeds, |seed| benchmark.random(seed, budget));
            let Benchmark { name, .. } = benchmark;
            println!("{name:10} {budget}: ae-llm {learnt}, nsga2 {bred}, random {drawn}; {each:.1} ms an ask");
        }
    }
}

fn summary(seeds: u64, share: impl Fn(u64) -> f64) -> String {
    let shares: Vec<f64> = (0..seeds).map(share).collect();
    let mean = shares.iter().sum::<f64>() / seeds as f64;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / seeds as f64;
    format!("{mean:.3} ± {:.3}", variance.sqrt())
}

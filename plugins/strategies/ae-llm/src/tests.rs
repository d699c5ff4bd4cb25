use super::search::AeLlm;
use aehost_sdk::strategy::testing::benchmarks;
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

/// What forty random configurations did to another model, and the baseline: costs three times as high, and losses by `loss`.
fn elsewhere(seed: u64, loss: impl Fn(f64, &mut Random) -> f64) -> EarlierStudy {
    let benchmark = &benchmarks::ALL[2];
    let space = Space::new((benchmark.problem)(seed, 1).space);
    let mut random = Random::new(seed + 1000);
    let sampled = (0..40).map(|_| space.sample(&mut random)).collect::<Vec<_>>();
    let observe = |(trial, configuration): (usize, Configuration)| {
        let [cost, lost] = testing::measure(&configuration);
        let outcome = benchmarks::measured(&[("cost", 3.0 * cost), ("loss", 0.1 + loss(lost, &mut random))]);
        Observation { trial: trial as u64, configuration, fidelity: 1.0, outcome }
    };
    let all = std::iter::once(Configuration::new()).chain(sampled).enumerate();
    let text = |word: &str| word.to_owned();
    EarlierStudy {
        name: text("other"),
        model: text("m"),
        device: text("cpu"),
        observations: all.map(observe).collect(),
    }
}

#[test]
fn what_another_model_showed_helps_and_what_misleads_does_little_harm() {
    let benchmark = &benchmarks::ALL[2];
    let volume = |budget: u32, earlier: &dyn Fn(u64) -> Vec<EarlierStudy>| {
        let reached = |seed| {
            let problem = Problem { settings: own(), earlier: earlier(seed), ..(benchmark.problem)(seed, budget) };
            benchmark.solve::<AeLlm>(problem, 1).1
        };
        (1..=24).map(reached).sum::<f64>() / 24.0
    };
    let (cold, warm) = (volume(10, &|_| vec![]), volume(10, &|seed| vec![elsewhere(seed, |loss, _| 1.5 * loss)]));
    assert!(warm > cold + 0.03, "{warm:.3}, {cold:.3} cold");
    let (cold, misled) =
        (volume(16, &|_| vec![]), volume(16, &|seed| vec![elsewhere(seed, |_, random| random.unit())]));
    assert!(misled > cold - 0.05, "{misled:.3}, {cold:.3} cold");
}

/// What each technique alone did to a model three times as large, which loses half as much again.
fn alone() -> EarlierStudy {
    let benchmark = &benchmarks::ALL[3];
    let space = Space::new((benchmark.problem)(0, 1).space);
    let default = |technique| vec![space.choice(technique, |parameter| parameter.default.clone())];
    let configurations = std::iter::once(Configuration::new()).chain(space.techniques().iter().map(default));
    let observe = |(trial, configuration): (usize, Configuration)| {
        let Outcome::Measured(mut values) = (benchmark.outcome)(&configuration) else { return None };
        values.iter_mut().for_each(|value| value.value *= if value.metric == "loss" { 1.5 } else { 3.0 });
        Some(Observation { trial: trial as u64, configuration, fidelity: 1.0, outcome: Outcome::Measured(values) })
    };
    let lawful = configurations.filter(|configuration| space.check(configuration).is_ok());
    EarlierStudy { observations: lawful.enumerate().filter_map(observe).collect(), ..elsewhere(0, |loss, _| loss) }
}

#[test]
fn techniques_known_alone_help_to_combine_them() {
    let benchmark = &benchmarks::ALL[3];
    let volume = |earlier: &[EarlierStudy]| {
        let reached = |seed| {
            let problem = Problem { settings: own(), earlier: earlier.to_vec(), ..(benchmark.problem)(seed, 12) };
            benchmark.solve::<AeLlm>(problem, 1).1
        };
        (1..=24).map(reached).sum::<f64>() / 24.0
    };
    let (cold, warm) = (volume(&[]), volume(&[alone()]));
    assert!(warm > cold + 0.08, "{warm:.3}, {cold:.3} cold");
}

#[test]
#[ignore = "a report"]
fn report() {
    println!("ae-llm\n{}nsga2\n{}", benchmarks::report::<AeLlm>(&own()), benchmarks::report::<nsga2::Nsga2>(&nsga2()));
}

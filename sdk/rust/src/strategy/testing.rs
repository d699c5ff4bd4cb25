//! Problems to try strategies on natively: a mixed, conditional one with known objectives, and the hypervolume by which
//! two searches compare.

mod catalogue;

pub mod benchmarks;
pub mod promises;

use super::*;

/// The tests that every strategy has, with settings that leave all choices to it: its promises, and a report of what it reaches.
#[macro_export]
macro_rules! strategy_tests {
    ($strategy:ty, $settings:expr) => {
        #[test]
        fn it_keeps_the_promises_of_a_strategy() {
            $crate::strategy::testing::promises::keep::<$strategy>($settings);
        }

        #[test]
        #[ignore = "a report"]
        fn report() {
            println!("{}", $crate::strategy::testing::benchmarks::report::<$strategy>($settings));
        }
    };
}

/// A technique of the inference stage without relations to others.
pub fn technique(name: &str, parameters: impl IntoIterator<Item = Parameter>) -> TechniqueSpace {
    TechniqueSpace {
        technique: name.into(),
        stage: Stage::Inference,
        parameters: parameters.into_iter().collect(),
        conflicts: vec![],
        after: vec![],
        provides: vec![],
        requires: vec![],
    }
}

/// Allows every configuration.
pub fn everything(_: &[Choice]) -> Result<Vec<(String, f64)>, Error> {
    Ok(vec![])
}

/// Four techniques over three stages with conditions, a conflict and all kinds of domains; two objectives to minimise,
/// `cost` and `loss`, of which [`measure`] gives the values.
pub fn mixed_problem(seed: u64) -> Problem {
    let formats = ["keep", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K"];
    let mut prune = technique("prune", [integer("drop", "", 1..=8).into()]);
    prune.stage = Stage::Architecture;
    let mut tune = technique("tune", [real("rate", "", 1e-5..=1e-2).log().into(), flag("distil", "").into()]);
    tune.stage = Stage::FineTuning;
    tune.conflicts.push("sparse".into());
    let quantise = technique(
        "quantise",
        [
            choice("attention", "", formats).ordered().into(),
            choice("feed-forward", "", formats).ordered().into(),
            flag("importance", "").into(),
        ],
    );
    let cache = technique(
        "cache",
        [
            choice("dtype", "", ["float16", "q8_0"]).into(),
            choice("window", "", [0i64, 512, 256, 128]).ordered().into(),
            choice("sinks", "", [0i64, 4, 16]).when("window", [512i64, 256, 128]).into(),
        ],
    );
    let sparse = technique("sparse", []);
    let objective = |metric: &str| Objective { metric: metric.into(), direction: Direction::Minimize };
    Problem {
        space: vec![cache, quantise, prune, tune, sparse],
        objectives: vec![objective("cost"), objective("loss")],
        constraints: vec![],
        facts: vec![],
        settings: vec![],
        budget: 24,
        seed,
        earlier: vec![],
    }
}

/// The objectives of [`mixed_problem`], in [0, 1]: a model of costs that multiply and losses that add up, in which fine
/// tuning wins back part of the loss, best at a rate of 3e-4.
pub fn measure(configuration: &[Choice]) -> [f64; 2] {
    let (mut cost, mut loss, mut recovered) = (1.0, 0.0, 0.0);
    for choice in configuration {
        let settings = Settings(choice.settings.clone());
        let level = |name: &str| {
            let format = settings.text(name).unwrap_or("keep");
            ["keep", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K"].iter().position(|f| *f == format).unwrap_or(0) as f64
        };
        match choice.technique.as_str() {
            "prune" => {
                let drop = settings.integer("drop").unwrap_or(0) as f64;
                cost *= 1.0 - 0.06 * drop;
                loss += 0.01 * drop * drop;
            }
            "tune" => {
                let off = (settings.real("rate").unwrap_or(1e-5) / 3e-4).log10().abs();
                recovered = (0.6 - 0.4 * off).max(-0.5) + if settings.flag("distil") == Ok(true) { 0.1 } else { 0.0 };
            }
            "quantise" => {
                let (attention, feed_forward) = (level("attention"), level("feed-forward"));
                cost *= 1.0 - 0.05 * attention - 0.1 * feed_forward;
                let relief = if settings.flag("importance") == Ok(true) { 0.6 } else { 1.0 };
                loss += relief * (0.004 * attention.powi(3) + 0.002 * feed_forward.powi(3));
            }
            "cache" => {
                let window = settings.integer("window").unwrap_or(0);
                let sinks = settings.integer("sinks").unwrap_or(4);
                cost *= if settings.text("dtype") == Ok("q8_0") { 0.95 } else { 1.0 };
                cost *= if window > 0 { 0.8 + 0.0002 * window as f64 } else { 1.0 };
                loss += if window > 0 { 20.0 / window as f64 + if sinks == 0 { 0.3 } else { 0.0 } } else { 0.0 };
            }
            _ => {
                cost *= 0.9;
                loss += 0.2;
            }
        }
    }
    [cost.clamp(0.0, 1.0), (loss * (1.0 - recovered)).clamp(0.0, 1.0)]
}

/// What the host would tell of a proposal.
pub fn observe(proposal: &Proposal, metrics: &[(&str, f64)]) -> Observation {
    let value =
        |(metric, value): &(&str, f64)| MetricValue { metric: (*metric).into(), value: *value, standard_error: 0.0 };
    Observation {
        trial: proposal.trial,
        configuration: proposal.configuration.clone(),
        fidelity: proposal.fidelity,
        outcome: Outcome::Measured(metrics.iter().map(value).collect()),
    }
}

/// Runs a strategy on [`mixed_problem`] as the host does, the baseline first and then one trial after the other; gives
/// the proposals and the points measured, the baseline's among them.
pub fn run<S: Strategy>(problem: Problem) -> (Vec<Proposal>, Vec<[f64; 2]>) {
    let budget = problem.budget;
    let mut strategy = S::start(problem).expect("the problem makes sense");
    let baseline = Proposal { trial: 0, configuration: vec![], fidelity: 1.0, why: String::new() };
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut points = Vec::new();
    let mut next = Some(baseline);
    while let Some(proposal) = next {
        let [cost, loss] = measure(&proposal.configuration);
        points.push([cost, loss]);
        let told = strategy.tell(vec![observe(&proposal, &[("cost", cost), ("loss", loss)])]);
        told.expect("a lawful observation");
        if proposal.trial > 0 {
            proposals.push(proposal);
        }
        next = if points.len() < budget as usize {
            strategy.ask(1, &everything).expect("a lawful ask").pop()
        } else {
            None
        };
    }
    (proposals, points)
}

/// The share of the unit square that the points dominate, both coordinates being minimised.
pub fn hypervolume(points: &[[f64; 2]]) -> f64 {
    let mut sorted: Vec<[f64; 2]> = points.to_vec();
    sorted.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let (mut area, mut lowest) = (0.0, 1.0);
    for [x, y] in sorted {
        if y < lowest && x < 1.0 {
            area += (1.0 - x) * (lowest - y);
            lowest = y;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypervolume_counts_overlapping_areas_once() {
        assert!((hypervolume(&[[0.5, 0.5], [0.25, 0.75], [0.6, 0.6]]) - 0.3125).abs() < 1e-12);
        assert_eq!(hypervolume(&[[1.0, 0.0]]), 0.0);
    }
}

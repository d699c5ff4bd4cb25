//! Problems on which searches compare by the hypervolume that they reach.

use super::catalogue;
use crate::strategy::search::hypervolume::hypervolume;
use crate::strategy::search::pareto::Point;
use crate::strategy::testing::{measure, mixed_problem, technique};
use crate::strategy::*;

/// A problem, what its configurations cost, and a scale for what searches reach.
pub struct Benchmark {
    /// Its name in reports.
    pub name: &'static str,
    /// The problem, for this seed and number of trials, without settings.
    pub problem: fn(seed: u64, budget: u32) -> Problem,
    /// What the host would measure.
    pub outcome: fn(&[Choice]) -> Outcome,
    /// What hypervolumes are taken below.
    pub reference: &'static [f64],
    /// Hypervolume that shares are of: a scale, chosen by hand, not the most that can be reached.
    pub best: f64,
}

/// All of them.
pub const ALL: [Benchmark; 4] = [
    Benchmark { name: "zdt1", problem: zdt1, outcome: zdt1_outcome, reference: &[1.0, 4.0], best: 3.632 },
    Benchmark { name: "dtlz2", problem: dtlz2, outcome: dtlz2_outcome, reference: &[1.2, 1.2, 1.2], best: 1.204 },
    Benchmark { name: "mixed", problem: mixed, outcome: mixed_outcome, reference: &[1.0, 1.0], best: 0.911 },
    Benchmark {
        name: "catalogue",
        problem: catalogue::problem,
        outcome: catalogue::outcome,
        reference: &[0.25, 1.1, 1.1],
        best: 0.1925,
    },
];

impl Benchmark {
    /// Runs a search with these settings, `at_once` trials being out at a time; gives its proposals and the share of the scale's
    /// hypervolume that it reached.
    pub fn run<S: Strategy>(&self, seed: u64, budget: u32, settings: &[Setting], at_once: u32) -> (Vec<Proposal>, f64) {
        self.solve::<S>(Problem { settings: settings.to_vec(), ..(self.problem)(seed, budget) }, at_once)
    }

    /// The same for the problem with any changes.
    pub fn solve<S: Strategy>(&self, problem: Problem, at_once: u32) -> (Vec<Proposal>, f64) {
        let budget = problem.budget;
        let mut history = history::History::new(&problem);
        let mut strategy = S::start(problem).expect("the problem makes sense");
        let baseline = Proposal { trial: 0, configuration: vec![], fidelity: 1.0, why: String::new() };
        let mut proposals = Vec::new();
        let mut next = vec![baseline];
        while !next.is_empty() {
            for proposal in next {
                let told = Observation {
                    trial: proposal.trial,
                    configuration: proposal.configuration.clone(),
                    fidelity: proposal.fidelity,
                    outcome: (self.outcome)(&proposal.configuration),
                };
                if told.fidelity == 1.0 {
                    history.tell(told.clone());
                }
                strategy.tell(vec![told]).expect("a lawful observation");
                if proposal.trial > 0 {
                    proposals.push(proposal);
                }
            }
            let left = budget.saturating_sub(1 + proposals.len() as u32);
            next = strategy.ask(left.min(at_once), &super::everything).expect("a lawful ask");
        }
        let share = self.share(history.measured().map(|(_, point)| point));
        (proposals, share)
    }

    /// What random search reaches.
    pub fn random(&self, seed: u64, budget: u32) -> f64 {
        let problem = (self.problem)(seed, budget);
        let mut history = history::History::new(&problem);
        let space = Space::new(problem.space);
        let mut random = Random::new(seed);
        let mut seen = std::collections::HashSet::from([String::new()]);
        let mut configuration = Configuration::new();
        for trial in 0..budget {
            let outcome = (self.outcome)(&configuration);
            history.tell(Observation { trial: trial.into(), configuration, fidelity: 1.0, outcome });
            configuration = space.sample(&mut random);
            while !seen.insert(space.key(&configuration)) {
                configuration = space.sample(&mut random);
            }
        }
        self.share(history.measured().map(|(_, point)| point))
    }

    /// By how much a search is ahead of random search, on the mean over seeds from 1 on.
    pub fn lead<S: Strategy>(&self, seeds: u64, budget: u32, settings: &[Setting]) -> f64 {
        let lead = |seed| self.run::<S>(seed, budget, settings, 1).1 - self.random(seed, budget);
        (1..=seeds).map(lead).sum::<f64>() / seeds as f64
    }

    fn share<'a>(&self, points: impl Iterator<Item = &'a Point>) -> f64 {
        let feasible: Vec<Vec<f64>> = points.filter(|p| p.feasible()).map(|p| p.costs.clone()).collect();
        hypervolume(&feasible, self.reference) / self.best
    }
}

/// What a strategy reaches on all benchmarks with 24 and 60 trials, beside random search: mean and standard deviation over as
/// many seeds as the environment variable `SEEDS` says, 3 without, and the time of an ask.
pub fn report<S: Strategy>(settings: &[Setting]) -> String {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    let mut lines = String::new();
    for benchmark in &ALL {
        for budget in [24, 60] {
            let begin = std::time::Instant::now();
            let reached = summary(seeds, |seed| benchmark.run::<S>(seed, budget, settings, 1).1);
            let each = 1e3 * begin.elapsed().as_secs_f64() / (seeds * u64::from(budget)) as f64;
            let drawn = summary(seeds, |seed| benchmark.random(seed, budget));
            let name = benchmark.name;
            lines.push_str(&format!("{name:10} {budget}: {reached}, random {drawn}; {each:.1} ms an ask\n"));
        }
    }
    lines
}

fn summary(seeds: u64, share: impl Fn(u64) -> f64) -> String {
    let shares: Vec<f64> = (0..seeds).map(share).collect();
    let mean = shares.iter().sum::<f64>() / seeds as f64;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / seeds as f64;
    format!("{mean:.3} ± {:.3}", variance.sqrt())
}

/// What is told of these values.
pub fn measured(metrics: &[(&str, f64)]) -> Outcome {
    let value =
        |(metric, value): &(&str, f64)| MetricValue { metric: (*metric).into(), value: *value, standard_error: 0.0 };
    Outcome::Measured(metrics.iter().map(value).collect())
}

/// A problem without constraints whose objectives are to be minimised.
pub fn minimise(space: Vec<TechniqueSpace>, objectives: &[&str], seed: u64, budget: u32) -> Problem {
    let objective = |metric: &&str| Objective { metric: (*metric).into(), direction: Direction::Minimize };
    Problem {
        space,
        objectives: objectives.iter().map(objective).collect(),
        constraints: vec![],
        facts: vec![],
        settings: vec![],
        budget,
        seed,
        earlier: vec![],
    }
}

/// The reals of a technique's settings, by the order of its parameters; the middle where it is off.
fn numbers<const N: usize>(configuration: &[Choice]) -> [f64; N] {
    let mut all = [0.5; N];
    for (at, setting) in configuration.iter().flat_map(|c| &c.settings).enumerate() {
        all[at] = setting.value.as_real().unwrap_or(0.5);
    }
    all
}

const ZDT: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// ZDT1 (Zitzler, Deb, Thiele 2000) in eight variables of eleven steps.
fn zdt1(seed: u64, budget: u32) -> Problem {
    let variable = |name: &str| integer(name, "", 0..=10).default(5i64).into();
    minimise(vec![technique("zdt1", ZDT.map(variable))], &["first", "second"], seed, budget)
}

fn zdt1_outcome(configuration: &[Choice]) -> Outcome {
    let steps = numbers::<8>(configuration);
    let x = if configuration.is_empty() { [0.5; 8] } else { steps.map(|step| step / 10.0) };
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 7.0;
    measured(&[("first", x[0]), ("second", g * (1.0 - (x[0] / g).sqrt()))])
}

/// DTLZ2 (Deb, Thiele, Laumanns, Zitzler 2002) with three objectives and six variables.
fn dtlz2(seed: u64, budget: u32) -> Problem {
    let variable = |name: &str| real(name, "", 0.0..=1.0).default(0.5).into();
    let space = vec![technique("dtlz2", ["a", "b", "c", "d", "e", "f"].map(variable))];
    minimise(space, &["first", "second", "third"], seed, budget)
}

fn dtlz2_outcome(configuration: &[Choice]) -> Outcome {
    let mut x = numbers::<6>(configuration);
    if configuration.is_empty() {
        x = [0.1; 6];
    }
    let radius = 1.0 + x[2..].iter().map(|v| (v - 0.5).powi(2)).sum::<f64>();
    let angle = |v: f64| v * std::f64::consts::FRAC_PI_2;
    let (a, b) = (angle(x[0]), angle(x[1]));
    measured(&[
        ("first", radius * a.cos() * b.cos()),
        ("second", radius * a.cos() * b.sin()),
        ("third", radius * a.sin()),
    ])
}

fn mixed(seed: u64, budget: u32) -> Problem {
    Problem { budget, ..mixed_problem(seed) }
}

fn mixed_outcome(configuration: &[Choice]) -> Outcome {
    let [cost, loss] = measure(configuration);
    measured(&[("cost", cost), ("loss", loss)])
}

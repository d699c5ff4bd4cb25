//! A study as `aehost run` leaves it: three techniques over two stages, 24 trials with every kind of outcome, and four
//! confirmations. Figures follow from the configuration by a simple rule, with noise from a fixed seed.

use aehost_common::{
    Code, Condition, Direction, Domain, EvaluatorDescription, Fault, Identity, Metric, Parameter, PluginKind, Settings,
    Stage, TechniqueDescription, Value,
};
use aehost_study::*;

pub const ACC: &str = "multiple-choice.acc";
const MIB: f64 = 1_048_576.0;

/// SplitMix64, for noise that is the same everywhere.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn identity(id: &str) -> Identity {
    Identity { id: id.into(), version: "0.1.0".into(), summary: String::new(), reference: String::new() }
}

fn technique(id: &str, stage: Stage, parameters: Vec<Parameter>) -> TechniqueSpace {
    let description = TechniqueDescription {
        identity: identity(id),
        stage,
        order: 0,
        after: vec![],
        conflicts: vec![],
        provides: vec![],
        requires: vec![],
        more: Settings::default(),
    };
    TechniqueSpace { description, parameters }
}

fn parameter(name: &str, domain: Domain, default: Value) -> Parameter {
    Parameter { name: name.into(), summary: String::new(), domain, default, active_when: vec![] }
}

fn words(name: &str, values: &[&str]) -> Parameter {
    let domain = Domain::Choice { values: values.iter().map(|v| (*v).into()).collect(), ordered: true };
    parameter(name, domain, values[0].into())
}

fn metric(name: &str, unit: &str, direction: Direction) -> Metric {
    Metric { name: name.into(), unit: unit.into(), direction }
}

/// What the study was run on and with.
pub fn record() -> StudyRecord {
    let formats = ["f16", "Q8_0", "Q5_0", "Q4_0"];
    let accuracy = metric(ACC, "share", Direction::Maximize);
    let perplexity = metric("perplexity.token", "", Direction::Minimize);
    let sinks = Parameter {
        active_when: vec![Condition { parameter: "window".into(), values: vec![128.into(), 256.into()] }],
        ..parameter("sinks", Domain::Integer { min: 0, max: 8, step: 4, log: false }, 4.into())
    };
    let window =
        parameter("window", Domain::Choice { values: vec![0.into(), 128.into(), 256.into()], ordered: true }, 0.into());
    let space = vec![
        technique(
            "depth-pruning",
            Stage::Architecture,
            vec![parameter("layers", Domain::Integer { min: 1, max: 6, step: 1, log: false }, 1.into())],
        ),
        technique(
            "blocked-quantization",
            Stage::Inference,
            vec![
                words("attention", &formats),
                words("feed-forward", &formats),
                words("embedding", &formats[..2]),
                parameter("importance", Domain::Flag, false.into()),
            ],
        ),
        technique("kv-cache", Stage::Inference, vec![words("dtype", &["f16", "q8_0"]), window, sinks]),
    ];
    let evaluator = |id: &str, data: &str, items, confirm_items, metrics: Vec<Metric>| EvaluatorUse {
        label: id.into(),
        id: id.into(),
        data: data.into(),
        items,
        confirm_items,
        settings: Settings::default(),
        description: EvaluatorDescription { identity: identity(id), metrics, parameters: vec![] },
    };
    let objective = |metric: &str, direction| Objective { metric: metric.into(), direction };
    let plugin = |id: &str, kind, digit: &str| PluginRecord {
        id: id.into(),
        kind,
        version: "0.1.0".into(),
        stage: None,
        digest: digit.repeat(64),
        path: format!("plugins/{id}.wasm"),
    };
    let measured =
        |value: serde_json::Value| serde_json::json!({"status": "measured", "value": value, "source": "/proc"});
    StudyRecord {
        name: "smollm2-cpu".into(),
        model: "smollm2-135m-instruct".into(),
        model_path: "models/smollm2-135m-instruct-q4_1.gguf".into(),
        model_digest: "b179c952".repeat(8),
        reference: "Q4_1 file dequantised to f16".into(),
        model_facts: Settings::default().with("model.layers", 30i64).with("model.hidden", 576i64),
        device: "cpu".into(),
        threads: 2,
        hardware: serde_json::json!({
            "cpu": {
                "model": measured("Example CPU @ 2.60GHz".into()),
                "architecture": "x86_64",
                "logical_cores": measured(2.into()),
                "features": measured(serde_json::json!(["avx2", "avx512f", "avx512_vnni"])),
                "caches": {"l3_bytes": measured(34_603_008.into())},
            },
            "memory": {"total_bytes": measured(8_589_934_592u64.into())},
            "bandwidth": measured(serde_json::json!({"read_bytes_per_s": 43.2e9})),
            "gpus": {"status": "unavailable", "reason": "no NVIDIA driver"},
            "system": {"os": "Debian GNU/Linux 12", "kernel": measured("6.1.0".into())},
        }),
        scenario: Scenario::default(),
        conditions: Conditions::default(),
        evaluators: vec![
            evaluator("multiple-choice", "openbookqa", 100, 500, vec![accuracy.clone()]),
            evaluator("perplexity", "austen", 16, 64, vec![perplexity.clone()]),
        ],
        accuracy_metric: ACC.into(),
        objectives: vec![
            objective(ACC, Direction::Maximize),
            objective(metrics::END_TO_END, Direction::Minimize),
            objective(metrics::PEAK_MEMORY, Direction::Minimize),
        ],
        weights: vec![],
        constraints: vec![
            Constraint::parse("accuracy drop <= 5 %").unwrap(),
            Constraint::parse("memory.peak <= 400 MiB").unwrap(),
        ],
        strategy: "nsga2".into(),
        strategy_settings: Settings::default().with("population", 8i64),
        budget_trials: 24,
        until_converged: false,
        earlier: vec![],
        budget_seconds: Some(900.0),
        confirm: true,
        seed: 7,
        space,
        plugins: vec![
            plugin("llama", PluginKind::Family, "0"),
            plugin("depth-pruning", PluginKind::Technique, "1"),
            plugin("blocked-quantization", PluginKind::Technique, "2"),
            plugin("kv-cache", PluginKind::Technique, "3"),
            plugin("multiple-choice", PluginKind::Evaluator, "4"),
            plugin("perplexity", PluginKind::Evaluator, "5"),
            plugin("nsga2", PluginKind::Strategy, "6"),
        ],
        metrics: metrics::built_in().into_iter().chain([accuracy, perplexity]).collect(),
        aehost_version: "0.1.0".into(),
        created_at: 1_795_414_200.0,
    }
}

/// What one configuration costs and loses, before noise: shares of the baseline, and the share of items that go wrong.
struct Effect {
    latency: f64,
    memory: f64,
    lost: f64,
    log_perplexity: f64,
}

fn effect(configuration: &Configuration) -> Effect {
    let mut made = Effect { latency: 1.0, memory: 1.0, lost: 0.0, log_perplexity: 0.0 };
    for choice in &configuration.0 {
        for setting in choice.settings.iter() {
            let value = setting.value.to_string();
            let (latency, memory, lost) = match (setting.name.as_str(), value.as_str()) {
                ("layers", n) => {
                    let n: f64 = n.parse().unwrap();
                    (1.0 - 0.025 * n, 1.0 - 0.02 * n, 0.007 * n * n)
                }
                ("attention", "Q8_0") => (0.93, 0.94, 0.002),
                ("attention", "Q5_0") => (0.94, 0.90, 0.01),
                ("attention", "Q4_0") => (0.90, 0.88, 0.03),
                ("feed-forward", "Q8_0") => (0.72, 0.80, 0.002),
                ("feed-forward", "Q5_0") => (0.76, 0.70, 0.012),
                ("feed-forward", "Q4_0") => (0.63, 0.66, 0.05),
                ("embedding", "Q8_0") => (0.86, 0.84, 0.001),
                ("importance", "on") => (1.0, 1.0, -0.004),
                ("dtype", "q8_0") => (1.02, 0.985, 0.002),
                ("window", "128") => (0.95, 0.98, 0.02),
                ("window", "256") => (0.98, 0.99, 0.006),
                _ => (1.0, 1.0, 0.0),
            };
            made.latency *= latency;
            made.memory *= memory;
            made.lost += lost;
            made.log_perplexity += 1.6 * lost.max(0.0);
        }
    }
    made
}

fn measure(configuration: &Configuration, items: usize, texts: usize, seed: u64, energy: bool) -> Outcome {
    let mut noise = Noise(seed);
    let effect = effect(configuration);
    let mut measurements = Measurements::default();
    let mut insert = |name: &str, m: Measurement| measurements.metrics.insert(name.into(), m);
    let mut repeats = |value: f64| (0..5).map(|_| value * (0.985 + 0.03 * noise.uniform())).collect::<Vec<f64>>();
    let (first, token) = (repeats(412.0 * effect.latency), repeats(14.6 * effect.latency));
    let whole = first.iter().zip(&token).map(|(f, t)| f + 31.0 * t).collect();
    insert("latency.ttft_ms", Measurement::of_repeats(first.clone(), "ms", Direction::Minimize).unwrap());
    insert("latency.tpot_ms", Measurement::of_repeats(token.clone(), "ms", Direction::Minimize).unwrap());
    insert(metrics::END_TO_END, Measurement::of_repeats(whole, "ms", Direction::Minimize).unwrap());
    for (name, tokens, of) in [("prefill", 256.0, &first), ("decode", 1.0, &token)] {
        let speeds = of.iter().map(|ms| 1000.0 * tokens / ms).collect();
        let speed = Measurement::of_repeats(speeds, "tokens/s", Direction::Maximize).unwrap();
        insert(&format!("throughput.{name}_tokens_per_s"), speed);
    }
    let bytes = |mib: f64| Measurement::exact((mib * MIB).round(), "bytes", Direction::Minimize);
    insert(metrics::PEAK_MEMORY, bytes(356.0 * effect.memory));
    insert(metrics::WEIGHTS_MEMORY, bytes(257.0 * effect.memory));
    insert(metrics::CACHE_MEMORY, bytes(6.3));
    // Items are answered alike by all variants, apart from those that a variant loses.
    let mut questions = Noise(99);
    let answers = (0..items).map(|_| {
        let right = questions.uniform() < 0.43;
        let lost = questions.uniform() < effect.lost;
        f64::from(right && !lost)
    });
    let accuracy = Measurement::of_items(answers.collect(), vec![], "identity", "share", Direction::Maximize).unwrap();
    insert(ACC, accuracy);
    let nats = (0..texts).map(|_| 2.9 + 0.6 * questions.uniform() + effect.log_perplexity).collect();
    let weights = vec![256.0; texts];
    insert("perplexity.token", Measurement::of_items(nats, weights, "exp", "", Direction::Minimize).unwrap());
    if energy {
        let joules = repeats(0.42 * effect.latency);
        insert(metrics::ENERGY, Measurement::of_repeats(joules, "J", Direction::Minimize).unwrap());
    } else {
        let reason = "no energy counter on this machine: declare [energy] watts-idle and watts-busy for an estimate";
        measurements.unavailable.insert(metrics::ENERGY.into(), reason.into());
    }
    if seed % 9 == 4 {
        let advice = "latency.e2e_ms differs by 7 % between runs: close other programs, or raise the repeats";
        measurements.warnings.push(advice.into());
    }
    Outcome::Ok { measurements }
}

fn random_configuration(noise: &mut Noise) -> Configuration {
    let mut pick = |values: &[&str]| values[(noise.uniform() * values.len() as f64) as usize].to_owned();
    let mut choices = Vec::new();
    let layers = pick(&["0", "0", "0", "1", "2", "3", "5"]).parse::<i64>().unwrap();
    if layers > 0 {
        choices
            .push(Choice { technique: "depth-pruning".into(), settings: Settings::default().with("layers", layers) });
    }
    if pick(&["yes", "yes", "yes", "yes", "no"]) == "yes" {
        let formats = ["f16", "Q8_0", "Q8_0", "Q5_0", "Q4_0"];
        let settings = Settings::default()
            .with("attention", pick(&formats))
            .with("feed-forward", pick(&formats))
            .with("embedding", pick(&["f16", "Q8_0", "Q8_0"]))
            .with("importance", pick(&["on", "off"]) == "on");
        choices.push(Choice { technique: "blocked-quantization".into(), settings });
    }
    if pick(&["yes", "no"]) == "yes" {
        let window = pick(&["0", "128", "256"]).parse::<i64>().unwrap();
        let mut settings = Settings::default().with("dtype", pick(&["f16", "q8_0"])).with("window", window);
        if window > 0 {
            settings.set("sinks", pick(&["0", "4", "8"]).parse::<i64>().unwrap());
        }
        choices.push(Choice { technique: "kv-cache".into(), settings });
    }
    Configuration(choices)
}

fn trial(id: u64, purpose: Purpose, configuration: Configuration, outcome: Outcome) -> Trial {
    let mut timings = Timings::default();
    let phases: &[(&str, f64)] = match outcome {
        Outcome::Ok { .. } => &[
            ("apply", 2.1),
            ("measure", 7.4),
            ("evaluate.multiple-choice", 14.2),
            ("evaluate.perplexity", 6.1),
            ("load", 0.3),
            ("store", 0.01),
            ("ask", 0.001),
        ],
        _ => &[("apply", 1.2), ("ask", 0.001), ("store", 0.01)],
    };
    phases.iter().for_each(|(phase, seconds)| timings.add(phase, *seconds));
    let started_at = 1_795_414_200.0 + 30.0 * id as f64;
    Trial {
        id: TrialId(id),
        purpose,
        confirms: None,
        configuration,
        fidelity: 1.0,
        why: if id == 0 { String::new() } else { format!("child of trials {} and {}", id / 2, id / 3) },
        outcome,
        started_at,
        finished_at: started_at + timings.total(),
        timings,
    }
}

/// The trials of the search: the baseline, 20 that were measured, and one each of three that were not.
pub fn search(energy: bool) -> Vec<Trial> {
    let mut noise = Noise(11);
    let mut trials = Vec::new();
    for id in 0..24 {
        let mut configuration = Configuration::default();
        while id > 0 && configuration.is_baseline() {
            configuration = random_configuration(&mut noise);
        }
        let outcome = match id {
            9 => Outcome::PluginError {
                fault: Fault {
                    code: Code::Internal,
                    message: "technique depth-pruning 0.1.0 trapped in `apply`: index out of bounds".into(),
                    causes: vec!["wasm trap: unreachable".into()],
                },
            },
            14 => Outcome::Infeasible {
                reason: "memory.peak <= 400 MiB: the weights alone need 412.0 MiB".into(),
                amount: Some(0.03),
            },
            17 => Outcome::OutOfMemory { message: "the kernel ended the worker while it measured".into() },
            _ => measure(&configuration, 100, 16, id, energy),
        };
        let purpose = if id == 0 { Purpose::Baseline } else { Purpose::Search };
        trials.push(trial(id, purpose, configuration, outcome));
    }
    trials
}

/// A confirmation of one of `trials`, as the next trial of the study.
fn confirm(trials: &[Trial], confirmed: TrialId, energy: bool) -> Trial {
    let configuration = trials[confirmed.0 as usize].configuration.clone();
    let id = trials.len() as u64;
    let outcome = measure(&configuration, 500, 64, id, energy);
    Trial { confirms: Some(confirmed), ..trial(id, Purpose::Confirmation, configuration, outcome) }
}

/// The search with its confirmations: the baseline, the first candidate, and two of the front.
pub fn confirmed(energy: bool) -> Vec<Trial> {
    let record = record();
    let mut trials = search(energy);
    let analysis = Analysis::of(&record, &trials);
    let first = analysis.recommended.expect("the search finds something").trial;
    let others = analysis.front.iter().copied().filter(|id| *id != first && id.0 > 0).take(2);
    for id in [TrialId(0), first].into_iter().chain(others) {
        let confirmation = confirm(&trials, id, energy);
        trials.push(confirmation);
    }
    trials
}

//! A benchmark that resembles a catalogue of efficiency techniques: twelve over three stages, which exclude or require one
//! another, with conditional settings; loss, latency and memory to be minimised, the latency known up to 2 %; a bound on the
//! loss, and pairs that cannot be applied together.

use super::benchmarks::{measured, minimise};
use crate::strategy::testing::technique;
use crate::strategy::*;

const FORMATS: [&str; 6] = ["keep", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K"];
const BITS: [f64; 6] = [16.0, 8.5, 6.6, 5.5, 4.5, 3.4];

fn of(stage: Stage, mut space: TechniqueSpace) -> TechniqueSpace {
    space.stage = stage;
    space
}

fn providing(tag: &str, mut space: TechniqueSpace) -> TechniqueSpace {
    space.provides.push(tag.into());
    space
}

/// The problem.
pub fn problem(seed: u64, budget: u32) -> Problem {
    let architecture = |name, parameters: Vec<Parameter>| of(Stage::Architecture, technique(name, parameters));
    let tuning = |name, parameters: Vec<Parameter>| of(Stage::FineTuning, technique(name, parameters));
    let formats = |name: &str| choice(name, "", FORMATS).ordered().default("Q4_K").into();
    let mut qlora = tuning(
        "qlora",
        vec![
            integer("rank", "", 2..=64).log().default(8i64).into(),
            real("rate", "", 1e-5..=1e-2).log().default(1e-4).into(),
        ],
    );
    qlora.requires.push("quantised-weights".into());
    let space = vec![
        architecture("depth", vec![integer("drop", "", 1..=8).into()]),
        architecture(
            "width",
            vec![
                real("share", "", 0.05..=0.6).default(0.2).into(),
                choice("allocation", "", ["uniform", "adaptive", "norm"]).into(),
                flag("compensate", "").into(),
            ],
        ),
        architecture("low-rank", vec![real("share", "", 0.2..=0.9).default(0.6).into()]),
        architecture(
            "experts",
            vec![
                choice("count", "", [4i64, 8, 16]).ordered().into(),
                real("kept", "", 0.25..=0.75).default(0.5).into(),
            ],
        ),
        providing(
            "adapters",
            tuning(
                "lora",
                vec![
                    integer("rank", "", 2..=64).log().default(8i64).into(),
                    real("rate", "", 1e-5..=1e-2).log().default(1e-4).into(),
                ],
            ),
        ),
        providing(
            "quantised-weights",
            technique("blocks", [formats("attention"), formats("feed-forward"), flag("importance", "").into()]),
        ),
        providing(
            "quantised-weights",
            technique(
                "groups",
                [
                    choice("bits", "", [8i64, 4, 3]).ordered().default(4i64).into(),
                    choice("group", "", [32i64, 64, 128]).ordered().into(),
                    choice("method", "", ["round", "gptq", "awq"]).into(),
                    choice("samples", "", [64i64, 256]).ordered().when("method", ["gptq", "awq"]).into(),
                ],
            ),
        ),
        technique(
            "cache",
            [
                choice("dtype", "", ["float16", "q8_0", "q4_0"]).ordered().into(),
                choice("window", "", [0i64, 1024, 512, 256]).ordered().into(),
                choice("sinks", "", [0i64, 4, 16]).ordered().default(4i64).when("window", [1024i64, 512, 256]).into(),
            ],
        ),
        technique("sparse-attention", [real("kept", "", 0.1..=1.0).default(0.5).into()]),
        technique(
            "speculative",
            [choice("draft", "", ["lookup", "skip"]).into(), integer("tokens", "", 1..=8).default(3i64).into()],
        ),
        technique("threads", [choice("count", "", [1i64, 2, 4, 8]).ordered().default(2i64).into()]),
        // After what quantises.
        providing("adapters", qlora),
    ];
    let mut problem = minimise(space, &["loss", "latency", "memory"], seed, budget);
    problem.constraints.push(Constraint { metric: "loss".into(), at_most: true, bound: 0.25 });
    problem
}

/// What the host would tell: relative to a baseline of latency and memory 1 and loss 0.02.
pub fn outcome(configuration: &[Choice]) -> Outcome {
    let settings =
        |name: &str| configuration.iter().find(|c| c.technique == name).map(|c| Settings(c.settings.clone()));
    let real = |s: &Settings, name: &str| s.real(name).unwrap_or(0.0);
    let infeasible = |reason: &str| Outcome::Infeasible(Violation { reason: reason.into(), amount: None });
    if settings("experts").is_some() && settings("low-rank").is_some() {
        return infeasible("the experts' matrices are not factored");
    }
    if let (Some(width), Some(groups)) = (settings("width"), settings("groups"))
        && real(&width, "share") > 0.4
        && real(&groups, "group") > 100.0
    {
        return infeasible("rows are no whole number of groups");
    }
    let (mut loss, mut compute, mut weights, mut traffic, mut cache) = (0.0f64, 1.0f64, 16.0f64, 1.0f64, 1.0f64);
    if let Some(s) = settings("depth") {
        let drop = real(&s, "drop");
        (compute, weights, traffic) = (1.0 - 0.04 * drop, weights * (1.0 - 0.04 * drop), 1.0 - 0.04 * drop);
        loss += 0.006 * drop.powf(1.6);
    }
    if let Some(s) = settings("width") {
        let share = real(&s, "share");
        compute *= 1.0 - 0.7 * share;
        weights *= 1.0 - 0.7 * share;
        traffic *= 1.0 - 0.7 * share;
        let allocation = match s.text("allocation") {
            Ok("adaptive") => 0.7,
            Ok("norm") => 0.9,
            _ => 1.0,
        };
        let relief = if s.flag("compensate") == Ok(true) { 0.6 } else { 1.0 };
        loss += 0.5 * share * share * allocation * relief;
    }
    if let Some(s) = settings("low-rank") {
        let share = real(&s, "share");
        compute *= 0.35 + 0.8 * share;
        weights *= 0.35 + 0.8 * share;
        loss += 0.25 * (1.0 - share).powi(2) + 0.03;
    }
    if let Some(s) = settings("experts") {
        compute *= 0.4 + 0.7 * real(&s, "kept");
        traffic *= 0.6 + 0.5 * real(&s, "kept");
        loss += 0.12 * (1.0 - real(&s, "kept")) * (1.0 + 0.1 * (real(&s, "count") / 4.0).log2());
    }
    let damage = loss;
    if let Some(s) = settings("blocks") {
        let level = |name: &str| FORMATS.iter().position(|f| Ok(*f) == s.text(name)).unwrap_or(0);
        let (attention, forward) = (level("attention"), level("feed-forward"));
        weights *= (0.3 * BITS[attention] + 0.7 * BITS[forward]) / 16.0;
        traffic *= (0.3 * BITS[attention] + 0.7 * BITS[forward]) / 16.0;
        let relief = if s.flag("importance") == Ok(true) { 0.55 } else { 1.0 };
        loss += relief * (0.0006 * (attention as f64).powi(3) + 0.0009 * (forward as f64).powi(3));
    }
    if let Some(s) = settings("groups") {
        let bits = real(&s, "bits") + 32.0 / real(&s, "group").max(1.0);
        weights *= bits / 16.0;
        traffic *= bits / 16.0;
        let method = match s.text("method") {
            Ok("gptq") => 0.45,
            Ok("awq") => 0.4,
            _ => 1.0,
        };
        let samples = if s.integer("samples") == Ok(64) { 1.15 } else { 1.0 };
        loss += 1.2 * 0.5f64.powf(real(&s, "bits")) * method * samples * (0.7 + real(&s, "group") / 200.0);
    }
    for (name, gain) in [("lora", 0.55), ("qlora", 0.65)] {
        if let Some(s) = settings(name) {
            let off = (real(&s, "rate") / 4e-4).log10().abs();
            let rank = (real(&s, "rank").max(1.0).log2() / 6.0).min(1.0);
            let won = gain * (0.5 + 0.5 * rank) * (1.0 - 0.9 * off);
            loss -= won.max(-0.5) * if name == "qlora" { loss } else { damage };
            compute *= if name == "lora" { 1.03 } else { 1.06 };
        }
    }
    let mut attention = 1.0;
    if let Some(s) = settings("cache") {
        let level = match s.text("dtype") {
            Ok("q8_0") => 0.53,
            Ok("q4_0") => 0.28,
            _ => 1.0,
        };
        let window = real(&s, "window");
        let kept = if window > 0.0 { window / 2048.0 } else { 1.0 };
        cache *= level * kept;
        attention *= 0.5 + 0.5 * kept;
        loss += match level {
            v if v < 0.3 => 0.03,
            v if v < 0.6 => 0.002,
            _ => 0.0,
        };
        loss += if window > 0.0 { 12.0 / window } else { 0.0 };
        loss += if window > 0.0 && s.integer("sinks") == Ok(0) { 0.2 } else { 0.0 };
    }
    if let Some(s) = settings("sparse-attention") {
        attention *= 0.3 + 0.7 * real(&s, "kept");
        loss += 0.08 * (1.0 - real(&s, "kept")).powi(2);
    }
    let mut steps = 1.0;
    if let Some(s) = settings("speculative") {
        let accepted = if s.text("draft") == Ok("lookup") { 0.45 } else { 0.62 };
        let tokens = real(&s, "tokens");
        let saved = (1.0 - f64::powf(accepted, tokens + 1.0)) / (1.0 - accepted);
        steps = (1.0 + 0.12 * tokens * if accepted > 0.5 { 1.5 } else { 1.0 }) / saved;
    }
    let threads = settings("threads").map_or(2.0, |s| real(&s, "count"));
    let parallel = 0.25 + 0.75 * 2.0 / threads + 0.04 * threads - 0.08;
    let latency = steps * (0.3 * compute * parallel + 0.55 * traffic * parallel.max(0.7) + 0.15 * attention);
    // Noise that depends on nothing but the configuration.
    let bits = format!("{configuration:?}").bytes().fold(7u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    let latency = latency * (1.0 + 0.02 * Random::new(bits).normal());
    measured(&[("loss", 0.02 + loss.max(-0.01)), ("latency", latency), ("memory", 0.8 * weights / 16.0 + 0.2 * cache)])
}

//! Decoding with drafts gives the text that decoding without them gives.

use crate::support;
use aehost_common::{Fault, Setting, Settings};
use aehost_engine::{Calibration, Continuation, Device, Model, Part, Representation, Rows, Sequence, Variant, greedy};
use aehost_graph::Filter;
use aehost_plugins::{Catalog, Surroundings};
use std::sync::Arc;

/// The tokens of greedy decoding, several prompts together, and tokens a step.
fn decode(variant: &Variant, prompts: &[Vec<u32>], output: usize) -> (Vec<Vec<u32>>, f64) {
    let model = Model::new(variant, &Device::Cpu, 2).unwrap();
    let start = |prompt: &Vec<u32>| {
        let mut cache = model.cache();
        let logits = model.prefill(prompt, &mut cache).unwrap();
        Continuation::new(prompt, cache, greedy(&logits))
    };
    let mut runs: Vec<Continuation> = prompts.iter().map(start).collect();
    let made = |run: &Continuation, prompt: &Vec<u32>| run.tokens().len() - prompt.len();
    loop {
        let mut parts = Vec::new();
        for (run, prompt) in runs.iter_mut().zip(prompts).filter(|(run, prompt)| made(run, prompt) < output) {
            parts.push(Part { most: output - made(run, prompt), continuation: run, drafts: true });
        }
        if parts.is_empty() {
            break;
        }
        model.continue_all(&mut parts, &mut |_, logits| Ok(greedy(logits))).unwrap();
    }
    let (steps, tokens) = runs.iter().map(Continuation::steps).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    (runs.iter().map(|run| run.tokens().to_vec()).collect(), tokens as f64 / steps as f64)
}

fn looking_up(variant: &Variant, tokens: i64) -> Variant {
    let mut variant = variant.clone();
    variant.set_policy(&[Setting::new("speculation", "prompt-lookup"), Setting::new("draft-tokens", tokens)]).unwrap();
    variant
}

/// The model with all its caches, and attention, changed.
fn changed(op: &str, settings: &[Setting]) -> Variant {
    let mut variant = support::model();
    let nodes = Filter { op: Some(op.into()), ..Filter::default() };
    let nodes: Vec<_> = variant.graph().filtered(&nodes).iter().map(|n| n.id).collect();
    for (node, setting) in nodes.iter().flat_map(|node| settings.iter().map(move |setting| (node, setting))) {
        variant.graph_mut().set_attribute(*node, setting.clone()).unwrap();
    }
    variant
}

/// Caches and attention of every sort.
fn sorts() -> Vec<(&'static str, Variant)> {
    let cache = |dtype: &str, others: &[(&str, i64)]| {
        let others = others.iter().map(|(name, value)| Setting::new(*name, *value));
        changed("cache", &others.chain([Setting::new("dtype", dtype)]).collect::<Vec<_>>())
    };
    let evicting = |score: &str, dtype: &str| {
        let numbers = [("keep", 24i64), ("newest", 8), ("interval", 32)].map(|(name, value)| Setting::new(name, value));
        let words = [Setting::new("score", score), Setting::new("dtype", dtype)];
        changed("cache", &numbers.into_iter().chain(words).collect::<Vec<_>>())
    };
    vec![
        ("float32", cache("float32", &[])),
        ("float16", cache("float16", &[])),
        ("q8_0", cache("q8_0", &[])),
        ("window", cache("float16", &[("window", 24)])),
        ("affine8", cache("affine8", &[("interval", 32)])),
        ("affine4", cache("affine4", &[("interval", 64)])),
        ("affine8 in a window", cache("affine8", &[("interval", 64), ("window", 24), ("sinks", 4)])),
        ("accumulated", evicting("accumulated", "float32")),
        ("latest", evicting("latest", "q8_0")),
        ("accumulated, in few bits", evicting("accumulated", "affine8")),
        ("pages", changed("attention", &[Setting::new("page", 8i64), Setting::new("top-pages", 3i64)])),
    ]
}

#[test]
fn steps_of_any_size_give_the_same_whatever_the_cache_keeps() {
    let tokens: Vec<u32> = (0..120).map(|i| i * 29 % 251).collect();
    for (sort, variant) in sorts() {
        let model = Model::new(&variant, &Device::Cpu, 2).unwrap();
        let on_tensors = Model::on_tensors(&variant, &Device::Cpu, 1).unwrap();
        let logits = |model: &Model, size: usize| {
            let mut cache = model.cache();
            let step = |tokens: &[u32]| -> Vec<f32> {
                let sequence = Sequence { tokens, branches: None, cache: &mut cache, rows: Rows::All };
                model.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            let logits: Vec<f32> = tokens.chunks(size).flat_map(step).collect();
            let (kept, most) = (cache.bytes(), variant.cache_bytes(1, 120));
            assert!(kept <= most, "{sort}: {kept} bytes, predicted {most}");
            logits
        };
        let whole = logits(&model, 120);
        for (size, other) in [(1, logits(&model, 1)), (7, logits(&model, 7)), (120, logits(&on_tensors, 120))] {
            let furthest = whole.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            let largest = whole.iter().copied().fold(0f32, |m, x| m.max(x.abs()));
            assert!(furthest < 2e-3 * largest, "{sort}, steps of {size}: {furthest} of {largest}");
        }
    }
}

#[test]
fn drafts_change_nothing_whatever_the_cache_keeps() {
    let prompts: Vec<Vec<u32>> =
        vec![(0..60).map(|i| i * i % 17).collect(), (0..9).collect(), [3, 1, 4, 1, 5].repeat(6)];
    let catalog = Catalog::load(&[support::built_ins()], &support::options()).unwrap();
    for (sort, variant) in sorts() {
        let (expected, one) = decode(&variant, &prompts, 60);
        assert_eq!(one, 1.0);
        let looking_up = [1, 4, 8].map(|tokens| (format!("looking up {tokens}"), looking_up(&variant, tokens)));
        for (how, variant) in
            looking_up.into_iter().chain([("skipping a layer".to_owned(), skipping(&catalog, &variant, 1))])
        {
            let (found, several) = decode(&variant, &prompts, 60);
            assert_eq!(found, expected, "{sort}, {how}");
            let repeats = how != "skipping a layer";
            assert!(several > 1.0 || !repeats, "a small model repeats itself: {several} tokens a step");
        }
    }
}

/// With a draft model, by the technique that adds it.
fn skipping(catalog: &Catalog, variant: &Variant, skip: i64) -> Variant {
    let settings = Settings::default().with("method", "layer-skip").with("draft-tokens", 4i64).with("skip", skip);
    let text: Vec<u32> = (0..256u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) % 251).collect();
    let calibration = Arc::new(Calibration::new(text, variant.clone(), Device::Cpu, 2));
    let surroundings = Surroundings { calibration: Some(calibration), ..Surroundings::default() };
    applied(catalog, variant, &surroundings, &settings).unwrap()
}

fn applied(
    catalog: &Catalog,
    variant: &Variant,
    surroundings: &Surroundings,
    settings: &Settings,
) -> Result<Variant, Fault> {
    let mut variant = variant.clone();
    catalog.technique("speculative-decoding").unwrap().apply(&mut variant, surroundings, settings)?;
    Ok(variant)
}

/// With a companion that drafts.
fn drafted_by(catalog: &Catalog, variant: &Variant, companion: Variant) -> Variant {
    let companions = Arc::new([("small".to_owned(), companion)].into());
    let surroundings = Surroundings { companions, ..Surroundings::default() };
    let settings = Settings::default().with("method", "draft-model").with("draft-tokens", 4i64);
    let unknown = applied(catalog, variant, &surroundings, &settings.clone().with("draft", "none")).err().unwrap();
    assert!(unknown.message.ends_with("there is no companion `none`; there are: [small]"), "{unknown}");
    applied(catalog, variant, &surroundings, &settings.with("draft", "small")).unwrap()
}

#[test]
fn a_companion_drafts_with_weights_caches_and_a_context_of_its_own() {
    let catalog = Catalog::load(&[support::built_ins()], &support::options()).unwrap();
    let prompts: Vec<Vec<u32>> = vec![(0..60).map(|i| i * i % 17).collect(), (0..9).collect()];
    let variant = support::model();
    let (expected, _) = decode(&variant, &prompts, 60);
    // One that always agrees, and one that does at times.
    for (companion, alike) in [(support::model(), true), (coarse(), false)] {
        let drafted = drafted_by(&catalog, &variant, companion.clone());
        assert_eq!(drafted.weight_bytes(), variant.weight_bytes() + companion.weight_bytes());
        assert_eq!(drafted.cache_bytes(1, 60), 2 * variant.cache_bytes(1, 60));
        let (found, several) = decode(&drafted, &prompts, 60);
        assert_eq!(found, expected);
        assert!(several > 1.0 && (several > 4.0) == alike, "{several} tokens a step");
    }
    let mut short = support::model();
    short.graph_mut().set_fact(Setting::new("context", 80i64));
    let (found, several) = decode(&drafted_by(&catalog, &variant, short), &prompts[..1], 60);
    assert_eq!(found, expected[..1]);
    assert!((1.0..2.0).contains(&several), "drafts end where the companion's context does: {several} tokens a step");
}

/// The model with all matrices in two bits.
fn coarse() -> Variant {
    let mut variant = support::model();
    let few_bits = Settings::default().with("bits", 2i64).with("group", 32i64).with("symmetric", false);
    let form = Representation::parse("affine", &few_bits).unwrap();
    let names: Vec<String> = variant.graph().used_weights().into_iter().map(str::to_owned).collect();
    for name in names.iter().filter(|name| name.contains(".attention.") || name.contains(".feed-forward.")) {
        variant.encode_weight(name, form, None).unwrap();
    }
    variant
}

#[test]
fn the_default_model_takes_fewer_steps_for_text_that_repeats() {
    let Some((checkpoint, variant)) = support::default_model() else { return };
    let tokenizer = checkpoint.tokenizer().unwrap();
    let prompts: Vec<Vec<u32>> = [
        "Monday: rain. Tuesday: rain. Wednesday: rain. Thursday: rain. Friday:",
        "fn add(a: i32, b: i32) -> i32 { a + b }\nfn sub(a: i32, b: i32) -> i32 { a - b }\nfn mul(",
        "The king had a daughter who was",
    ]
    .iter()
    .map(|text| tokenizer.encode(text, false).unwrap())
    .collect();
    let (expected, _) = decode(&variant, &prompts, 64);
    let (found, several) = decode(&looking_up(&variant, 4), &prompts, 64);
    println!("{several:.2} tokens a step");
    assert_eq!(found, expected);
    assert!(several > 1.3, "{several} tokens a step");
    let catalog = Catalog::load(&[support::built_ins()], &support::options()).unwrap();
    let (expected, _) = decode(&variant, &prompts, 16);
    let (found, several) = decode(&skipping(&catalog, &variant, 3), &prompts, 16);
    println!("{several:.2} tokens a step when drafts skip 3 layers");
    assert_eq!(found, expected);
    assert!(several > 1.2, "{several} tokens a step");
}

//! Decoding with drafts gives the text that decoding without them gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use aehost_common::Setting;
use aehost_engine::{Continuation, Device, Model, Part, Variant, greedy};
use aehost_graph::Filter;

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

fn drafting(variant: &Variant, tokens: i64) -> Variant {
    let mut variant = variant.clone();
    variant.set_policy(&[Setting::new("speculation", "prompt-lookup"), Setting::new("draft-tokens", tokens)]).unwrap();
    variant
}

#[test]
fn drafts_change_nothing_whatever_the_cache_keeps() {
    let prompts: Vec<Vec<u32>> =
        vec![(0..60).map(|i| i * i % 17).collect(), (0..9).collect(), [3, 1, 4, 1, 5].repeat(6)];
    for (dtype, window) in [("float32", 0), ("float16", 0), ("q8_0", 0), ("float16", 24)] {
        let mut variant = support::model();
        let caches = Filter { op: Some("cache".into()), ..Filter::default() };
        let caches: Vec<_> = variant.graph().filtered(&caches).iter().map(|n| n.id).collect();
        for cache in caches {
            variant.graph_mut().set_attribute(cache, Setting::new("dtype", dtype)).unwrap();
            variant.graph_mut().set_attribute(cache, Setting::new("window", window as i64)).unwrap();
        }
        let (expected, one) = decode(&variant, &prompts, 60);
        assert_eq!(one, 1.0);
        for tokens in [1, 4, 8] {
            let (found, several) = decode(&drafting(&variant, tokens), &prompts, 60);
            assert_eq!(found, expected, "{dtype}, window {window}, drafts of {tokens}");
            assert!(several > 1.0, "a small model repeats itself: {several} tokens a step");
        }
    }
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
    let (found, several) = decode(&drafting(&variant, 4), &prompts, 64);
    println!("{several:.2} tokens a step");
    assert_eq!(found, expected);
    assert!(several > 1.3, "{several} tokens a step");
}

//! Scores do not depend on what else is scored with them: neither on the order of the requests nor on how many share a step.

use crate::support::{checkpoint, model};
use aehost_common::Setting;
use aehost_engine::{Device, LanguageModel, Prompt, Representation, ScoreRequest, Variant};
use aehost_formats::Encoding;
use std::sync::Arc;

/// Nats that a continuation's log-likelihood may differ by. Sums of float32 are taken in another order where other tokens are
/// computed with them; where activations or the cache are rounded to fewer bits, a last bit may decide between two of them.
const FLOAT32: f64 = 2e-5;
const ROUNDED: f64 = 5e-3;

fn requests() -> Vec<ScoreRequest> {
    let contexts =
        ["Once upon a time there was a king", "2 + 2 is", "The", "A fisherman and his wife lived in a ditch"];
    let continuations = [" who", " very far away, and that was all", " four", " x"];
    let request = |context: &str, continuation: &str| ScoreRequest {
        prompt: Prompt::text(context),
        continuation: continuation.into(),
    };
    contexts.iter().flat_map(|context| continuations.iter().map(move |c| request(context, c))).collect()
}

fn scores(language: &LanguageModel, requests: &[ScoreRequest]) -> Vec<f64> {
    language.score(requests).unwrap().iter().map(|score| score.log_likelihood).collect()
}

fn check(variant: &Variant, name: &str, bound: f64) {
    let tokenizer = Arc::new(checkpoint().tokenizer().unwrap());
    let language = LanguageModel::new(variant, tokenizer, &Device::Cpu, 2).unwrap();
    let mut requests = requests();
    let together = scores(&language, &requests);
    let alone: Vec<f64> = requests.iter().map(|r| scores(&language, std::slice::from_ref(r))[0]).collect();
    let pairs: Vec<f64> = requests.chunks(3).flat_map(|r| scores(&language, r)).collect();
    requests.reverse();
    let mut reversed = scores(&language, &requests);
    reversed.reverse();
    for (other, how) in [(alone, "one by one"), (pairs, "by threes"), (reversed, "in reverse")] {
        let gap = together.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}, {how}: {gap:.1e} nats at most");
        assert!(gap <= bound, "{name}, {how}: {together:?} became {other:?}");
    }
}

#[test]
fn scores_are_the_same_in_any_order_and_company() {
    let plain = model();
    let mut precise = plain.clone();
    let caches: Vec<_> = plain.graph().all_nodes().filter(|n| n.spec.op == "cache").map(|n| n.id).collect();
    for cache in caches {
        precise.graph_mut().set_attribute(cache, Setting::new("dtype", "float32")).unwrap();
    }
    check(&precise, "float32", FLOAT32);
    check(&plain, "float32 with a float16 cache", ROUNDED);
    let mut blocked = plain.clone();
    let names: Vec<String> = plain.graph().used_weights().into_iter().map(str::to_owned).collect();
    for name in names.iter().filter(|name| plain.describe_weight(name).unwrap().shape.len() == 2) {
        blocked.encode_weight(name, Representation::Blocked(Encoding::Q4_0), None).unwrap();
    }
    check(&blocked, "Q4_0", ROUNDED);
}

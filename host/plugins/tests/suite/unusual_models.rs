//! Every technique on models and calibration text that it was not thought out on: it applies and leaves a model that runs,
//! or says in words why not. Nothing traps.

use crate::support::{LLAMA, Llama, built_by, built_ins, family_models, model, model_of, options, root};
use aehost_common::{Code, Fault, Parameter, Settings};
use aehost_engine::{Calibration, Device, Model, Rows, Sequence, Variant};
use aehost_plugins::{Catalog, Limits, Options, Surroundings};
use std::sync::Arc;

/// Sequences that leave something out when a cache keeps few tokens.
fn scenario() -> Settings {
    Settings::default().with("scenario.prompt_tokens", 96i64).with("scenario.output_tokens", 16i64)
}

fn catalog() -> Catalog {
    Catalog::load(&[built_ins()], &Options { limits: Limits::default(), ..options() }).unwrap()
}

/// Not periodic, so that Gram matrices have full rank.
fn text(tokens: u32, vocabulary: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) % vocabulary).collect()
}

/// Each technique with its default settings; an empty text is none.
fn outcomes(catalog: &Catalog, base: &Variant, text: Vec<u32>) -> Vec<(String, Result<Variant, Fault>)> {
    let calibration = Calibration::new(text.clone(), base.clone(), Device::Cpu, 2);
    let calibration = (!text.is_empty()).then(|| Arc::new(calibration));
    let surroundings = Surroundings { calibration, facts: scenario(), ..Surroundings::default() };
    let apply = |technique: &aehost_plugins::Technique| {
        let parameters = technique.parameters(base, &surroundings.facts)?;
        let defaults = Parameter::complete(&parameters, &Settings::default()).unwrap();
        let mut variant = base.clone();
        technique.apply(&mut variant, &surroundings, &defaults)?;
        Ok(variant)
    };
    catalog.techniques().map(|t| (t.description().identity.id.clone(), apply(t))).collect()
}

fn finite(variant: &Variant, vocabulary: u32) -> bool {
    let model = Model::new(variant, &Device::Cpu, 2).unwrap();
    let tokens = text(48.min(model.context().unwrap_or(48) as u32), vocabulary);
    let mut cache = model.cache();
    let sequence = Sequence { tokens: &tokens, branches: None, cache: &mut cache, rows: Rows::All };
    let logits: Vec<f32> = model.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    logits.iter().all(|x| x.is_finite())
}

/// What applied and does not run, and what did not apply and said none of these, is wrong; how many applied.
fn check(
    what: &str,
    vocabulary: u32,
    outcomes: Vec<(String, Result<Variant, Fault>)>,
    allowed: &[Code],
    wrong: &mut Vec<String>,
) -> usize {
    let mut applied = 0;
    for (id, outcome) in outcomes {
        match outcome {
            Ok(variant) => {
                applied += 1;
                if !finite(&variant, vocabulary) {
                    wrong.push(format!("{what}, {id}: logits are not finite"));
                }
            }
            Err(fault) => {
                println!("{what}, {id}: {fault}");
                if !allowed.contains(&fault.code) {
                    wrong.push(format!("{what}, {id}: {fault:?}"));
                }
            }
        }
    }
    applied
}

#[test]
fn every_technique_applies_to_every_family_or_says_why_not() {
    let (catalog, mut wrong) = (catalog(), vec![]);
    let with_images = root().join("tests/fixtures/vision/idefics3");
    for path in family_models().into_iter().chain([with_images]) {
        let base = built_by(&catalog, &path);
        let vocabulary = Model::new(&base, &Device::Cpu, 1).unwrap().vocabulary() as u32;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let found = outcomes(&catalog, &base, text(256, vocabulary));
        let applied = check(&name, vocabulary, found, &[Code::NotApplicable, Code::Unsupported], &mut wrong);
        println!("{name}: {applied} techniques apply");
        assert!(applied >= 6, "{name}: only {applied} techniques apply");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn calibration_text_that_is_missing_too_short_or_always_the_same_is_told_or_enough() {
    let (catalog, base) = (catalog(), model());
    let allowed = [Code::NotApplicable, Code::Unsupported, Code::InvalidInput, Code::Diverged];
    let none = outcomes(&catalog, &base, vec![]);
    let needs: Vec<&str> = none
        .iter()
        .filter_map(|(id, outcome)| {
            let fault = outcome.as_ref().err()?;
            fault.message.contains("no calibration text").then_some(id.as_str())
        })
        .collect();
    assert!(needs.contains(&"gptq") && needs.contains(&"awq") && needs.contains(&"low-rank"), "{needs:?}");
    let mut wrong = vec![];
    check("no text", 256, none, &allowed, &mut wrong);
    for (what, text) in [
        ("one token", vec![7]),
        ("three tokens", vec![7, 8, 9]),
        // Gram matrices of rank one.
        ("one token again and again", vec![7; 300]),
    ] {
        check(what, 256, outcomes(&catalog, &base, text), &allowed, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn dimensions_that_no_group_divides_are_told() {
    let (catalog, mut wrong) = (catalog(), vec![]);
    let allowed = [Code::NotApplicable, Code::Unsupported];
    for (hidden, feed_forward) in [(136, 200), (100, 250), (128, 264)] {
        let base = model_of(Llama { hidden, feed_forward, ..LLAMA });
        let found = outcomes(&catalog, &base, text(256, 256));
        for (id, outcome) in &found {
            // Each has a matrix whose rows are no whole groups.
            let grouped = ["round-to-nearest", "gptq", "awq", "hqq", "codebook"].contains(&id.as_str());
            assert!(!grouped || outcome.is_err(), "{id} on {hidden} x {feed_forward}");
        }
        check(&format!("{hidden} x {feed_forward}"), 256, found, &allowed, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn weights_that_are_no_numbers_are_told_with_a_name() {
    let catalog = catalog();
    let mut wrong = vec![];
    for broken in ["blk.2.attn_q.weight", "blk.1.ffn_down.weight"] {
        let base = model_of(Llama { broken: Some(broken), ..LLAMA });
        for (id, outcome) in outcomes(&catalog, &base, text(256, 256)) {
            // What reads no weights leaves the trial to find out.
            let Err(fault) = outcome else {
                if ["gptq", "awq", "hqq", "codebook"].contains(&id.as_str()) {
                    wrong.push(format!("{broken}, {id}: rounded what is no number"));
                }
                continue;
            };
            println!("{broken}, {id}: {fault}");
            let known = matches!(fault.code, Code::NotApplicable | Code::Unsupported)
                || (fault.code == Code::Diverged && fault.message.contains('`'));
            if !known {
                wrong.push(format!("{broken}, {id}: {fault:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

//! Statistics on calibration text, of models that are being edited.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use aehost_engine::{Calibration, Device, FloatType, Variant, Wanted};
use aehost_graph::{Filter, ValueId};
use std::time::Instant;
use support::model;

/// The inputs of all linears of one layer.
fn inputs(variant: &Variant, layer: u32) -> Vec<ValueId> {
    let filter = Filter { op: Some("linear".into()), layer: Some(layer), ..Filter::default() };
    let mut values: Vec<ValueId> = variant.graph().filtered(&filter).iter().map(|n| n.spec.inputs[0]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn grams(calibration: &Calibration, variant: &Variant, values: &[ValueId], tokens: usize) -> Vec<Vec<f32>> {
    let wanted = |at: &ValueId| Wanted {
        statistic: "gram".into(),
        at: *at,
        against: None,
        settings: aehost_common::Settings::default(),
    };
    let wanted: Vec<Wanted> = values.iter().map(wanted).collect();
    let found = calibration.collect(variant, &wanted, tokens).unwrap();
    found.values.iter().map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// Makes every linear of a layer a little coarser.
fn coarsen(variant: &mut Variant, layer: u32) {
    let filter = Filter { op: Some("linear".into()), layer: Some(layer), ..Filter::default() };
    let weights: Vec<String> =
        variant.graph().filtered(&filter).iter().map(|n| n.spec.weight("weight").unwrap().to_owned()).collect();
    for weight in weights {
        let numbers = variant.read_weight(&weight, None).unwrap();
        let coarse = (((numbers * 8.0).unwrap().round().unwrap()) / 8.0).unwrap();
        variant.put_weight(&weight, &coarse, FloatType::F32).unwrap();
    }
}

#[test]
fn what_was_collected_before_changes_nothing() {
    // More tokens than the vocabulary has, and sequences of the model's own context.
    let tokens: Vec<u32> = (0..700u32).map(|i| i * 37 % 251).collect();
    let base = model();
    let fresh = || Calibration::new(tokens.clone(), base.clone(), Device::Cpu, 2);
    let used = fresh();
    let mut variant = base.clone();
    for layer in 0..support::LAYERS {
        let values = inputs(&variant, layer);
        let (found, expected) = (grams(&used, &variant, &values, 700), grams(&fresh(), &variant, &values, 700));
        assert_eq!(found, expected, "layer {layer}");
        // Fewer tokens are other statistics.
        assert_ne!(grams(&used, &variant, &values, 300), found, "layer {layer}");
        coarsen(&mut variant, layer);
        assert_ne!(grams(&used, &base, &inputs(&base, layer), 700), [vec![0.0]]);
    }
    let last = inputs(&base, support::LAYERS - 1);
    assert_ne!(grams(&used, &base, &last, 700), grams(&used, &variant, &last, 700), "the edits of all layers count");
    assert_eq!(grams(&used, &base, &last, 700), grams(&fresh(), &base, &last, 700), "and the base is as it was");
}

#[test]
fn divergence_is_zero_from_the_base_and_the_same_each_time() {
    let base = model();
    let calibration = Calibration::new((0..200).collect(), base.clone(), Device::Cpu, 2);
    assert_eq!(calibration.divergence(&base, 200).unwrap(), 0.0);
    let mut variant = base.clone();
    coarsen(&mut variant, 1);
    let first = calibration.divergence(&variant, 200).unwrap();
    assert!(first > 0.0 && first == calibration.divergence(&variant, 200).unwrap(), "{first}");
}

/// `cargo test --release --workspace --test calibration -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, on the default model"]
fn cost_of_going_through_the_layers() {
    let Some(variant) = support::default_model() else { return };
    let (checkpoint, mut variant) = variant;
    let text = std::fs::read_to_string(support::root().join("README.md")).unwrap();
    let tokens = checkpoint.tokenizer().unwrap().encode(&text, false).unwrap();
    let count = tokens.len().min(2048);
    let new = || Calibration::new(tokens.clone(), variant.clone(), Device::Cpu, 2);
    let layers = variant.graph().fact("layers").and_then(aehost_common::Value::as_integer).unwrap() as u32;
    let all: Vec<ValueId> = (0..layers).flat_map(|layer| inputs(&variant, layer)).collect();
    let (once, sequential) = (new(), new());
    let start = Instant::now();
    grams(&once, &variant, &all, count);
    let one_pass = start.elapsed();
    let mut collecting = std::time::Duration::ZERO;
    for layer in 0..layers {
        let values = inputs(&variant, layer);
        let start = Instant::now();
        grams(&sequential, &variant, &values, count);
        collecting += start.elapsed();
        coarsen(&mut variant, layer);
    }
    println!(
        "{count} tokens, Gram matrices of all linears' inputs: {:.1} s in one pass, {:.1} s layer by layer with edits between",
        one_pass.as_secs_f64(),
        collecting.as_secs_f64()
    );
}

//! Statistics on calibration text, of models that are being edited.

use crate::support::{self, model};
use aehost_common::{Setting, Settings, Value};
use aehost_engine::{Calibration, Device, FloatType, Variant, Wanted};
use aehost_graph::{Filter, ValueId};
use candle_core::DType;
use std::time::Instant;

/// The inputs of all linears of one layer.
fn inputs(variant: &Variant, layer: u32) -> Vec<ValueId> {
    let filter = Filter { op: Some("linear".into()), layer: Some(layer), ..Filter::default() };
    let mut values: Vec<ValueId> = variant.graph().filtered(&filter).iter().map(|n| n.spec.inputs[0]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn grams(calibration: &Calibration, variant: &Variant, values: &[ValueId], tokens: usize) -> Vec<Vec<f32>> {
    let wanted =
        |at: &ValueId| Wanted { statistic: "gram".into(), at: *at, against: None, settings: Settings::default() };
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
fn statistics_follow_from_the_rows_whichever_of_two_values_is_computed_first() {
    let base = model();
    let calibration = Calibration::new((0..600u32).map(|i| i * 37 % 251).collect(), base.clone(), Device::Cpu, 2);
    let (early, late) = (inputs(&base, 0)[0], inputs(&base, 1)[0]);
    let wanted = |statistic: &str, at, against, settings: &[(&str, Value)]| Wanted {
        statistic: statistic.into(),
        at,
        against,
        settings: Settings(settings.iter().map(|(name, value)| Setting::new(*name, value.clone())).collect()),
    };
    let all = ("count", Value::Integer(600));
    let list = [
        wanted("rows", early, None, std::slice::from_ref(&all)),
        wanted("rows", late, None, std::slice::from_ref(&all)),
        wanted("rows", late, None, &[all.clone(), ("dtype", Value::Text("float16".into()))]),
        wanted("mean", late, None, &[]),
        wanted("cross", early, Some(late), &[]),
        wanted("cross", late, Some(early), &[]),
        wanted("cosine", late, Some(early), &[]),
        wanted("cross", late, Some(late), &[]),
    ];
    let found = calibration.collect(&base, &list, 600).unwrap();
    let rows = |i: usize| found.values[i].to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    let (x, y, halves) = (rows(0), rows(1), rows(2));
    assert_eq!((found.tokens, x.len(), y.len(), found.values[2].dtype()), (600, 600, 600, DType::F16));
    let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-4 * b.abs().max(1e-2);
    let pairs = y.iter().flatten().zip(halves.iter().flatten());
    assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs().max(1e-3)));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mean = |of: &dyn Fn(usize) -> f64| (0..600).map(of).sum::<f64>() / 600.0;
    for (i, found) in found.values[3].to_vec1::<f32>().unwrap().iter().enumerate() {
        assert!(near(*found, mean(&|token| f64::from(y[token][i]))));
    }
    for (statistic, a, b) in [(4, &x, &y), (5, &y, &x), (7, &y, &y)] {
        for (i, row) in rows(statistic).iter().enumerate() {
            for (j, found) in row.iter().enumerate() {
                assert!(near(*found, mean(&|token| f64::from(a[token][i]) * f64::from(b[token][j]))));
            }
        }
    }
    let length = |a: &[f32]| product(a, a).sqrt();
    let cosine = mean(&|token| product(&x[token], &y[token]) / (length(&x[token]) * length(&y[token])));
    assert!(near(found.values[6].to_vec1::<f32>().unwrap()[0], cosine));
    let unknown = wanted("rows", early, None, &[("dtype", Value::Text("float5".into()))]);
    let told = calibration.collect(&base, &[unknown], 600).unwrap_err().to_string();
    assert!(told.contains("float5") && told.contains("float16"), "{told}");
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

/// `cargo test --release --workspace --test suite calibration -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, on the default model"]
fn cost_of_going_through_the_layers() {
    let Some(variant) = support::default_model() else { return };
    let (checkpoint, mut variant) = variant;
    let text = std::fs::read_to_string(support::root().join("README.md")).unwrap();
    let tokens = checkpoint.tokenizer().unwrap().encode(&text, false).unwrap();
    let count = tokens.len().min(2048);
    let new = || Calibration::new(tokens.clone(), variant.clone(), Device::Cpu, 2);
    let layers = variant.graph().fact("layers").and_then(Value::as_integer).unwrap() as u32;
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

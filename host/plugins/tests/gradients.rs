//! Gradients of every family's small model against PyTorch's (`tests/fixtures/gradients/families`). A file of gradients looks
//! like the model's own, so the family that binds its weights gives each gradient the name and shape of its weight.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use aehost_engine::{Device, Example, Trainable, Training, TrainingOptions};
use aehost_plugins::Catalog;
use support::{built_by, built_ins, family_models, options, root};

/// How far a number may be off, as a share of the largest of its weight.
const TOLERANCE: f32 = 1e-4;

#[test]
fn gradients_of_every_family_are_those_of_pytorch() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    for folder in family_models() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let variant = built_by(&catalog, &folder);
        let expected = built_by(&catalog, &root().join("tests/fixtures/gradients/families").join(&name));
        let tensors = candle_core::safetensors::load(folder.join("reference.safetensors"), &Device::Cpu).unwrap();
        // Where the rope changes beyond the original context, the text within it.
        let tokens = tensors.get("short_tokens").unwrap_or(&tensors["tokens"]);
        let tokens: Vec<i64> = tokens.to_vec1().unwrap();
        let example = Example { tokens: tokens.iter().map(|t| *t as u32).collect(), answer: 1 };
        let weights = variant.graph().used_weights();
        // Frequencies of a rope are not trained.
        let trained = |weight: &&str| !weight.contains("frequencies");
        let trainable: Vec<Trainable> = weights
            .into_iter()
            .filter(trained)
            .map(|weight| Trainable { weight: weight.to_owned(), rate: 1.0 })
            .collect();
        let training = Training {
            variant: &variant,
            teacher: &variant,
            trainable: &trainable,
            examples: &[example],
            held_out: &[],
            options: &TrainingOptions::default(),
            threads: 2,
            memory: u64::MAX,
        };
        let (_, gradients) = training.gradients().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(gradients.len(), trainable.len());
        for (weight, gradient) in gradients {
            let numbers = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (found, expected) = (numbers(&gradient), numbers(&expected.read_weight(&weight, None).unwrap()));
            assert_eq!(found.len(), expected.len(), "{name}: {weight}");
            let largest = expected.iter().fold(1e-4f32, |most, x| most.max(x.abs()));
            let gap = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest;
            assert!(
                gap < TOLERANCE,
                "{name}: the gradient of `{weight}` is off by {gap} of its largest number {largest}"
            );
        }
    }
}

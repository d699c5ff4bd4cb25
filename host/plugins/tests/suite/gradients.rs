//! Gradients of every family's small model against PyTorch's (`tests/fixtures/gradients/families`). A file of gradients looks
//! like the model's own, so the family that binds its weights gives each gradient the name and shape of its weight.

use crate::support::{built_by, built_ins, family_models, fetched, options, root};
use aehost_common::Settings;
use aehost_engine::{
    Device, Example, FloatType, Model, Objective, Rows, Schedule, Sequence, Tensor, Trainable, Trained, Training,
    TrainingOptions, Variant,
};
use aehost_formats::Checkpoint;
use aehost_graph::{Node, Slot, Spec, ValueId};
use aehost_plugins::Catalog;
use std::collections::HashMap;
use std::sync::Arc;

/// How far a number may be off, as a share of the largest of its weight.
const TOLERANCE: f32 = 1e-4;

/// Puts peft's adapters beside the linear maps of the layers: `y + scale up (down x)`, with magnitudes where they have some.
fn adapted(variant: &mut Variant, adapters: &HashMap<String, Tensor>, scale: f64) -> Vec<Trainable> {
    let modules = [
        ("query", "self_attn.q_proj"),
        ("key", "self_attn.k_proj"),
        ("value", "self_attn.v_proj"),
        ("output", "self_attn.o_proj"),
        ("gate", "mlp.gate_proj"),
        ("up", "mlp.up_proj"),
        ("down", "mlp.down_proj"),
    ];
    let nodes: Vec<Node> = variant.graph().all_nodes().filter(|n| n.spec.op == "linear").cloned().collect();
    let mut trained = vec![];
    for node in nodes {
        let module = modules.iter().find(|(role, _)| *role == node.spec.role).map(|(_, module)| module);
        let (Some(module), Some(layer)) = (module, node.spec.layer) else { continue };
        let [a, b] =
            ["A", "B"].map(|part| format!("base_model.model.model.layers.{layer}.{module}.lora_{part}.weight"));
        if !adapters.contains_key(&a) {
            continue;
        }
        for name in [&a, &b] {
            variant.put_weight(name, &adapters[name], FloatType::F32).unwrap();
            trained.push(Trainable { weight: name.clone(), rate: 1.0 });
        }
        let magnitude = a.replace("lora_A.weight", "lora_magnitude_vector");
        if let Some(value) = adapters.get(&magnitude) {
            variant.put_weight(&magnitude, value, FloatType::F32).unwrap();
            trained.push(Trainable { weight: magnitude.clone(), rate: 1.0 });
        }
        let mut add = |part: &str, op: &str, inputs: &[ValueId], attributes: Settings, weights: &[(&str, &str)]| {
            let weights = weights.iter().map(|(slot, weight)| Slot { name: (*slot).into(), weight: (*weight).into() });
            let spec = Spec {
                function: "decode".into(),
                name: format!("{}.{part}", node.spec.name),
                role: "adapter".into(),
                layer: Some(layer),
                op: op.into(),
                attributes,
                inputs: inputs.to_vec(),
                weights: weights.collect(),
            };
            variant.graph_mut().insert(spec).unwrap().clone()
        };
        let none = Settings::default;
        let down = add("a", "linear", &[node.spec.inputs[0]], none(), &[("weight", &a)]).outputs[0];
        let up = add("b", "linear", &[down], none(), &[("weight", &b)]).outputs[0];
        let scaled = add("scale", "scale", &[up], none().with("factor", scale), &[]).outputs[0];
        let sum = add("sum", "add", &[node.outputs[0], scaled], none(), &[]);
        let mut adapted = sum.outputs[0];
        if adapters.contains_key(&magnitude) {
            let weight = node.spec.weight("weight").unwrap();
            let slots = [("weight", weight), ("down", &a), ("up", &b)];
            let norms = add("norms", "inverse-norms", &[], none().with("scale", scale), &slots).outputs[0];
            let magnitude = add("magnitude", "parameter", &[], none(), &[("weight", &magnitude)]).outputs[0];
            let rows = add("rows", "mul", &[norms, magnitude], none(), &[]).outputs[0];
            adapted = add("multiplied", "mul", &[adapted, rows], none(), &[]).outputs[0];
        }
        variant.graph_mut().replace_uses(node.outputs[0], adapted, &[sum.id]).unwrap();
    }
    trained
}

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
            options: &TrainingOptions { sequence_tokens: tokens.len() - 1, ..TrainingOptions::default() },
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

#[test]
fn lora_follows_peft() {
    follows_peft("lora");
}

#[test]
fn dora_follows_peft() {
    follows_peft("dora");
}

/// All of the default model, with adapters beside some of its matrices.
#[test]
fn lora_of_the_default_model_follows_peft() {
    let Some(path) = fetched() else { return };
    let file = root().join("tests/fixtures/gradients/smollm2/reference.safetensors");
    let reference = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let initial =
        reference.iter().filter_map(|(name, value)| Some((name.strip_prefix("initial.")?.to_owned(), value.clone())));
    let adapters: HashMap<String, Tensor> = initial.collect();
    let checkpoint = Arc::new(Checkpoint::open(&path).unwrap());
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F32));
    catalog.family_for(checkpoint.architecture().unwrap()).unwrap().build(&checkpoint, &mut variant).unwrap();
    let trainable = adapted(&mut variant, &adapters, 2.0);
    assert_eq!(trainable.len(), adapters.len());
    let training = Training {
        variant: &variant,
        teacher: &variant,
        trainable: &trainable,
        examples: &examples_of(&reference),
        held_out: &[],
        options: &as_peft_did(1e-3),
        threads: 2,
        memory: u64::MAX,
    };
    let (loss, gradients) = training.gradients().unwrap();
    let expected = reference["loss"].to_scalar::<f32>().unwrap();
    assert!((loss as f32 / expected - 1.0).abs() < 1e-3, "{loss} is not {expected}");
    for (name, gradient) in &gradients {
        close(name, gradient, &reference[&format!("gradient.{name}")], 1e-3);
    }
    let trained = training.run(&mut |_| Ok(())).unwrap();
    close("the curve", &losses(&trained), &reference["losses"], 1e-2);
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// To a share of the largest number.
fn close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    let (found, expected) = (numbers(found), numbers(expected));
    let largest = expected.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    let gap = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest;
    println!("{what} is off by {gap:.1e}");
    assert!(found.len() == expected.len() && gap < tolerance, "{what} is off by {gap}");
}

fn losses(trained: &Trained) -> Tensor {
    let losses: Vec<f32> = trained.curve.points.iter().map(|point| point.loss as f32).collect();
    Tensor::new(losses, &Device::Cpu).unwrap()
}

fn examples_of(reference: &HashMap<String, Tensor>) -> Vec<Example> {
    let rows: Vec<Vec<i64>> = reference["tokens"].to_vec2().unwrap();
    let tokens = |row: &Vec<i64>| row.iter().map(|token| *token as u32).collect();
    rows.iter().map(|row| Example { tokens: tokens(row), answer: 1 }).collect()
}

fn as_peft_did(learning_rate: f64) -> TrainingOptions {
    TrainingOptions {
        steps: 20,
        sequence_tokens: 64,
        learning_rate,
        schedule: Schedule::Constant,
        warm_up: 0,
        weight_decay: 0.01,
        ..TrainingOptions::default()
    }
}

fn follows_peft(name: &str) {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let folder = root().join("tests/fixtures/gradients").join(name);
    let load = |name: &str| candle_core::safetensors::load(folder.join(name), &Device::Cpu).unwrap();
    let (adapters, reference) = (load("adapter_model.safetensors"), load("reference.safetensors"));
    let base = built_by(&catalog, &root().join("tests/fixtures/families/llama-grouped"));
    let mut variant = base.clone();
    let trainable = adapted(&mut variant, &adapters, 2.0);
    assert_eq!(trainable.len(), adapters.len());
    let examples = examples_of(&reference);
    let run = |checkpointing: bool, objective: Objective| {
        let options = TrainingOptions { objective, checkpointing, ..as_peft_did(1e-2) };
        let training = Training {
            variant: &variant,
            teacher: &base,
            trainable: &trainable,
            examples: &examples,
            held_out: &[],
            options: &options,
            threads: 2,
            memory: u64::MAX,
        };
        (training.gradients().unwrap(), training.run(&mut |_| Ok(())).unwrap())
    };
    let ((loss, gradients), trained) = run(false, Objective::CrossEntropy);
    assert!((loss as f32 - reference["loss"].to_scalar::<f32>().unwrap()).abs() < 1e-5);
    for (name, gradient) in &gradients {
        close(name, gradient, &reference[&format!("gradient.{name}")], 1e-4);
    }
    close("the curve", &losses(&trained), &reference["losses"], 1e-4);
    // Values that are computed again are the same.
    let ((_, again), recomputed) = run(true, Objective::CrossEntropy);
    for ((name, gradient), (_, other)) in gradients.iter().zip(&again) {
        assert_eq!(numbers(gradient), numbers(other), "{name}");
    }
    assert_eq!(recomputed.curve.points, trained.curve.points);

    if let Some(expected) = reference.get("hidden.loss") {
        for checkpointing in [false, true] {
            let ((loss, gradients), trained) = run(checkpointing, Objective::HiddenStates);
            assert!((loss as f32 / expected.to_scalar::<f32>().unwrap() - 1.0).abs() < 1e-5, "{loss}");
            for (name, gradient) in &gradients {
                close(name, gradient, &reference[&format!("hidden.gradient.{name}")], 1e-4);
            }
            let points = trained.curve.points;
            assert!(points[19].loss < 0.3 * points[0].loss, "{points:?}");
        }
    }

    for (name, value) in &trained.weights {
        close(name, value, &reference[&format!("final.{name}")], 1e-3);
        variant.put_weight(name, value, FloatType::F32).unwrap();
    }
    let model = Model::new(&variant, &Device::Cpu, 2).unwrap();
    let tokens = &examples[0].tokens;
    let part = Sequence { tokens, branches: None, cache: &mut model.cache(), rows: Rows::All };
    let logits = model.forward(&mut [part]).unwrap();
    // Keys and values are kept as float16 when it runs.
    close("a logit", &logits, &reference["logits"], 1e-3);
}

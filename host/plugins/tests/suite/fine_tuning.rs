//! Techniques that train, on a small random model and a text that can be learned: the loss falls, what they leave behind is what
//! they say, and training that was interrupted or done before is not done again.

use crate::support::{built_by, built_ins, fetched, model, options, root};
use aehost_common::{Code, Point, Settings};
use aehost_engine::{
    Device, EngineError, Model, Rows, Sequence, Tensor, Trainable, Trainer, TrainingData, TrainingOptions, Variant,
};
use aehost_plugins::{Catalog, Limits, Surroundings};
use aehost_study::{Choice, Space, TechniqueSpace};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A text with a rule: each token is the one before and 7 more, of sixteen.
fn text() -> Vec<u32> {
    (0..4000u32).map(|i| i * 7 % 16).collect()
}

fn data() -> TrainingData {
    TrainingData { text: text(), pairs: vec![], held_out: 10 }
}

fn trainer(base: &Variant, data: TrainingData) -> Trainer {
    Trainer::new(base.clone(), 2, || u64::MAX, Box::new(move || Ok(data.clone())))
}

struct Bench {
    catalog: Catalog,
    base: Variant,
    surroundings: Surroundings,
    space: Space,
}

impl Bench {
    fn new(data: TrainingData) -> Self {
        Self::of(model(), data)
    }

    fn of(base: Variant, data: TrainingData) -> Self {
        let mut options = options();
        options.limits = Limits::default();
        let catalog = Catalog::load(&[built_ins()], &options).unwrap();
        let facts = Settings::default().with("training.data", "a text with a rule");
        let spaces = catalog.techniques().filter_map(|technique| {
            let parameters = technique.parameters(&base, &facts).ok()?;
            Some(TechniqueSpace { description: technique.description().clone(), parameters })
        });
        let space = Space::new(&spaces.collect::<Vec<_>>()).unwrap();
        let trainer = Some(Arc::new(trainer(&base, data)));
        Self { base, catalog, space, surroundings: Surroundings { trainer, facts, ..Surroundings::default() } }
    }

    fn apply(&self, words: &str) -> Result<Variant, aehost_common::Fault> {
        let choices = words.split(" + ").map(|choice| self.space.parse(choice).unwrap()).collect();
        let configuration = self.space.complete(&aehost_study::Configuration(choices)).unwrap();
        let mut variant = self.base.clone();
        for Choice { technique, settings } in &configuration.0 {
            self.catalog.technique(technique).unwrap().apply(&mut variant, &self.surroundings, settings)?;
        }
        Ok(variant)
    }

    fn adapters(&self, variant: &Variant) -> usize {
        variant.graph().all_nodes().filter(|node| node.spec.role == "adapter").count()
    }
}

/// Mean cross-entropy on the text, in nats a token.
fn loss(variant: &Variant) -> f32 {
    let model = Model::new(variant, &Device::Cpu, 2).unwrap();
    let text = text();
    let tokens = &text[..65];
    let part = Sequence { tokens: &tokens[..64], branches: None, cache: &mut model.cache(), rows: Rows::All };
    let logits: Vec<Vec<f32>> = model.forward(&mut [part]).unwrap().to_vec2().unwrap();
    let of = |(row, target): (&Vec<f32>, &u32)| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        top + row.iter().map(|x| (x - top).exp()).sum::<f32>().ln() - row[*target as usize]
    };
    logits.iter().zip(&tokens[1..]).map(of).sum::<f32>() / 64.0
}

const QUICK: &str = "batch=2,sequence-tokens=64,learning-rate=0.01";

#[test]
fn the_loss_falls_and_only_what_stays_apart_is_left_in_the_graph() {
    let bench = Bench::new(data());
    let before = loss(&bench.base);
    // What is left of the loss, and whether adapters stay.
    for (words, share, stays) in [
        (format!("lora:steps=100,{QUICK}"), 0.8, false),
        (format!("lora:steps=100,merge=off,{QUICK}"), 0.8, true),
        (format!("lora:steps=100,initial=principal,scaling=root-of-rank,up-rate=4,{QUICK}"), 0.8, false),
        (format!("lora:steps=100,targets=attention,{QUICK}"), 0.88, false),
        (format!("lora:steps=100,magnitude=on,dropout=0.1,{QUICK}"), 0.8, false),
        (format!("lora:steps=100,magnitude=on,merge=off,{QUICK}"), 0.8, true),
        (format!("qlora:steps=100,{QUICK}"), 0.8, true),
        (format!("qlora:steps=100,codes=affine,bits=3,initial=zero,{QUICK}"), 0.8, true),
        (format!("full-tuning:steps=100,layers=1,{QUICK}"), 0.8, false),
        ("ia3:steps=100,batch=2,sequence-tokens=64,learning-rate=0.1".to_owned(), 0.93, false),
    ] {
        let variant = bench.apply(&words).unwrap_or_else(|fault| panic!("{words}: {}", fault.full()));
        let after = loss(&variant);
        println!("{words}: {before:.3} to {after:.3}");
        assert!(after < share * before, "{words}: {before} fell only to {after}");
        assert_eq!(bench.adapters(&variant) > 0, stays, "{words}");
        let curves = bench.surroundings.trainer.as_ref().unwrap().take_curves();
        let points = &curves[0].points;
        assert!(curves.len() == 1 && points.last().unwrap().loss < points[0].loss, "{words}");
        assert!(points.last().unwrap().held_out.is_some(), "{words}: the end is looked at");
        if !stays {
            assert_eq!(variant.graph().all_nodes().count(), bench.base.graph().all_nodes().count(), "{words}");
        }
    }
}

#[test]
fn distillation_restores_what_pruning_lost() {
    let bench = Bench::new(data());
    let tokens: Vec<u32> = text()[..64].to_vec();
    let logits = |variant: &Variant| {
        let model = Model::new(variant, &Device::Cpu, 2).unwrap();
        let part = Sequence { tokens: &tokens, branches: None, cache: &mut model.cache(), rows: Rows::All };
        model.forward(&mut [part]).unwrap().to_vec2::<f32>().unwrap()
    };
    let base = logits(&bench.base);
    let divergence = |variant: &Variant| -> f32 {
        let shares = |row: &[f32]| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = row.iter().map(|x| (x - top).exp()).sum();
            row.iter().map(|x| (x - top).exp() / sum).collect::<Vec<f32>>()
        };
        let pairs = base.iter().zip(logits(variant)).map(|(p, q)| (shares(p), shares(&q)));
        pairs.map(|(p, q)| p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f32>()).sum::<f32>() / 64.0
    };
    let rounded = divergence(&bench.apply("round-to-nearest:bits=2,embedding=keep").unwrap());
    let words = "qlora:codes=affine,bits=2,embedding=keep,rank=8,steps=100";
    let quick = "batch=2,sequence-tokens=64,learning-rate=0.003";
    for objective in ["distillation", "hidden-states"] {
        let restored = divergence(&bench.apply(&format!("{words},objective={objective},{quick}")).unwrap());
        println!("{objective}: {rounded} to {restored}");
        assert!(restored < 0.5 * rounded, "{objective}: {restored} of {rounded} is left");
    }
}

#[test]
fn an_adapter_in_its_matrix_is_the_same_as_beside_it() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    // Of matrices without and with a bias.
    for family in ["llama-grouped", "qwen2"] {
        let base = built_by(&catalog, &root().join("tests/fixtures/families").join(family));
        let text: Vec<u32> = text().into_iter().map(|token| token % 61).collect();
        let bench = Bench::of(base, TrainingData { text, ..data() });
        for magnitude in ["off", "on"] {
            let words = format!("lora:rank=4,steps=20,magnitude={magnitude},dropout=0.2,{QUICK}");
            let merged = bench.apply(&words).unwrap();
            let apart = bench.apply(&format!("{words},merge=off")).unwrap();
            let (merged, apart) = (loss(&merged), loss(&apart));
            // A merged matrix is of float16.
            assert!((merged - apart).abs() < 2e-3 && merged < loss(&bench.base), "{family}: {merged}, {apart}");
            let apart = bench.apply(&format!("{words},merge=off")).unwrap();
            let ops: BTreeSet<&str> = apart.graph().all_nodes().map(|node| node.spec.op.as_str()).collect();
            assert!(!ops.contains("dropout") && !ops.contains("inverse-norms"), "{ops:?}");
        }
    }
}

#[test]
fn adapters_are_written_as_peft_writes_them() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let base = built_by(&catalog, &root().join("tests/fixtures/families/llama-grouped"));
    let text: Vec<u32> = text().into_iter().map(|token| token % 61).collect();
    let bench = Bench::of(base, TrainingData { text, ..data() });
    let folder = tempfile::tempdir().unwrap();
    let load = |folder: &Path| {
        let path = folder.join("adapter_model.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        tensors.into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect::<BTreeMap<_, _>>()
    };
    let config = |folder: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
    };
    for (fixture, magnitude) in [("lora", "off"), ("dora", "on")] {
        let words = format!("lora:rank=4,alpha=8,steps=2,merge=off,magnitude={magnitude},{QUICK}");
        let variant = bench.apply(&words).unwrap();
        assert_eq!(variant.save_adapters(folder.path()).unwrap(), 14);
        let fixture = root().join("tests/fixtures/gradients").join(fixture);
        assert_eq!(load(folder.path()), load(&fixture));
        let (written, expected) = (config(folder.path()), config(&fixture));
        let keys =
            ["peft_type", "task_type", "r", "target_modules", "bias", "fan_in_fan_out", "use_rslora", "use_dora"];
        for key in keys {
            assert_eq!(written[key], expected[key], "{key}");
        }
        assert_eq!(written["lora_alpha"].as_f64(), expected["lora_alpha"].as_f64());
    }

    for (words, why) in
        [("lora:steps=2", "no adapters"), ("lora:initial=principal,steps=2,merge=off", "no longer the checkpoint's")]
    {
        let variant = bench.apply(&format!("{words},{QUICK}")).unwrap();
        let refused = variant.save_adapters(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(why), "{words}: {refused}");
    }
}

/// Adapters of the default model's attention, the rows of which stand in another order in its GGUF file than in peft.
#[test]
fn a_saved_adapter_gives_the_same_logits_in_peft() {
    let Some(path) = fetched() else { return };
    let fixtures = root().join("tests/fixtures/gradients");
    let load = |file: &str| candle_core::safetensors::load(fixtures.join(file), &Device::Cpu).unwrap();
    let tokens: Vec<i64> = load("smollm2/reference.safetensors")["tokens"].flatten_all().unwrap().to_vec1().unwrap();
    let tokens: Vec<u32> = tokens.into_iter().map(|token| token as u32).collect();
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let bench =
        Bench::of(built_by(&catalog, &path), TrainingData { text: tokens.repeat(8), pairs: vec![], held_out: 0 });
    let words = "lora:rank=1,targets=attention,steps=4,batch=1,sequence-tokens=64,learning-rate=0.003,merge=off";
    let adapted = bench.apply(words).unwrap();
    if std::env::var_os("AEHOST_UPDATE_SNAPSHOTS").is_some() {
        adapted.save_adapters(&fixtures.join("saved")).unwrap();
        panic!("the adapter is written anew: have peft read it, as the README of {} says", fixtures.display());
    }

    let gap = |found: &Tensor, expected: &Tensor| {
        let [found, expected] = [found, expected].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
    };
    let folder = tempfile::tempdir().unwrap();
    adapted.save_adapters(folder.path()).unwrap();
    let known = load("saved/adapter_model.safetensors");
    let written =
        candle_core::safetensors::load(folder.path().join("adapter_model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(written.len(), known.len());
    // Training on another processor rounds elsewhere.
    let worst = known.iter().map(|(name, tensor)| gap(&written[name], tensor)).fold(0f32, f32::max);
    assert!(worst < 0.05, "what is saved is off by {worst}");

    let expected = load("saved/reference.safetensors").remove("logits").unwrap();
    let off = |variant: &Variant| {
        let model = Model::new(variant, &Device::Cpu, 2).unwrap();
        let part = Sequence { tokens: &tokens, branches: None, cache: &mut model.cache(), rows: Rows::Last };
        gap(&model.forward(&mut [part]).unwrap(), &expected)
    };
    let (after, before) = (off(&adapted), off(&bench.base));
    println!("what is saved is off by {worst:.1e}, logits by {after:.1e} with the adapter, by {before:.1e} without");
    assert!(after < 1e-3 && before > 0.1, "{after}, {before}");
}

fn points(trainer: &Trainer, variant: &mut Variant, stop: Option<usize>) -> Result<Vec<Point>, EngineError> {
    let trainable: Vec<Trainable> = variant
        .graph()
        .used_weights()
        .into_iter()
        .filter(|name| name.contains("query"))
        .map(|name| Trainable { weight: name.to_owned(), rate: 1.0 })
        .collect();
    let options = TrainingOptions {
        steps: 12,
        batch: 2,
        sequence_tokens: 32,
        learning_rate: 1e-2,
        evaluate_every: 3,
        ..TrainingOptions::default()
    };
    let mut see = |point: &Point, _: usize| match stop {
        Some(stop) if point.step == stop => Err(EngineError::Invalid("interrupted".into())),
        _ => Ok(()),
    };
    Ok(trainer.train(variant, &trainable, &options, &mut see)?.points)
}

fn files(folder: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| vec![]);
    entries.iter().filter(|entry| entry.path().extension().is_some_and(|e| e == ending)).count()
}

#[test]
fn interrupted_training_goes_on_where_it_was_and_equal_training_is_done_once() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let base = built_by(&catalog, &root().join("tests/fixtures/families/llama-grouped"));
    let data = || TrainingData { text: text().into_iter().map(|token| token % 61).collect(), ..data() };
    let folder = tempfile::tempdir().unwrap();
    let kept = || trainer(&base, data()).keeping_in(folder.path().to_owned());
    let mut whole = base.clone();
    let expected = points(&trainer(&base, data()), &mut whole, None).unwrap();

    let mut variant = base.clone();
    let interrupted = points(&kept(), &mut variant, Some(5)).unwrap_err();
    assert!(interrupted.to_string().contains("interrupted"));
    assert_eq!(variant.key(), base.key(), "a variant that was not trained to the end is as it was");
    assert_eq!((files(folder.path(), "training"), files(folder.path(), "trained")), (1, 0));

    let found = points(&kept(), &mut variant, None).unwrap();
    assert_eq!(found, expected);
    assert_eq!(variant.key(), whole.key());
    assert_eq!((files(folder.path(), "training"), files(folder.path(), "trained")), (0, 1));

    // It would be interrupted if it trained again.
    let mut again = base.clone();
    assert_eq!(points(&kept(), &mut again, Some(1)).unwrap(), expected);
    assert_eq!(again.key(), whole.key());

    // Other data, other training.
    let mut other = data();
    other.text.truncate(2000);
    let mut variant = base.clone();
    let trainer = trainer(&base, other).keeping_in(folder.path().to_owned());
    assert_ne!(points(&trainer, &mut variant, None).unwrap(), expected);

    // A damaged result is made again.
    for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
        std::fs::write(entry.path(), b"damaged").unwrap();
    }
    let mut variant = base.clone();
    assert_eq!(points(&kept(), &mut variant, None).unwrap(), expected);
}

#[test]
fn what_cannot_be_trained_says_why() {
    let empty = Bench::new(TrainingData::default());
    let nothing = empty.apply("lora:steps=1").err().unwrap();
    assert_eq!(nothing.code, Code::InvalidInput);
    assert!(nothing.full().contains("nothing to train on"), "{}", nothing.full());

    let base = model();
    let run = |weight: &str, options: TrainingOptions, memory: fn() -> u64, data: TrainingData| {
        let trainer = Trainer::new(base.clone(), 2, memory, Box::new(move || Ok(data.clone())));
        let trainable = [Trainable { weight: weight.to_owned(), rate: 1.0 }];
        trainer.train(&mut base.clone(), &trainable, &options, &mut |_, _| Ok(())).map(|_| ()).unwrap_err()
    };
    let weight = base.graph().used_weights().into_iter().find(|name| name.contains("query")).unwrap().to_owned();
    let default = || TrainingOptions { sequence_tokens: 64, ..TrainingOptions::default() };
    let missing = run("none", default(), || u64::MAX, data());
    assert!(matches!(missing, EngineError::NoWeight(_)), "{missing}");
    let little = run(&weight, default(), || 1 << 20, data());
    assert!(matches!(little, EngineError::OutOfMemory(_)) && little.to_string().contains("batch"), "{little}");
    let unknown = TrainingData { text: vec![1, 2, 3, 70_000], pairs: vec![], held_out: 0 };
    let unknown = run(&weight, default(), || u64::MAX, unknown).to_string();
    assert!(unknown.contains("token 70000"), "{unknown}");
    let long = TrainingOptions { sequence_tokens: 100_000, ..default() };
    let long = run(&weight, long, || u64::MAX, data()).to_string();
    assert!(long.contains("context"), "{long}");
    let steep = TrainingOptions { learning_rate: 1e38, warm_up: 0, steps: 5, sequence_tokens: 32, ..default() };
    let diverged = run(&weight.replace("attention.query", "feed-forward.up"), steep, || u64::MAX, data());
    assert!(
        matches!(diverged, EngineError::Diverged(_)) && diverged.to_string().contains("learning rate"),
        "{diverged}"
    );
}

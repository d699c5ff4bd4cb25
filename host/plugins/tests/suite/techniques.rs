//! The built-in techniques on models: each alone and every compatible pair on a small random one, and their effects on the
//! default model.

use crate::support::{self, built_ins, model, options};
use aehost_common::{Code, Settings, Stage};
use aehost_engine::{Calibration, Device, Model, Rows, Sequence, Shelf, Trainer, TrainingData, Variant};
use aehost_plugins::{Catalog, Limits, Surroundings};
use aehost_study::{Choice, Configuration, Space, TechniqueSpace};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sequences that leave something out when a cache keeps 128 tokens.
fn scenario() -> Settings {
    let lengths = Settings::default().with("scenario.prompt_tokens", 256i64).with("scenario.output_tokens", 32i64);
    lengths.with("training.data", "the text of calibration")
}

/// A model, what was said of it, and its calibration text.
struct Bench {
    catalog: Catalog,
    base: Variant,
    surroundings: Surroundings,
    space: Space,
    not_applicable: Vec<(String, String)>,
}

impl Bench {
    fn new(base: Variant, text: Vec<u32>) -> Self {
        let mut limits = options();
        limits.limits = Limits::default();
        let catalog = Catalog::load(&[built_ins()], &limits).unwrap();
        let (mut techniques, mut not_applicable) = (Vec::new(), Vec::new());
        for technique in catalog.techniques() {
            match technique.parameters(&base, &scenario()) {
                Ok(parameters) => {
                    techniques.push(TechniqueSpace { description: technique.description().clone(), parameters });
                }
                Err(fault) => {
                    assert_eq!(fault.code, Code::NotApplicable, "{}: {fault}", technique.name());
                    not_applicable.push((technique.description().identity.id.clone(), fault.message));
                }
            }
        }
        let data = TrainingData { text: text.clone(), ..TrainingData::default() };
        let trainer = Trainer::new(base.clone(), 2, || u64::MAX, Box::new(move || Ok(data.clone())));
        let calibration = Some(Arc::new(Calibration::new(text, base.clone(), Device::Cpu, 2)));
        let trainer = Some(Arc::new(trainer));
        let surroundings = Surroundings { calibration, trainer, facts: scenario(), ..Surroundings::default() };
        Self { catalog, base, surroundings, space: Space::new(&techniques).unwrap(), not_applicable }
    }

    /// The variant of a configuration, `Err` where a technique finds itself not applicable after an earlier one.
    fn apply(&self, configuration: &Configuration) -> Result<Variant, String> {
        let mut variant = self.base.clone();
        for Choice { technique, settings } in &configuration.0 {
            let plugin = self.catalog.technique(technique).unwrap();
            match plugin.apply(&mut variant, &self.surroundings, settings) {
                Ok(()) => {}
                Err(fault) if fault.code == Code::NotApplicable => return Err(fault.message),
                Err(fault) => panic!("{configuration}: {fault} {:?}", fault.causes),
            }
        }
        Ok(variant)
    }

    /// A technique with its defaults; one that trains does so only a little.
    fn tried(&self, id: &str) -> Choice {
        let technique = self.space.techniques().iter().find(|t| t.description.identity.id == id).unwrap();
        let trains = technique.description.stage == Stage::FineTuning;
        let little = if trains { ":steps=2,batch=1,sequence-tokens=64" } else { "" };
        self.space.parse(&format!("{id}{little}")).unwrap()
    }

    fn words(&self, words: &str) -> Configuration {
        let choices = words.split(" + ").map(|choice| self.space.parse(choice).unwrap()).collect();
        self.space.complete(&Configuration(choices)).unwrap()
    }
}

fn logits(variant: &Variant, tokens: &[u32]) -> Vec<f32> {
    let model = Model::new(variant, &Device::Cpu, 2).unwrap();
    let mut cache = model.cache();
    let sequence = Sequence { tokens, branches: None, cache: &mut cache, rows: Rows::All };
    model.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// What every variant must be: finite, as large as its weights, and the same after it was stored and loaded.
fn check(variant: &Variant, shelf: &mut Shelf, what: &str) {
    let tokens: Vec<u32> = (0..40).map(|i| i * 29 % 251).collect();
    let expected = logits(variant, &tokens);
    assert!(expected.iter().all(|x| x.is_finite()), "{what}: logits are not finite");
    let bytes: u64 =
        variant.graph().used_weights().iter().map(|name| variant.describe_weight(name).unwrap().bytes).sum();
    assert_eq!(variant.weight_bytes(), bytes, "{what}");
    let saved = serde_json::to_vec(&variant.save(shelf, 2).unwrap()).unwrap();
    let loaded = variant.restored(&serde_json::from_slice(&saved).unwrap(), shelf.folder()).unwrap();
    assert_eq!(loaded.weight_bytes(), bytes, "{what}: as stored");
    assert_eq!(logits(&loaded, &tokens), expected, "{what}: as stored");
}

fn tiny() -> Bench {
    // Not periodic, so that Gram matrices have full rank.
    let text = (0..512u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) % 251).collect();
    Bench::new(model(), text)
}

#[test]
fn every_technique_and_every_compatible_pair_makes_a_model_that_runs_and_can_be_stored() {
    let bench = tiny();
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::open(folder.path(), 1 << 30).unwrap();
    for (id, why) in &bench.not_applicable {
        println!("{id} does not apply to the small model: {why}");
    }
    let ids: Vec<&str> = bench.space.techniques().iter().map(|t| t.description.identity.id.as_str()).collect();
    let mut alone = Vec::new();
    for id in &ids {
        match bench.apply(&bench.space.complete(&Configuration(vec![bench.tried(id)])).unwrap()) {
            Ok(variant) => {
                check(&variant, &mut shelf, id);
                alone.push(*id);
            }
            Err(why) => panic!("{id}: said that it applies, and then: {why}"),
        }
    }
    let (mut pairs, mut later) = (0, Vec::new());
    for (i, first) in alone.iter().enumerate() {
        for second in &alone[i + 1..] {
            let choices = [first, second].map(|id| bench.tried(id));
            // What excludes one another is no pair, by declaration.
            let Ok(configuration) = bench.space.complete(&Configuration(choices.into())) else { continue };
            pairs += 1;
            match bench.apply(&configuration) {
                Ok(variant) => check(&variant, &mut shelf, &configuration.to_string()),
                Err(why) => later.push(format!("{first} + {second}: {why}")),
            }
        }
    }
    println!("{} techniques, {pairs} compatible pairs", alone.len());
    later.iter().for_each(|pair| println!("not applicable together: {pair}"));
    // Three pairs leave the second nothing that it could do on this model: a single head cannot become latent at the default
    // sizes, and networks with biases or factors no experts. All others must run, or exclude one another by declaration.
    assert!(later.len() <= 3, "{later:#?}");
}

/// A technique on the default model: at most this divergence (nats a token), this share of the weights' bytes, and seconds.
struct Effect(&'static str, f64, f64, u64);

/// Bounds are about a third above what was measured, and a GPTQ or AWQ that is no better than rounding fails.
const EFFECTS: &[Effect] = &[
    Effect("blocked-quantization", 0.006, 0.54, 10),
    Effect("round-to-nearest", 0.37, 0.34, 10),
    Effect("round-to-nearest:importance=on", 0.1, 0.34, 60),
    Effect("gptq", 0.065, 0.34, 180),
    Effect("awq", 0.1, 0.34, 120),
    Effect("hqq", 0.25, 0.34, 120),
    Effect("codebook", 0.14, 0.33, 120),
    Effect("codebook:table=nf4", 0.24, 0.33, 60),
    Effect("mixed-precision:budget=4.5", 0.08, 0.34, 120),
    Effect("round-to-nearest:importance=on,bits=3", 0.7, 0.29, 60),
    Effect("mixed-precision:budget=3.5", 0.56, 0.29, 120),
    Effect("smoothquant", 1e-4, 1.001, 60),
    Effect("rotation", 1e-4, 1.01, 60),
    Effect("sparsegpt", 1.45, 0.66, 180),
    Effect("sparsegpt:method=wanda", 2.7, 0.66, 60),
    Effect("sparsegpt:method=magnitude", 6.0, 0.66, 60),
    Effect("mixture-of-experts", 0.73, 1.01, 60),
    Effect("latent-attention", 0.2, 1.05, 60),
    Effect("grouped-query", 2.0, 0.97, 60),
    Effect("low-rank", 1.36, 0.87, 60),
    Effect("low-rank:whiten=off", 14.0, 0.87, 60),
    Effect("width-pruning", 0.15, 0.96, 60),
    Effect("slicing:directions=512", 0.4, 1.06, 60),
    Effect("depth-pruning", 0.83, 0.93, 60),
    Effect("kv-cache", 0.001, 1.0, 10),
    Effect("kv-cache:dtype=affine4", 0.004, 1.0, 10),
    Effect("kv-cache:dtype=affine2", 0.14, 1.0, 10),
    Effect("cache-eviction:policy=window,tokens=128", 0.09, 1.0, 10),
    Effect("cache-eviction:policy=accumulated,tokens=128", 0.04, 1.0, 10),
    Effect("cache-eviction:policy=latest,tokens=128", 0.045, 1.0, 10),
    Effect("sparse-attention:tokens=128", 0.05, 1.0, 10),
    Effect("qlora:steps=16,batch=1,sequence-tokens=128,objective=distillation", 0.2, 0.36, 120),
    Effect("speculative-decoding", 0.0, 1.0, 10),
    Effect("speculative-decoding:method=layer-skip", 0.0, 1.0, 10),
];

/// Where one must be better than the other: at most this share of its divergence, in as many bytes of weights or of cache.
const BETTER: &[(&str, &str, f64)] = &[
    ("gptq", "round-to-nearest", 0.7),
    ("awq", "round-to-nearest", 0.7),
    ("hqq", "round-to-nearest", 0.8),
    ("mixed-precision:budget=4.5", "round-to-nearest:importance=on", 0.95),
    ("mixed-precision:budget=3.5", "round-to-nearest:importance=on,bits=3", 0.95),
    ("qlora:steps=16,batch=1,sequence-tokens=128,objective=distillation", "codebook:table=nf4", 0.9),
    ("sparsegpt", "sparsegpt:method=wanda", 0.95),
    ("sparsegpt:method=wanda", "sparsegpt:method=magnitude", 0.95),
    ("low-rank", "low-rank:whiten=off", 0.7),
    ("cache-eviction:policy=accumulated,tokens=128", "cache-eviction:policy=window,tokens=128", 0.7),
    ("cache-eviction:policy=latest,tokens=128", "cache-eviction:policy=window,tokens=128", 0.7),
];

/// Which share of the cache's bytes is left, at most, with 4096 tokens.
const CACHES: &[(&str, f64)] = &[
    ("kv-cache", 0.54),
    ("kv-cache:dtype=affine4", 0.34),
    ("kv-cache:dtype=affine2", 0.22),
    ("cache-eviction:policy=window,tokens=128", 0.13),
    ("cache-eviction:policy=latest,tokens=128", 0.13),
    ("grouped-query", 0.34),
    ("latent-attention", 0.67),
];

/// The default model, a text to calibrate on, and another to measure on.
fn default_model() -> Option<(Variant, Vec<u32>, Calibration)> {
    let (checkpoint, base) = support::default_model()?;
    let text = std::fs::read_to_string(support::root().join("tests/fixtures/techniques/text.txt")).unwrap();
    let tokens = checkpoint.tokenizer().unwrap().encode(&text, false).unwrap();
    let (calibration, other) = tokens.split_at(tokens.len() / 2);
    let measured = Calibration::new(other.to_vec(), base.clone(), Device::Cpu, 2);
    Some((base, calibration.to_vec(), measured))
}

/// The default model has no experts, so it gets some first.
#[test]
fn a_mixture_made_of_the_default_model_gets_fewer_experts() {
    let Some((base, calibration, measured)) = default_model() else { return };
    let dense = Bench::new(base, calibration.clone());
    let mixture = dense.apply(&dense.words("mixture-of-experts")).unwrap();
    let (before, bytes) = (measured.divergence(&mixture, 512).unwrap(), mixture.weight_bytes() as f64);
    let mixture = Bench::new(mixture, calibration);
    // At most this divergence, and share of the bytes: embeddings and shared experts stay.
    for (words, divergence, share) in [
        ("expert-reduction", 1.13, 0.93),
        ("expert-reduction:experts=0.75,criterion=frequency", 1.13, 0.93),
        ("expert-reduction:experts=0.5", 2.4, 0.78),
        ("expert-reduction:experts=1,top-k=0.75", 1.0, 1.0),
    ] {
        let fewer = mixture.apply(&mixture.words(words)).unwrap();
        let (after, left) = (measured.divergence(&fewer, 512).unwrap(), fewer.weight_bytes() as f64 / bytes);
        println!("{words}: {before:.3} to {after:.3} nats a token, {left:.3} of the bytes");
        assert!(after < divergence && left <= share, "{words}: {after} nats, {left} of the bytes");
    }
}

/// Several stages or steps in one configuration: at most this divergence (nats a token), and share of the weights' bytes and of
/// the cache's.
const CHAINS: &[(&str, f64, f64, f64)] = &[
    ("rotation + gptq + kv-cache:dtype=affine4", 0.1, 0.34, 0.34),
    ("grouped-query:groups=1 + awq", 2.1, 0.33, 0.34),
    ("depth-pruning:drop=1 + latent-attention + hqq", 1.42, 0.34, 0.65),
];

#[test]
fn techniques_work_one_after_another_on_the_default_model() {
    let Some((base, calibration, measured)) = default_model() else { return };
    let bench = Bench::new(base.clone(), calibration);
    let cache = |variant: &Variant| variant.cache_bytes(1, 4096) as f64;
    for (words, divergence, bytes, caches) in CHAINS {
        let variant = bench.apply(&bench.words(words)).unwrap();
        let found = measured.divergence(&variant, 512).unwrap();
        let share = variant.weight_bytes() as f64 / base.weight_bytes() as f64;
        let left = cache(&variant) / cache(&base);
        println!("{words}: {found:.4} nats a token, {share:.3} of the bytes, {left:.3} of the cache");
        assert!(found < *divergence && share <= *bytes && left <= *caches, "{words}: {found} {share} {left}");
    }
}

#[test]
fn techniques_have_their_effects_on_the_default_model() {
    let Some((base, calibration, measured)) = default_model() else { return };
    let bench = Bench::new(base.clone(), calibration);
    let cache = |variant: &Variant| variant.cache_bytes(1, 4096) as f64 / base.cache_bytes(1, 4096) as f64;
    let (mut wrong, mut divergences) = (Vec::new(), BTreeMap::new());
    for Effect(words, divergence, bytes, seconds) in EFFECTS {
        let start = Instant::now();
        let variant = bench.apply(&bench.words(words)).unwrap();
        let took = start.elapsed();
        let found = measured.divergence(&variant, 512).unwrap();
        let share = variant.weight_bytes() as f64 / base.weight_bytes() as f64;
        println!("{words}: {found:.4} nats a token, {share:.3} of the bytes, {:.1} s", took.as_secs_f64());
        if found > *divergence || share > *bytes || took > Duration::from_secs(*seconds) {
            wrong.push(format!("{words}: {found} nats, {share} of the bytes, {took:?}"));
        }
        divergences.insert(*words, found);
        if let Some((_, most)) = CACHES.iter().find(|(of, _)| of == words) {
            let left = cache(&variant);
            println!("{words}: {left:.3} of the cache");
            if left > *most {
                wrong.push(format!("{words}: {left} of the cache"));
            }
        }
    }
    for (better, worse, share) in BETTER {
        let (found, than) = (divergences[better], divergences[worse]);
        println!("{better}: {:.2} of {worse}", found / than);
        if found > share * than {
            wrong.push(format!("{better}: {found} nats, more than {share} of the {than} of {worse}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

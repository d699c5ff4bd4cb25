//! Every family through its component, on small models with random weights, against the logits that transformers gives
//! (`tests/fixtures/families`): from safetensors and from GGUF, by both executors, in one step, token by token, and in a
//! batch of unequal lengths.

use crate::support::{built_exactly, built_ins, family_models, options};
use aehost_engine::{Device, Model, Rows, Sequence};
use aehost_plugins::Catalog;
use std::path::Path;

/// How far a logit may be off, as a share of the largest.
const TOLERANCE: f32 = 1e-4;

/// What transformers says: tokens, and their logits `[tokens, vocabulary]`.
struct Reference {
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Reference {
    fn read(folder: &Path, gguf: bool) -> Self {
        let tensors = candle_core::safetensors::load(folder.join("reference.safetensors"), &Device::Cpu).unwrap();
        // Where GGUF cannot hold all of the configuration there are logits of what it holds, and where the rope changes
        // beyond the original context those within it.
        let (tokens, logits) = match tensors.contains_key("short_logits") {
            true => ("short_tokens", "short_logits"),
            false if gguf && tensors.contains_key("logits_gguf") => ("tokens", "logits_gguf"),
            false => ("tokens", "logits"),
        };
        let tokens: Vec<i64> = tensors[tokens].to_vec1().unwrap();
        let logits = tensors[logits].flatten_all().unwrap().to_vec1().unwrap();
        Self { tokens: tokens.iter().map(|t| *t as u32).collect(), logits }
    }

    /// The largest difference from the logits of the tokens from `first` on, as a share of the largest logit.
    fn gap(&self, first: usize, found: &[f32]) -> f32 {
        let vocabulary = self.logits.len() / self.tokens.len();
        let expected = &self.logits[first * vocabulary..][..found.len()];
        let largest = self.logits.iter().fold(0f32, |m, x| m.max(x.abs()));
        expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
    }
}

fn step(model: &Model, cache: &mut aehost_engine::Cache, tokens: &[u32]) -> Vec<f32> {
    let sequence = Sequence { tokens, branches: None, cache, rows: Rows::All };
    model.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest gap over one step, steps of unequal lengths, single tokens, and a batch of unequal lengths.
fn largest_gap(model: &Model, reference: &Reference) -> [f32; 4] {
    let tokens = &reference.tokens;
    let whole = reference.gap(0, &step(model, &mut model.cache(), tokens));
    let stepped = |lengths: &[usize]| {
        let mut cache = model.cache();
        let mut at = 0;
        let gap_of = |length: &usize| {
            let found = step(model, &mut cache, &tokens[at..at + length]);
            at += length;
            reference.gap(at - length, &found)
        };
        lengths.iter().map(gap_of).fold(0.0, f32::max)
    };
    let chunks = stepped(&[5, 1, 4, tokens.len() - 10]);
    let single = stepped(&vec![1; tokens.len()]);
    let lengths = [3, tokens.len(), 1, 11];
    let mut caches: Vec<_> = lengths.iter().map(|_| model.cache()).collect();
    let mut sequences: Vec<Sequence<'_>> = lengths
        .iter()
        .zip(&mut caches)
        .map(|(length, cache)| Sequence { tokens: &tokens[..*length], branches: None, cache, rows: Rows::All })
        .collect();
    let logits: Vec<f32> = model.forward(&mut sequences).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let mut rest = &logits[..];
    let batch = lengths.iter().map(|length| {
        let (found, after) = rest.split_at(length * model.vocabulary());
        rest = after;
        reference.gap(0, found)
    });
    [whole, chunks, single, batch.fold(0.0, f32::max)]
}

#[test]
fn logits_of_every_family_equal_those_of_transformers() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let mut failures = Vec::new();
    for folder in family_models() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let files = [folder.clone(), folder.join("model.gguf")];
        for path in files.iter().filter(|path| path.exists()) {
            let reference = Reference::read(&folder, path.is_file());
            let variant = built_exactly(&catalog, path);
            let cpu = Model::new(&variant, &Device::Cpu, 2).unwrap();
            let tensors = Model::on_tensors(&variant, &Device::Cpu, 2).unwrap();
            for (executor, model) in [("plan", cpu), ("tensors", tensors)] {
                let gaps = largest_gap(&model, &reference);
                let format = if path.is_dir() { "safetensors" } else { "gguf" };
                let shown = gaps.map(|gap| format!("{gap:.1e}")).join(" ");
                let line = format!("{name:18} {format:12} {executor:8} {shown}");
                println!("{line}");
                if gaps.iter().any(|gap| gap.is_nan() || *gap > TOLERANCE) {
                    failures.push(line);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

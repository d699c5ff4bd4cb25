//! The default model through its family's component, against candle-transformers on the same numbers.

use crate::support::{built_ins, fetched, options};
use aehost_common::Setting;
use aehost_engine::{Device, FloatType, Model, Rows, Sequence, Tensor, Variant};
use aehost_formats::gguf::Writer;
use aehost_formats::{Checkpoint, Encoding};
use candle_core::quantized::gguf_file::Content;
use candle_transformers::models::quantized_llama::ModelWeights;
use std::path::Path;
use std::sync::Arc;

/// The same model with every tensor decoded to float32 by candle.
fn decoded(path: &Path, to: &Path) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut file = std::fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut writer = Writer::new();
    writer.copy_metadata(&checkpoint);
    for tensor in checkpoint.tensors() {
        let numbers = content.tensor(&mut file, &tensor.name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        let numbers: Vec<f32> = numbers.flatten_all().unwrap().to_vec1().unwrap();
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.tensor(&tensor.name, &tensor.shape, Encoding::F32, bytes).unwrap();
    }
    writer.save(to).unwrap();
}

#[test]
fn logits_of_the_default_model_equal_those_of_candle_transformers() {
    let Some(path) = fetched() else { return };
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("float32.gguf");
    decoded(&path, &plain);
    let mut file = std::fs::File::open(&plain).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut theirs = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();

    // Ours decodes the original file itself.
    let checkpoint = Arc::new(Checkpoint::open(&path).unwrap());
    let catalog = aehost_plugins::Catalog::load(&[built_ins()], &options()).unwrap();
    let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F32));
    let family = catalog.family_for(checkpoint.architecture().unwrap()).unwrap();
    family.build(&checkpoint, &mut variant).unwrap();
    // The family keeps keys and values in float16; theirs are float32.
    let caches: Vec<_> = variant.graph().all_nodes().filter(|n| n.spec.op == "cache").map(|n| n.id).collect();
    for cache in caches {
        variant.graph_mut().set_attribute(cache, Setting::new("dtype", "float32")).unwrap();
    }
    let ours = Model::new(&variant, &Device::Cpu, 2).unwrap();

    let text = "The fisherman's wife wished for a palace, and when she had it she wished to be king.";
    let tokens = checkpoint.tokenizer().unwrap().encode(text, false).unwrap();
    for length in [1, 5, tokens.len()] {
        let tokens = &tokens[..length];
        let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected: Vec<f32> = theirs.forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let mut cache = ours.cache();
        let sequence = Sequence { tokens, branches: None, cache: &mut cache, rows: Rows::Last };
        let found: Vec<f32> = ours.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let gap = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{length} tokens: logits differ by {gap:.1e} at most");
        assert!(expected.len() == found.len() && gap < 1e-3, "{length} tokens: logits differ by {gap}");
    }
}

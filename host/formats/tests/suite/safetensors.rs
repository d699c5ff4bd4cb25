//! Folders as Hugging Face lays them out.

use aehost_common::Value as Fact;
use aehost_formats::{Checkpoint, Encoding, Format, FormatError};
use std::path::Path;

/// A .safetensors file of F32 tensors.
fn weights(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let start = data.len();
        values.iter().for_each(|v| data.extend(v.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
}

/// Writes the files into a folder and opens it; errors name the folder `model`.
fn open(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<Checkpoint, String>) {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| std::fs::write(folder.path().join(name), content).unwrap());
    let checkpoint = Checkpoint::open(folder.path()).map_err(|e| message(folder.path(), e));
    (folder, checkpoint)
}

fn message(folder: &Path, error: FormatError) -> String {
    error.to_string().replace(&*folder.to_string_lossy(), "model")
}

fn refusal(files: &[(&str, &[u8])]) -> String {
    open(files).1.map(|_| ()).expect_err("damaged input must be refused")
}

const CONFIG: &[u8] = br#"{"model_type": "llama", "hidden_size": 2, "rms_norm_eps": 1e-05, "eos_token_id": [1, 2],
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "architectures": ["LlamaForCausalLM"],
    "pad_token_id": null, "mixed": [1, "a"], "tie_word_embeddings": true}"#;
const FETCH: &str = "the file is damaged or not what its name says: fetch or convert it again";

#[test]
fn config_becomes_facts_and_shards_become_tensors() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let one = weights(&[("a", &[2, 1], &[1.0, 2.0])]);
    let two = weights(&[("b", &[2], &[3.0, 4.0])]);
    let (folder, checkpoint) = open(&[
        ("config.json", CONFIG),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", &one),
        ("model-2.safetensors", &two),
        ("unrelated.safetensors", b"not named by the index, not read"),
    ]);
    let checkpoint = checkpoint.unwrap();
    assert_eq!((checkpoint.format(), checkpoint.architecture().unwrap()), (Format::Safetensors, "llama"));
    let facts: Vec<(&str, Fact)> = checkpoint.facts().iter().map(|f| (f.name.as_str(), f.value.clone())).collect();
    let expected: Vec<(&str, Fact)> = vec![
        ("model_type", "llama".into()),
        ("hidden_size", 2.into()),
        ("rms_norm_eps", 1e-5.into()),
        ("eos_token_id", Fact::Integers(vec![1, 2])),
        ("rope_scaling.rope_type", "llama3".into()),
        ("rope_scaling.factor", 8.0.into()),
        ("architectures", Fact::Texts(vec!["LlamaForCausalLM".into()])),
        ("tie_word_embeddings", true.into()),
    ];
    assert_eq!(facts, expected);
    let a = checkpoint.tensor("a").unwrap();
    assert_eq!((a.shape.as_slice(), a.encoding), ([2, 1].as_slice(), Encoding::F32));
    assert_eq!(checkpoint.bytes(a), [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    assert_eq!(checkpoint.bytes(checkpoint.tensor("b").unwrap()), [3f32.to_le_bytes(), 4f32.to_le_bytes()].concat());

    // The digest sees every byte of weights and configuration.
    let digest = checkpoint.digest().unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().digest().unwrap(), digest);
    std::fs::write(folder.path().join("model-2.safetensors"), weights(&[("b", &[2], &[3.0, 5.0])])).unwrap();
    assert_ne!(Checkpoint::open(folder.path()).unwrap().digest().unwrap(), digest);

    assert_eq!(
        message(folder.path(), checkpoint.tokenizer().unwrap_err()),
        "model: no tokenizer.json; it belongs beside the weights: download it from where they came from"
    );
}

#[test]
fn a_missing_model_type_is_named() {
    let (folder, checkpoint) = open(&[("config.json", b"{}"), ("m.safetensors", &weights(&[]))]);
    assert_eq!(
        message(folder.path(), checkpoint.unwrap().architecture().unwrap_err()),
        "model/config.json: no text `model_type`; it says which family builds the model: convert or download the checkpoint again"
    );
}

#[test]
fn a_missing_part_is_named_with_what_to_do() {
    assert_eq!(
        refusal(&[]),
        "model: no config.json; pass a .gguf file, or a folder with config.json and *.safetensors"
    );
    assert_eq!(
        refusal(&[("config.json", CONFIG), ("pytorch_model.bin", b"")]),
        "model: no *.safetensors; put the model's weights there (files in PyTorch's own format are not read)"
    );
    let index: &[u8] = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let one = weights(&[("a", &[1], &[1.0])]);
    assert_eq!(
        refusal(&[("config.json", CONFIG), ("model.safetensors.index.json", index), ("model-1.safetensors", &one)]),
        "model: no shard model-2.safetensors; model.safetensors.index.json names it: download this shard too"
    );
    assert_eq!(
        refusal(&[
            ("config.json", CONFIG),
            ("model.safetensors.index.json", index),
            ("model-1.safetensors", &one),
            ("model-2.safetensors", &weights(&[])),
        ]),
        format!(
            "model/model.safetensors.index.json: tensor `b`: promised in model-2.safetensors, which does not hold it; {FETCH}"
        )
    );
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    let index = br#"{"weight_map": {"a": "../secret.safetensors"}}"#;
    assert_eq!(
        refusal(&[("config.json", CONFIG), ("model.safetensors.index.json", index)]),
        format!(
            "model/model.safetensors.index.json: weight_map.a: \"../secret.safetensors\" is not the name of a file in the folder; {FETCH}"
        )
    );
}

#[test]
fn a_malformed_header_is_refused() {
    let with = |content: &[u8]| refusal(&[("config.json", CONFIG), ("m.safetensors", content)]);
    let error = |problem: &str| format!("model/m.safetensors: header: {problem}; {FETCH}");
    assert_eq!(with(b"abc"), error("header too small"));
    assert_eq!(with(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()), error("header too large"));
    assert_eq!(with(&[&100u64.to_le_bytes()[..], b"{}"].concat()), error("invalid header length"));
    assert_eq!(
        with(&[&2u64.to_le_bytes()[..], b"[}"].concat()),
        error("invalid JSON in header: invalid type: sequence, expected struct HashMetadata at line 1 column 0")
    );
    let mut cut = weights(&[("a", &[2], &[1.0, 2.0])]);
    cut.pop();
    assert_eq!(with(&cut), error("incomplete metadata, file not fully covered"));
}

#[test]
fn a_malformed_config_is_refused_with_its_place() {
    assert_eq!(
        refusal(&[("config.json", b"{\"a\": }")]),
        format!("model/config.json: JSON: expected value at line 1 column 7; {FETCH}")
    );
}

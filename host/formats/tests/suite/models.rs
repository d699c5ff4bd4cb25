//! The models of the catalog, where they have been fetched (`aehost model pull NAME`): their tokenizers against
//! llama.cpp's, chat template, shapes. Reference ids come from reference/tokenize.py.

use aehost_formats::{Checkpoint, Encoding, Message};
use std::io::Write;
use std::path::PathBuf;

const SMOLLM2: &str = "smollm2-135m-instruct";

/// The model, or a visible remark that the test was skipped.
fn model(name: &str) -> Option<Checkpoint> {
    let home = std::env::var_os("AEHOST_HOME").map(PathBuf::from);
    let cache = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/aehost"));
    let path = home.or_else(cache)?.join(format!("models/{name}.gguf"));
    if path.is_file() {
        return Some(Checkpoint::open(&path).unwrap());
    }
    // Written past the test harness, which would swallow it.
    let remark = format!("SKIPPED: no {}; fetch it with `aehost model pull {name}`\n", path.display());
    std::io::stderr().write_all(remark.as_bytes()).unwrap();
    None
}

#[derive(serde::Deserialize)]
struct Row {
    text: String,
    ids: Vec<u32>,
}

/// Encodes the reference's texts to its ids; decodes and streams those without special tokens back to the text.
fn compare(name: &str, reference: &str) {
    let Some(model) = model(name) else { return };
    let tokenizer = model.tokenizer().unwrap();
    let rows: Vec<Row> = serde_json::from_str(reference).unwrap();
    assert!(rows.len() >= 50);
    for row in &rows {
        assert_eq!(tokenizer.encode(&row.text, false).unwrap(), row.ids, "{:?}", row.text);
        if row.ids.iter().any(|id| tokenizer.is_special(*id)) {
            continue;
        }
        assert_eq!(tokenizer.decode(&row.ids).unwrap(), row.text);
        let mut stream = tokenizer.stream();
        let mut streamed: String = row.ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, row.text);
    }
}

#[test]
fn token_ids_of_a_byte_level_vocabulary_equal_those_of_llama_cpp() {
    compare(SMOLLM2, include_str!("reference/smollm2-tokens.json"));
}

#[test]
fn token_ids_of_a_sentence_piece_vocabulary_equal_those_of_llama_cpp() {
    compare("gemma-3-270m", include_str!("reference/gemma-3-tokens.json"));
}

#[test]
fn the_chat_template_lays_out_a_conversation() {
    let Some(model) = model(SMOLLM2) else { return };
    let tokenizer = model.tokenizer().unwrap();
    let text = tokenizer.apply_chat_template(&[Message::new("user", "Hi")], true).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), false));
    assert_eq!((tokenizer.end_tokens(), tokenizer.vocabulary()), ([0, 2].as_slice(), 49152));
}

#[test]
fn facts_shapes_and_digest_are_the_files() {
    let Some(model) = model(SMOLLM2) else { return };
    assert_eq!(model.architecture().unwrap(), "llama");
    assert_eq!(model.fact("llama.block_count"), Some(&30.into()));
    assert_eq!(model.fact("general.languages"), Some(&aehost_common::Value::Texts(vec!["en".into()])));
    assert_eq!(model.fact("tokenizer.ggml.tokens"), None);
    assert_eq!(model.tensors().len(), 272);
    let down = model.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((down.shape.as_slice(), down.encoding), ([576, 1536].as_slice(), Encoding::Q4_1));
    assert_eq!(model.bytes(down).len(), 576 * 1536 / 32 * 20);
    assert!(model.digest().unwrap().starts_with("b179c952"));
}

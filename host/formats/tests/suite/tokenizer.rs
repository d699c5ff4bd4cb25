//! Tokenizers on small vocabularies that are made here, from GGUF metadata and from a folder.

use aehost_formats::gguf::{Value, Writer};
use aehost_formats::{Checkpoint, Encoding, Message, Tokenizer};

/// The character that byte-level vocabularies write for a byte (GPT-2's table).
fn spelled(byte: u8) -> char {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return byte.into();
    }
    let rank = (0..byte).filter(|b| !plain(*b)).count() as u32;
    char::from_u32(256 + rank).unwrap()
}

/// Bytes, then `extra` tokens with their types.
fn byte_level(pre: &str, merges: &[&str], extra: &[(&str, i32)]) -> Writer<'static> {
    let mut tokens: Vec<String> = (0..=255).map(|b| spelled(b).to_string()).collect();
    let mut kinds = vec![1; 256];
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    kinds.extend(merges.iter().map(|_| 1));
    tokens.extend(extra.iter().map(|(text, _)| (*text).to_owned()));
    kinds.extend(extra.iter().map(|(_, kind)| kind));
    let mut writer = Writer::new();
    writer
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", pre)
        .set("tokenizer.ggml.merges", Value::Strings(merges.iter().map(|m| (*m).to_owned()).collect()))
        .set("tokenizer.ggml.tokens", Value::Strings(tokens))
        .set("tokenizer.ggml.token_type", Value::I32s(kinds));
    writer
}

fn tokenizer(writer: &Writer<'_>) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    writer.save(&path).unwrap();
    let opened = Checkpoint::open(&path).unwrap().tokenizer();
    opened.map_err(|e| e.to_string().replace(&*path.to_string_lossy(), "model.gguf"))
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text, false).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

#[test]
fn digits_are_split_as_the_pre_tokenizer_says() {
    let merges = ["1 2", "12 3", "3 4"];
    let split = |pre: &str| pieces(&tokenizer(&byte_level(pre, &merges, &[])).unwrap(), "1234");
    assert_eq!(split("smollm"), ["1", "2", "3", "4"]);
    assert_eq!(split("llama-bpe"), ["123", "4"]);
    assert_eq!(split("qwen2"), ["1", "2", "3", "4"]);
    assert_eq!(split("gpt-2"), ["123", "4"]);
}

#[test]
fn control_tokens_are_recognised_in_text_and_left_out_of_decoded_text() {
    let writer = byte_level("gpt-2", &[], &[("<|im_end|>", 3), ("<mark>", 4)]);
    let tokenizer = tokenizer(&writer).unwrap();
    let ids = tokenizer.encode("a<|im_end|><mark>b", false).unwrap();
    assert_eq!(ids, [u32::from(b'a'), 256, 257, u32::from(b'b')]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a<mark>b");
    assert_eq!(tokenizer.end_tokens(), [256], "a special token of that name ends a turn");
}

#[test]
fn the_file_says_which_tokens_surround_a_text() {
    let mut writer = byte_level("gpt-2", &[], &[("<s>", 3), ("</s>", 3), ("<|eot_id|>", 3)]);
    writer.set("tokenizer.ggml.bos_token_id", 256u32).set("tokenizer.ggml.eos_token_id", 257u32);
    let plain = tokenizer(&writer).unwrap();
    assert_eq!(plain.encode("a", true).unwrap(), [u32::from(b'a')]);
    assert_eq!((plain.bos(), plain.eos(), plain.adds_bos()), (Some(256), Some(257), false));
    assert_eq!(plain.end_tokens(), [257, 258]);
    writer.set("tokenizer.ggml.add_bos_token", true).set("tokenizer.ggml.add_eos_token", true);
    let both = tokenizer(&writer).unwrap();
    assert!(both.adds_bos());
    assert_eq!(both.encode("a", true).unwrap(), [256, u32::from(b'a'), 257]);
    assert_eq!(both.encode("a", false).unwrap(), [u32::from(b'a')]);
}

#[test]
fn streamed_text_leaves_at_character_boundaries() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &[], &[("<|im_end|>", 3)])).unwrap();
    let ids = tokenizer.encode("né 😀!", false).unwrap();
    assert_eq!(ids.len(), "né 😀!".len(), "one token a byte");
    let mut stream = tokenizer.stream();
    let mut streamed: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    streamed.push(stream.finish().unwrap());
    assert_eq!(streamed, ["n", "", "é", " ", "", "", "", "😀", "!", ""]);

    let mut cut = tokenizer.stream();
    let cut_pieces: Vec<String> = ids[..2].iter().map(|id| cut.push(*id).unwrap()).collect();
    assert_eq!(cut_pieces, ["n", ""]);
    assert_eq!(cut.finish().unwrap(), "\u{fffd}");
}

/// A SentencePiece vocabulary: scores decide merges, bytes are the fallback.
fn sentence_piece() -> Writer<'static> {
    let mut tokens: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into()];
    let mut kinds = vec![2, 3, 3];
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    kinds.extend(std::iter::repeat_n(6, 256));
    let mut scores = vec![0.0; tokens.len()];
    for (text, score) in
        [("▁", -9.0), ("a", -9.0), ("b", -9.0), ("ab", -1.0), ("▁a", -2.0), ("▁ab", -3.0), ("ba", -4.0)]
    {
        tokens.push(text.into());
        kinds.push(1);
        scores.push(score);
    }
    let mut writer = Writer::new();
    writer
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", Value::Strings(tokens))
        .set("tokenizer.ggml.token_type", Value::I32s(kinds))
        .set("tokenizer.ggml.scores", Value::F32s(scores))
        .set("tokenizer.ggml.bos_token_id", 1u32)
        .set("tokenizer.ggml.eos_token_id", 2u32)
        .set("tokenizer.ggml.unknown_token_id", 0u32);
    writer
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let with_prefix = tokenizer(&sentence_piece()).unwrap();
    assert_eq!(pieces(&with_prefix, "aba ab"), ["▁ab", "a", "▁ab"].map(String::from));
    assert_eq!(with_prefix.encode("a", true).unwrap()[0], 1, "this kind begins texts with bos");
    let ids = with_prefix.encode("ab é", false).unwrap();
    assert_eq!(pieces(&with_prefix, "ab é"), ["▁ab", "▁", "<0xC3>", "<0xA9>"].map(String::from));
    assert_eq!(with_prefix.decode(&ids).unwrap(), "ab é");
    let mut stream = with_prefix.stream();
    let streamed: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(streamed.concat(), "ab é", "spaces between words are kept when streamed");

    let mut writer = sentence_piece();
    writer.set("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(pieces(&tokenizer(&writer).unwrap(), "ab a"), ["ab", "▁a"].map(String::from));
}

#[test]
fn a_tokenizer_that_cannot_be_built_says_why() {
    let error = |writer: &Writer<'_>| tokenizer(writer).map(|_| ()).unwrap_err();
    assert_eq!(
        error(&byte_level("tekken", &[], &[])),
        "model.gguf: pre-tokenizer `tekken` is not supported; use the model's Hugging Face folder, which has a tokenizer.json"
    );
    let mut other = Writer::new();
    other.set("tokenizer.ggml.model", "rwkv").set("tokenizer.ggml.tokens", Value::Strings(vec!["a".into()]));
    assert_eq!(
        error(&other),
        "model.gguf: tokenizer model `rwkv` is not supported; use the model's Hugging Face folder, which has a tokenizer.json"
    );
    let fetch = "the file is damaged or not what its name says: fetch or convert it again";
    let mut outside = byte_level("gpt-2", &[], &[]);
    outside.set("tokenizer.ggml.eos_token_id", 300u32);
    assert_eq!(
        error(&outside),
        format!("model.gguf: `tokenizer.ggml.eos_token_id`: 300 is not one of the 256 tokens; {fetch}")
    );
    let mut short = byte_level("gpt-2", &[], &[]);
    short.set("tokenizer.ggml.token_type", Value::I32s(vec![1]));
    assert_eq!(
        error(&short),
        format!("model.gguf: `tokenizer.ggml.token_type`: has 1 entries for 256 tokens; {fetch}")
    );
    let mut merge = byte_level("gpt-2", &[], &[]);
    merge.set("tokenizer.ggml.merges", Value::Strings(vec!["ab".into()]));
    assert_eq!(
        error(&merge),
        format!("model.gguf: `tokenizer.ggml.merges`: \"ab\" is not two tokens with a space between; {fetch}")
    );
}

#[test]
fn a_base_model_has_no_chat_template() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &[], &[])).unwrap();
    assert!(!tokenizer.has_chat_template());
    let error = tokenizer.apply_chat_template(&[Message::new("user", "hi")], true).unwrap_err().to_string();
    let (_, error) = error.split_once(": ").unwrap();
    assert_eq!(
        error,
        "no chat template; it is a base model: send plain text instead of chat messages, or choose an instruct model"
    );
}

#[test]
fn a_folder_gives_tokenizer_special_tokens_and_chat_template() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    write("config.json", r#"{"model_type": "llama", "eos_token_id": [4, 3]}"#);
    let header = b"{}";
    std::fs::write(folder.path().join("m.safetensors"), [&2u64.to_le_bytes()[..], header].concat()).unwrap();
    write(
        "tokenizer.json",
        r#"{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [
            {"id": 2, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 3, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}},
        "decoder": null, "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "<s>": 2, "</s>": 3, "c": 4}, "unk_token": "a"}}"#,
    );
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>",
        "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}]}"#,
    );
    let tokenizer = Checkpoint::open(folder.path()).unwrap().tokenizer().unwrap();
    assert_eq!(tokenizer.encode("b c", true).unwrap(), [2, 1, 4]);
    assert_eq!(tokenizer.encode("b c", false).unwrap(), [1, 4]);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(2), Some(3), true));
    assert_eq!(tokenizer.end_tokens(), [3, 4]);
    let chat = tokenizer.apply_chat_template(&[Message::new("user", "b")], true).unwrap();
    assert_eq!(chat, "<s>b</s>");
    write("chat_template.jinja", "{{ messages[0].role }}");
    let tokenizer = Checkpoint::open(folder.path()).unwrap().tokenizer().unwrap();
    assert_eq!(tokenizer.apply_chat_template(&[Message::new("user", "b")], true).unwrap(), "user");
}

#[test]
fn a_tokenizer_survives_a_round_trip_through_the_writer() {
    let writer = byte_level("smollm", &["h e", "he l"], &[("<|endoftext|>", 3)]);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    writer.save(&first).unwrap();
    let checkpoint = Checkpoint::open(&first).unwrap();
    let mut copy = Writer::new();
    copy.copy_metadata(&checkpoint);
    copy.tensor("w", &[1], Encoding::F32, vec![0; 4]).unwrap();
    copy.save(&second).unwrap();
    let text = "hello<|endoftext|>";
    let tokens =
        |path: &std::path::Path| Checkpoint::open(path).unwrap().tokenizer().unwrap().encode(text, true).unwrap();
    assert_eq!(tokens(&first), tokens(&second));
}

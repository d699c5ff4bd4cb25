//! GGUF: what is written is read back, and what is damaged is refused in words.

use aehost_common::Value as Fact;
use aehost_formats::gguf::{Value, Writer};
use aehost_formats::{Checkpoint, Encoding, Format};

/// Opens bytes as a GGUF file named `model.gguf`; errors name just that.
fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path).map_err(|e| e.to_string().replace(&*path.to_string_lossy(), "model.gguf"))
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).map(|_| ()).expect_err("damaged input must be refused")
}

/// A small file: one text, one number, one F32 tensor [2, 3] and one Q8_0 tensor [1, 32].
fn small() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").set("llama.block_count", 2u32);
    writer.tensor("plain", &[2, 3], Encoding::F32, vec![1; 24]).unwrap();
    writer.tensor("blocked", &[1, 32], Encoding::Q8_0, vec![2; 34]).unwrap();
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    bytes
}

/// Header fields by hand: magic, version, tensor count, metadata count.
fn head(version: u32, tensors: u64, metadata: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(metadata.to_le_bytes());
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A file with one tensor `w`, described by hand and followed by 64 bytes of data.
fn one_tensor(dimensions: &[u64], encoding: u32, offset: u64) -> Vec<u8> {
    let mut bytes = head(3, 1, 0);
    text(&mut bytes, "w");
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
    bytes.extend(encoding.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
    bytes
}

const FETCH: &str = "the file is damaged or not what its name says: fetch or convert it again";

#[test]
fn what_the_writer_wrote_is_read_back() {
    let mut writer = Writer::new();
    writer
        .set("general.architecture", "llama")
        .set("general.alignment", 32u32)
        .set("a.u64", Value::U64(u64::MAX))
        .set("a.i8", Value::I8(-3))
        .set("a.flag", true)
        .set("a.real", 0.5f32)
        .set("a.not-finite", f32::NAN)
        .set("a.f64", Value::F64(-2.25))
        .set("a.i32s", Value::I32s(vec![1, -2]))
        .set("a.reals", Value::F32s(vec![0.5, 1.5]))
        .set("a.flags", Value::Bools(vec![true, false]))
        .set("a.texts", Value::Strings(vec!["x".into(), "".into(), "é".into()]))
        .set("tokenizer.ggml.tokens", Value::Strings(vec!["t".into(); 2000]))
        .set("a.real", 0.25f32);
    let plain: Vec<u8> = (0..24).collect();
    let blocked: Vec<u8> = (0..68).collect();
    writer.tensor("plain", &[2, 3], Encoding::F32, plain.as_slice()).unwrap();
    writer.tensor("blocked", &[2, 32], Encoding::Q8_0, blocked.as_slice()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    writer.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();

    assert_eq!((checkpoint.format(), checkpoint.architecture().unwrap()), (Format::Gguf, "llama"));
    let facts: Vec<(&str, Fact)> = checkpoint.facts().iter().map(|f| (f.name.as_str(), f.value.clone())).collect();
    let expected: Vec<(&str, Fact)> = vec![
        ("general.architecture", "llama".into()),
        ("general.alignment", 32.into()),
        ("a.u64", (u64::MAX as f64).into()),
        ("a.i8", (-3).into()),
        ("a.flag", true.into()),
        ("a.real", 0.25.into()),
        ("a.f64", (-2.25).into()),
        ("a.i32s", Fact::Integers(vec![1, -2])),
        ("a.reals", Fact::Reals(vec![0.5, 1.5])),
        ("a.flags", Fact::Integers(vec![1, 0])),
        ("a.texts", Fact::Texts(vec!["x".into(), "".into(), "é".into()])),
    ];
    assert_eq!(facts, expected, "long lists and numbers that are not finite are no facts");

    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["plain", "blocked"]);
    let tensor = checkpoint.tensor("blocked").unwrap();
    assert_eq!((tensor.shape.as_slice(), tensor.encoding), ([2, 32].as_slice(), Encoding::Q8_0));
    assert_eq!(checkpoint.bytes(tensor), blocked);
    assert_eq!(checkpoint.bytes(checkpoint.tensor("plain").unwrap()), plain);

    checkpoint.release_pages();
    assert_eq!(checkpoint.bytes(tensor), blocked, "released pages come back");

    // A copy of the metadata and the tensors is the same file.
    let mut copy = Writer::new();
    copy.copy_metadata(&checkpoint).set("general.alignment", 32u32);
    for tensor in checkpoint.tensors() {
        copy.tensor(&tensor.name, &tensor.shape, tensor.encoding, checkpoint.bytes(tensor)).unwrap();
    }
    let copied = folder.path().join("copy.gguf");
    copy.save(&copied).unwrap();
    let copied = Checkpoint::open(&copied).unwrap();
    let sorted = |c: &Checkpoint| {
        let mut facts: Vec<String> = c.facts().iter().map(|f| format!("{}={}", f.name, f.value)).collect();
        facts.sort();
        facts
    };
    assert_eq!(sorted(&copied), sorted(&checkpoint));
    assert_eq!(copied.bytes(copied.tensor("blocked").unwrap()), blocked);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no partial file is left");
}

#[test]
fn the_digest_is_the_sha_256_of_the_file() {
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, small()).unwrap();
    let expected: String = Sha256::digest(small()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(Checkpoint::open(&path).unwrap().digest().unwrap(), expected);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = small();
    open(&whole).unwrap();
    // The last tensor's data ends 30 bytes of padding before the file does.
    for length in 0..whole.len() - 30 {
        assert!(open(&whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn any_byte_of_the_header_may_be_wrong_without_a_panic() {
    let whole = small();
    for at in 0..whole.len() - 96 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(checkpoint) = open(&bytes) {
                checkpoint.tensors().iter().for_each(|t| assert_eq!(checkpoint.bytes(t).len(), t.size_bytes()));
                assert!(checkpoint.tokenizer().is_err());
            }
        }
    }
}

#[test]
fn a_truncated_file_is_reported_with_what_was_cut() {
    let whole = small();
    assert_eq!(
        refusal(&whole[..20]),
        "model.gguf: truncated: metadata count needs 8 bytes at offset 16, but the file has 20; fetch it again"
    );
    assert_eq!(
        refusal(&whole[..60]),
        format!("model.gguf: tensor count: 2 items cannot fit into the 36 bytes that follow; {FETCH}")
    );
    let mut text_only = Vec::new();
    Writer::new().set("general.architecture", "llama").write(&mut text_only).unwrap();
    assert_eq!(
        refusal(&text_only[..66]),
        "model.gguf: truncated: metadata `general.architecture` needs 5 bytes at offset 64, but the file has 66; fetch it again"
    );
    assert_eq!(
        refusal(&whole[..whole.len() - 40]),
        "model.gguf: truncated: tensor `blocked` needs 34 bytes at offset 256, but the file has 280; fetch it again"
    );
    assert_eq!(
        refusal(b""),
        "model.gguf: truncated: magic needs 4 bytes at offset 0, but the file has 0; fetch it again"
    );
}

#[test]
fn a_wrong_magic_is_shown() {
    assert_eq!(
        refusal(b"PK\x03\x04 is a zip file"),
        format!("model.gguf: magic: starts with \"PK\\x03\\x04\" instead of \"GGUF\"; {FETCH}")
    );
}

#[test]
fn other_versions_and_byte_orders_are_named() {
    let convert = "is not supported; convert the model to a little-endian GGUF of version 3";
    assert_eq!(refusal(&head(1, 0, 0)), format!("model.gguf: GGUF version 1 {convert}"));
    assert_eq!(refusal(&head(3u32.swap_bytes(), 0, 0)), format!("model.gguf: a big-endian GGUF {convert}"));
}

#[test]
fn a_tensor_outside_the_file_is_refused() {
    assert_eq!(
        refusal(&one_tensor(&[8], 0, 64)),
        "model.gguf: truncated: tensor `w` needs 32 bytes at offset 128, but the file has 128; fetch it again"
    );
    assert_eq!(
        refusal(&one_tensor(&[8], 0, u64::MAX - 31)),
        "model.gguf: truncated: tensor `w` needs 32 bytes at offset 18446744073709551615, but the file has 128; fetch it again"
    );
    assert_eq!(
        refusal(&one_tensor(&[8], 0, 33)),
        format!("model.gguf: tensor `w`: its offset 33 is not aligned to 32 bytes; {FETCH}")
    );
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_allocated() {
    assert_eq!(
        refusal(&head(3, u64::MAX, 0)),
        format!(
            "model.gguf: tensor count: 18446744073709551615 items cannot fit into the 0 bytes that follow; {FETCH}"
        )
    );
    assert_eq!(
        refusal(&head(3, 0, 1 << 60)),
        format!(
            "model.gguf: metadata count: 1152921504606846976 items cannot fit into the 0 bytes that follow; {FETCH}"
        )
    );
    let mut key = head(3, 0, 1);
    key.extend(u64::MAX.to_le_bytes());
    key.extend([0; 32]);
    assert_eq!(
        refusal(&key),
        "model.gguf: truncated: key of metadata value 0 needs 18446744073709551615 bytes at offset 32, but the file has 64; fetch it again"
    );
    let mut list = head(3, 0, 1);
    text(&mut list, "list");
    list.extend(9u32.to_le_bytes());
    list.extend(10u32.to_le_bytes());
    list.extend((1u64 << 61).to_le_bytes());
    assert_eq!(
        refusal(&list),
        format!(
            "model.gguf: metadata `list`: 2305843009213693952 items cannot fit into the 0 bytes that follow; {FETCH}"
        )
    );
    assert_eq!(
        refusal(&one_tensor(&[1 << 62, 8], 0, 0)),
        format!(
            "model.gguf: tensor `w`: shape [8, 4611686018427387904] is not possible in F32, whose blocks have 1 elements; {FETCH}"
        )
    );
    assert_eq!(
        refusal(&one_tensor(&[0], 0, 0)),
        format!("model.gguf: tensor `w`: shape [0] is not possible in F32, whose blocks have 1 elements; {FETCH}")
    );
    assert_eq!(
        refusal(&one_tensor(&[33, 1], 8, 0)),
        format!(
            "model.gguf: tensor `w`: shape [1, 33] is not possible in Q8_0, whose blocks have 32 elements; {FETCH}"
        )
    );
    assert_eq!(
        refusal(&one_tensor(&[1; 5], 0, 0)),
        format!("model.gguf: tensor `w`: has 5 dimensions, GGUF allows 1 to 4; {FETCH}")
    );
}

#[test]
fn what_gguf_allows_but_we_do_not_read_is_named_with_a_remedy() {
    assert_eq!(
        refusal(&one_tensor(&[256], 16, 0)),
        "model.gguf: tensor `w` of ggml type 16 is not supported; requantise the model to one of Q8_0, Q6_K, Q5_K, Q4_K, Q4_0 or F16 with `llama-quantize`"
    );
    let mut bytes = Vec::new();
    Writer::new().set("split.count", Value::U16(3)).write(&mut bytes).unwrap();
    assert_eq!(
        refusal(&bytes),
        "model.gguf: one part of a split model is not supported; join its parts with `llama-gguf-split --merge` and open the result"
    );
}

#[test]
fn doubled_names_and_bad_types_are_refused() {
    let mut bytes = head(3, 0, 2);
    for _ in 0..2 {
        text(&mut bytes, "twice");
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
    }
    assert_eq!(refusal(&bytes), format!("model.gguf: metadata `twice`: appears twice; {FETCH}"));
    let mut bytes = head(3, 0, 1);
    text(&mut bytes, "k");
    bytes.extend(13u32.to_le_bytes());
    bytes.push(0);
    assert_eq!(refusal(&bytes), format!("model.gguf: metadata `k`: value type 13 does not exist; {FETCH}"));
    let mut bytes = Vec::new();
    Writer::new().set("general.alignment", 24u32).write(&mut bytes).unwrap();
    assert_eq!(refusal(&bytes), format!("model.gguf: metadata `general.alignment`: 24 is not a power of two; {FETCH}"));
}

#[test]
fn a_missing_architecture_tensor_or_tokenizer_is_named() {
    let mut bytes = Vec::new();
    Writer::new().write(&mut bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let message = |e: aehost_formats::FormatError| e.to_string().replace(&*path.to_string_lossy(), "model.gguf");
    assert_eq!(
        message(checkpoint.architecture().unwrap_err()),
        "model.gguf: no text `general.architecture`; it says which family builds the model: convert or download the checkpoint again"
    );
    assert_eq!(
        message(checkpoint.tensor("output.weight").unwrap_err()),
        "model.gguf: no tensor `output.weight`; the checkpoint is incomplete, or of another family than its architecture says"
    );
    assert_eq!(
        message(checkpoint.tokenizer().unwrap_err()),
        "model.gguf: no `tokenizer.ggml.model`; the file has no usable tokenizer: convert the model again, with its tokenizer files beside it"
    );
}

#[test]
fn a_missing_file_is_named() {
    assert_eq!(
        Checkpoint::open("no/such/model.gguf".as_ref()).unwrap_err().to_string(),
        "no/such/model.gguf: No such file or directory (os error 2); check that it exists and may be read (or, for an output, written)"
    );
}

#[test]
fn the_writer_refuses_bytes_that_do_not_fit() {
    let mut writer = Writer::new();
    assert_eq!(
        writer.tensor("w", &[2, 2], Encoding::F32, vec![0; 15]).map(|_| ()).unwrap_err().to_string(),
        "GGUF: tensor `w` of shape [2, 2] in 15 bytes of F32 is not supported; give whole rows of whole blocks"
    );
    assert_eq!(
        writer.tensor("w", &[2], Encoding::U8, vec![0; 2]).map(|_| ()).unwrap_err().to_string(),
        "GGUF: tensor `w` in U8 is not supported; convert it to F32 or F16 first"
    );
}

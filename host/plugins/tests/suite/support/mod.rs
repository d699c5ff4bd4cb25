//! A small llama that is made here, and the components that `cargo xtask plugins` builds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_engine::{FloatType, Variant};
use aehost_formats::gguf::{Value, Writer};
use aehost_formats::{Checkpoint, Encoding};
use aehost_plugins::{Catalog, Limits, Options};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub const LAYERS: u32 = 4;
const HEAD_DIM: usize = 32;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Compiled plugins are kept for the whole test run, and the next.
pub static CACHE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("aehost-test-compiled-{}", env!("CARGO_PKG_VERSION"))));

pub fn built(folder: &str, name: &str, command: &str) -> PathBuf {
    let path = root().join(folder).join(name);
    assert!(path.exists(), "{} is missing: build it with `{command}`", path.display());
    path
}

/// A plugin of this repository.
pub fn built_in(name: &str) -> PathBuf {
    built("plugins/dist", &format!("{name}.wasm"), "cargo xtask plugins")
}

/// All plugins of this repository.
pub fn built_ins() -> PathBuf {
    built("plugins/dist", "", "cargo xtask plugins")
}

/// A component that misbehaves on purpose.
pub fn fault(name: &str) -> PathBuf {
    built("target/fault-plugins", &format!("{name}.wasm"), "cargo xtask plugins --set faults")
}

/// Small limits, so that tests end soon.
pub fn options() -> Options {
    let limits = Limits {
        call_time: Duration::from_millis(500),
        apply_time: Duration::from_secs(30),
        memory_bytes: 64 << 20,
        ..Limits::default()
    };
    Options { limits, cache: Some(CACHE.clone()), ..Options::default() }
}

pub fn single(component: &Path) -> Catalog {
    Catalog::single(component, &options()).unwrap()
}

fn numbers(count: usize, seed: &mut u32) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).flat_map(|_| (next() * 0.4).to_le_bytes()).collect()
}

/// The character that byte-level vocabularies write for a byte (GPT-2's table).
fn spelled(byte: u8) -> char {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let rank = (0..byte).filter(|b| !plain(*b)).count() as u32;
    if plain(byte) { byte.into() } else { char::from_u32(256 + rank).unwrap() }
}

/// What a made llama is like.
#[derive(Clone, Copy)]
pub struct Llama {
    /// What the file calls it.
    pub architecture: &'static str,
    pub hidden: usize,
    pub feed_forward: usize,
    /// A tensor whose first number is no number.
    pub broken: Option<&'static str>,
}

pub const LLAMA: Llama = Llama { architecture: "llama", hidden: 128, feed_forward: 256, broken: None };

/// A llama with random weights and a vocabulary of bytes.
pub fn checkpoint() -> Arc<Checkpoint> {
    checkpoint_of(LLAMA)
}

/// One that is not quite like that.
pub fn checkpoint_of(llama: Llama) -> Arc<Checkpoint> {
    let Llama { architecture, hidden, feed_forward, broken } = llama;
    let mut writer = Writer::new();
    writer
        .set("general.architecture", architecture)
        .set("llama.block_count", LAYERS)
        .set("llama.embedding_length", hidden as u32)
        .set("llama.feed_forward_length", feed_forward as u32)
        .set("llama.attention.head_count", 4u32)
        .set("llama.attention.head_count_kv", 2u32)
        .set("llama.attention.key_length", HEAD_DIM as u32)
        .set("llama.attention.value_length", HEAD_DIM as u32)
        .set("llama.rope.dimension_count", HEAD_DIM as u32)
        .set("llama.rope.freq_base", 10_000f32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .set("llama.context_length", 128u32)
        .set("llama.vocab_size", 256u32)
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "gpt-2")
        .set("tokenizer.ggml.merges", Value::Strings(vec![]))
        .set("tokenizer.ggml.tokens", Value::Strings((0..=255).map(|b| spelled(b).to_string()).collect()))
        .set("tokenizer.ggml.token_type", Value::I32s(vec![1; 256]));
    let mut seed = 1;
    let mut tensor = |name: &str, shape: &[usize]| {
        let mut bytes = numbers(shape.iter().product(), &mut seed);
        if broken == Some(name) {
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        writer.tensor(name, shape, Encoding::F32, bytes).unwrap();
    };
    tensor("token_embd.weight", &[256, hidden]);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensor(&name("attn_norm"), &[hidden]);
        tensor(&name("attn_q"), &[4 * HEAD_DIM, hidden]);
        tensor(&name("attn_k"), &[2 * HEAD_DIM, hidden]);
        tensor(&name("attn_v"), &[2 * HEAD_DIM, hidden]);
        tensor(&name("attn_output"), &[hidden, 4 * HEAD_DIM]);
        tensor(&name("ffn_norm"), &[hidden]);
        tensor(&name("ffn_gate"), &[feed_forward, hidden]);
        tensor(&name("ffn_up"), &[feed_forward, hidden]);
        tensor(&name("ffn_down"), &[hidden, feed_forward]);
    }
    tensor("output_norm.weight", &[hidden]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    writer.save(&path).unwrap();
    // The file stays mapped after its folder is gone.
    Arc::new(Checkpoint::open(&path).unwrap())
}

/// The llama as its family builds it.
pub fn model() -> Variant {
    model_of(LLAMA)
}

/// One that is not quite like that.
pub fn model_of(llama: Llama) -> Variant {
    let checkpoint = checkpoint_of(llama);
    let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F32));
    single(&built_in("family-llama")).family_for("llama").unwrap().build(&checkpoint, &mut variant).unwrap();
    variant
}

/// The folders of the small models with random weights that transformers made.
pub fn family_models() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/fixtures/families")).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> = entries.filter(|path| path.join("config.json").is_file()).collect();
    models.sort();
    assert!(models.len() > 10, "{} small models", models.len());
    models
}

/// The model as its family builds it, with keys and values in float32 as transformers keeps them.
pub fn built_exactly(catalog: &Catalog, path: &Path) -> Variant {
    let mut variant = built_by(catalog, path);
    let caches: Vec<_> = variant.graph().all_nodes().filter(|n| n.spec.op == "cache").map(|n| n.id).collect();
    for cache in caches {
        variant.graph_mut().set_attribute(cache, aehost_common::Setting::new("dtype", "float32")).unwrap();
    }
    variant
}

/// A model as its family builds it, its matrices as float32.
pub fn built_by(catalog: &Catalog, path: &Path) -> Variant {
    let checkpoint = Arc::new(Checkpoint::open(path).unwrap());
    let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F32));
    let family = catalog.family_for(checkpoint.architecture().unwrap()).unwrap();
    family.build(&checkpoint, &mut variant).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
    variant
}

const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// The file of the default model, or a visible remark that the test was skipped.
pub fn fetched() -> Option<PathBuf> {
    let home = std::env::var_os("AEHOST_HOME").map(PathBuf::from);
    let cache = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/aehost"));
    let path = home.or_else(cache)?.join(format!("models/{DEFAULT_MODEL}.gguf"));
    if path.is_file() {
        return Some(path);
    }
    // Written past the test harness, which would swallow it.
    let remark = format!("SKIPPED: no {}; fetch it with `aehost model pull {DEFAULT_MODEL}`\n", path.display());
    std::io::stderr().write_all(remark.as_bytes()).unwrap();
    None
}

/// The default model as its family builds it, its matrices as float16.
pub fn default_model() -> Option<(Arc<Checkpoint>, Variant)> {
    let checkpoint = Arc::new(Checkpoint::open(&fetched()?).unwrap());
    let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F16));
    let catalog = single(&built_in("family-llama"));
    catalog.family_for(checkpoint.architecture().unwrap()).unwrap().build(&checkpoint, &mut variant).unwrap();
    Some((checkpoint, variant))
}

//! The engine against candle-transformers' llama on the same file, and against itself: cached decoding against full
//! recomputation, packed sequences and branches against single sequences.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use aehost_common::{Setting, Settings};
use aehost_engine::{Affine, BoundTensor, Device, FloatType, Model, Representation, Rows, Sequence, Variant};
use aehost_formats::{Checkpoint, Encoding, gguf};
use aehost_graph::{Slot, Spec, ValueId, ValueType};
use candle_core::Tensor;
use candle_transformers::models::quantized_llama::ModelWeights;
use std::path::Path;
use std::sync::Arc;

const LAYERS: u32 = 3;
const HIDDEN: usize = 96;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const FEED_FORWARD: usize = 160;
const VOCABULARY: usize = 257;
const CONTEXT: u32 = 128;
const EPSILON: f32 = 1e-5;

fn numbers(count: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

/// A llama with random weights, as GGUF keeps it.
fn write_model(path: &Path) {
    let mut writer = gguf::Writer::new();
    writer
        .set("general.architecture", "llama")
        .set("llama.block_count", LAYERS)
        .set("llama.embedding_length", HIDDEN as u32)
        .set("llama.attention.head_count", HEADS as u32)
        .set("llama.attention.head_count_kv", KV_HEADS as u32)
        .set("llama.rope.dimension_count", HEAD_DIM as u32)
        .set("llama.rope.freq_base", 10_000f32)
        .set("llama.attention.layer_norm_rms_epsilon", EPSILON)
        .set("llama.context_length", CONTEXT);
    let mut seed = 0;
    let mut tensor = |name: &str, shape: &[usize], scale: f32, offset: f32| {
        seed += 1;
        let values: Vec<u8> =
            numbers(shape.iter().product(), seed, scale).iter().flat_map(|v| (v + offset).to_le_bytes()).collect();
        writer.tensor(name, shape, Encoding::F32, values).unwrap();
    };
    tensor("token_embd.weight", &[VOCABULARY, HIDDEN], 0.5, 0.0);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensor(&name("attn_norm"), &[HIDDEN], 0.2, 1.0);
        tensor(&name("attn_q"), &[HEADS * HEAD_DIM, HIDDEN], 0.3, 0.0);
        tensor(&name("attn_k"), &[KV_HEADS * HEAD_DIM, HIDDEN], 0.3, 0.0);
        tensor(&name("attn_v"), &[KV_HEADS * HEAD_DIM, HIDDEN], 0.2, 0.0);
        tensor(&name("attn_output"), &[HIDDEN, HEADS * HEAD_DIM], 0.2, 0.0);
        tensor(&name("ffn_norm"), &[HIDDEN], 0.2, 1.0);
        tensor(&name("ffn_gate"), &[FEED_FORWARD, HIDDEN], 0.2, 0.0);
        tensor(&name("ffn_up"), &[FEED_FORWARD, HIDDEN], 0.2, 0.0);
        tensor(&name("ffn_down"), &[HIDDEN, FEED_FORWARD], 0.2, 0.0);
    }
    tensor("output_norm.weight", &[HIDDEN], 0.2, 1.0);
    tensor("output.weight", &[VOCABULARY, HIDDEN], 0.3, 0.0);
    writer.save(path).unwrap();
}

/// Adds nodes one after another.
struct Builder {
    variant: Variant,
    layer: Option<u32>,
}

impl Builder {
    fn node(
        &mut self,
        name: &str,
        op: &str,
        attributes: Settings,
        inputs: &[ValueId],
        weight: Option<&str>,
    ) -> Vec<ValueId> {
        let mut weights = vec![];
        if let Some(tensor) = weight {
            let bound = format!("{name}.weight");
            self.variant.bind(&bound, vec![BoundTensor { tensor: tensor.into(), steps: vec![] }], "single").unwrap();
            weights.push(Slot { name: "weight".into(), weight: bound });
        }
        let spec = Spec {
            function: "decode".into(),
            name: name.into(),
            role: "other".into(),
            layer: self.layer,
            op: op.into(),
            attributes,
            inputs: inputs.to_vec(),
            weights,
        };
        self.variant.graph_mut().insert(spec).unwrap().outputs.clone()
    }
}

fn llama(checkpoint: &Arc<Checkpoint>, cache: &Settings) -> Variant {
    let mut b = Builder { variant: Variant::new(checkpoint.clone(), Some(FloatType::F32)), layer: None };
    let graph = b.variant.graph_mut();
    graph.add_function("decode").unwrap();
    let ids = graph.add_input("decode", "ids", ValueType::indices()).unwrap();
    let positions = graph.add_input("decode", "positions", ValueType::indices()).unwrap();
    graph.set_fact(Setting::new("context", i64::from(CONTEXT)));
    let none = Settings::default;
    let epsilon = none().with("epsilon", f64::from(EPSILON));
    let rope = none().with("head-dim", HEAD_DIM as i64).with("base", 10_000.0).with("pairing", "interleaved");
    let attention = none()
        .with("heads", HEADS as i64)
        .with("kv-heads", KV_HEADS as i64)
        .with("head-dim", HEAD_DIM as i64)
        .with("scale", 1.0 / (HEAD_DIM as f64).sqrt());
    let mut x = b.node("embedding", "embedding", none(), &[ids], Some("token_embd.weight"))[0];
    for layer in 0..LAYERS {
        b.layer = Some(layer);
        let name = |part: &str| format!("layers.{layer}.{part}");
        let file = |part: &str| format!("blk.{layer}.{part}.weight");
        let h = b.node(&name("norm"), "rms-norm", epsilon.clone(), &[x], Some(&file("attn_norm")))[0];
        let q = b.node(&name("query"), "linear", none(), &[h], Some(&file("attn_q")))[0];
        let k = b.node(&name("key"), "linear", none(), &[h], Some(&file("attn_k")))[0];
        let v = b.node(&name("value"), "linear", none(), &[h], Some(&file("attn_v")))[0];
        let q = b.node(&name("rope-query"), "rope", rope.clone(), &[q, positions], None)[0];
        let k = b.node(&name("rope-key"), "rope", rope.clone(), &[k, positions], None)[0];
        let kept = b.node(&name("cache"), "cache", cache.clone(), &[k, v, positions], None);
        let a = b.node(
            &name("attention"),
            "attention",
            attention.clone(),
            &[q, kept[0], kept[1], positions, kept[2]],
            None,
        )[0];
        let o = b.node(&name("output"), "linear", none(), &[a], Some(&file("attn_output")))[0];
        x = b.node(&name("residual"), "add", none(), &[x, o], None)[0];
        let h = b.node(&name("norm2"), "rms-norm", epsilon.clone(), &[x], Some(&file("ffn_norm")))[0];
        let g = b.node(&name("gate"), "linear", none(), &[h], Some(&file("ffn_gate")))[0];
        let u = b.node(&name("up"), "linear", none(), &[h], Some(&file("ffn_up")))[0];
        let g = b.node(&name("activation"), "silu", none(), &[g], None)[0];
        let p = b.node(&name("product"), "mul", none(), &[g, u], None)[0];
        let d = b.node(&name("down"), "linear", none(), &[p], Some(&file("ffn_down")))[0];
        x = b.node(&name("residual2"), "add", none(), &[x, d], None)[0];
    }
    b.layer = None;
    let h = b.node("norm", "rms-norm", epsilon, &[x], Some("output_norm.weight"))[0];
    let logits = b.node("head", "linear", none(), &[h], Some("output.weight"))[0];
    b.variant.graph_mut().set_output("decode", "logits", logits).unwrap();
    b.variant.check().unwrap();
    b.variant
}

fn cache(dtype: &str, window: i64, sinks: i64) -> Settings {
    let dim = Setting::new("head-dim", HEAD_DIM as i64);
    let rest = [Setting::new("dtype", dtype), Setting::new("window", window), Setting::new("sinks", sinks), dim];
    Settings(rest.to_vec())
}

struct Fixture {
    _folder: tempfile::TempDir,
    checkpoint: Arc<Checkpoint>,
    path: std::path::PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_model(&path);
    Fixture { checkpoint: Arc::new(Checkpoint::open(&path).unwrap()), path, _folder: folder }
}

fn model(fixture: &Fixture, cache: &Settings) -> Model {
    Model::new(&llama(&fixture.checkpoint, cache), &Device::Cpu, 2).unwrap()
}

fn tokens(count: usize, seed: u64) -> Vec<u32> {
    numbers(count, seed, 1.0).iter().map(|v| ((v + 1.0) * 0.5 * VOCABULARY as f32) as u32 % VOCABULARY as u32).collect()
}

fn all_logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut cache = model.cache();
    model
        .forward(&mut [Sequence { tokens, branches: None, cache: &mut cache, rows: Rows::All }])
        .unwrap()
        .to_vec2()
        .unwrap()
}

fn largest_gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_equal_those_of_candle_transformers() {
    let fixture = fixture();
    let ours = model(&fixture, &cache("float32", 0, 0));
    let mut file = std::fs::File::open(&fixture.path).unwrap();
    let content = candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
    let mut theirs = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    for length in [1, 2, 7, 40] {
        let tokens = tokens(length, 5);
        let input = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected: Vec<f32> = theirs.forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let found = all_logits(&ours, &tokens).pop().unwrap();
        let gap = largest_gap(&expected, &found);
        assert!(gap < 1e-3, "{length} tokens: logits differ by {gap}");
    }
}

#[test]
fn cached_decoding_equals_full_recomputation() {
    let fixture = fixture();
    // A half-precision cache rounds keys and values that differ in their last bits to different neighbours.
    for (dtype, window, sinks, tolerance) in
        [("float32", 0, 0, 1e-4), ("float16", 0, 0, 5e-3), ("float32", 9, 2, 1e-4), ("float16", 9, 0, 5e-3)]
    {
        let model = model(&fixture, &cache(dtype, window, sinks));
        let tokens = tokens(100, 9);
        let full = all_logits(&model, &tokens);
        let mut kept = model.cache();
        for (i, chunk) in [&tokens[..30], &tokens[30..37]].into_iter().chain(tokens[37..].chunks(1)).enumerate() {
            let before = kept.tokens();
            let sequence = Sequence { tokens: chunk, branches: None, cache: &mut kept, rows: Rows::Last };
            let logits: Vec<f32> = model.forward(&mut [sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let gap = largest_gap(&logits, &full[before + chunk.len() - 1]);
            assert!(gap < tolerance, "{dtype} window {window}, step {i}: logits differ by {gap}");
        }
    }
}

#[test]
fn sequences_packed_in_one_step_do_not_see_one_another() {
    let fixture = fixture();
    let model = model(&fixture, &cache("float32", 0, 0));
    let (a, b) = (tokens(13, 1), tokens(29, 2));
    let (mut first, mut second) = (model.cache(), model.cache());
    let packed: Vec<Vec<f32>> = model
        .forward(&mut [
            Sequence { tokens: &a, branches: None, cache: &mut first, rows: Rows::All },
            Sequence { tokens: &b, branches: None, cache: &mut second, rows: Rows::Last },
        ])
        .unwrap()
        .to_vec2()
        .unwrap();
    for (row, expected) in packed.iter().zip(all_logits(&model, &a)) {
        assert!(largest_gap(row, &expected) < 1e-4);
    }
    assert!(largest_gap(&packed[13], &all_logits(&model, &b)[28]) < 1e-4);
}

#[test]
fn branches_score_as_separate_sequences_do() {
    let fixture = fixture();
    let model = model(&fixture, &cache("float32", 12, 3));
    let trunk = tokens(17, 3);
    let continuations = [tokens(4, 11), tokens(1, 12), tokens(7, 13)];
    let (mut packed, mut branches, mut positions) = (trunk.clone(), vec![0; 17], (0..17).collect::<Vec<u32>>());
    for (i, continuation) in continuations.iter().enumerate() {
        packed.extend(continuation);
        branches.extend(vec![i as u32 + 1; continuation.len()]);
        positions.extend(17..17 + continuation.len() as u32);
    }
    let mut kept = model.cache();
    let sequence =
        Sequence { tokens: &packed, branches: Some((&branches, &positions)), cache: &mut kept, rows: Rows::All };
    let rows: Vec<Vec<f32>> = model.forward(&mut [sequence]).unwrap().to_vec2().unwrap();
    let mut at = 17;
    for continuation in &continuations {
        let alone: Vec<u32> = trunk.iter().chain(continuation).copied().collect();
        for (row, expected) in rows[at..at + continuation.len()].iter().zip(&all_logits(&model, &alone)[17..]) {
            assert!(largest_gap(row, expected) < 1e-4);
        }
        at += continuation.len();
    }
}

#[test]
fn a_context_that_is_too_long_is_refused_before_any_work() {
    let fixture = fixture();
    let model = model(&fixture, &cache("float32", 0, 0));
    let mut kept = model.cache();
    let tokens = tokens(129, 4);
    let sequence = Sequence { tokens: &tokens, branches: None, cache: &mut kept, rows: Rows::Last };
    let error = model.forward(&mut [sequence]).unwrap_err().to_string();
    assert_eq!(error, "a sequence of 129 tokens is longer than the model's context of 128");
}

/// A model in each representation against the same with its numbers as float32: what differs is the rounding of activations.
#[test]
fn every_representation_runs_as_its_numbers_do_and_takes_less_memory() {
    let fixture = fixture();
    let base = llama(&fixture.checkpoint, &cache("float16", 0, 0));
    let names: Vec<String> = base.graph().used_weights().into_iter().map(str::to_owned).collect();
    let matrices: Vec<&String> = names.iter().filter(|n| base.describe_weight(n).unwrap().shape.len() == 2).collect();
    let affine = |bits, symmetric| Representation::Affine(Affine { bits, group: 32, symmetric });
    let normal = Settings(vec![Setting::new("group", 32i64)]);
    let forms = [
        Representation::Blocked(Encoding::Q8_0),
        Representation::Blocked(Encoding::Q4_1),
        affine(8, false),
        affine(4, true),
        affine(3, false),
        affine(2, false),
        Representation::parse("codebook", &normal).unwrap(),
        Representation::Sparse(FloatType::F16),
    ];
    let tokens = tokens(24, 8);
    for form in forms {
        let (mut small, mut plain) = (base.clone(), base.clone());
        for name in &matrices {
            small.encode_weight(name, form, None).unwrap();
            plain.put_weight(name, &small.read_weight(name, None).unwrap(), FloatType::F32).unwrap();
        }
        assert!(small.weight_bytes() * 3 < base.weight_bytes(), "{form} takes {} bytes", small.weight_bytes());
        let logits = [&plain, &small].map(|v| all_logits(&Model::new(v, &Device::Cpu, 2).unwrap(), &tokens).concat());
        let [a, b] = &logits;
        let product = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        assert!(cosine > 0.997, "{form}: the logits point elsewhere: cosine {cosine}");
        if matches!(form, Representation::Sparse(_)) {
            assert!(largest_gap(a, b) < 1e-3, "nothing is rounded here");
        } else {
            assert_ne!(a, b, "{form} is really in use");
        }
    }
}

/// A graph that has every token-wise op, some with a weight as a value.
fn every_op(checkpoint: &Arc<Checkpoint>) -> Variant {
    let mut b = Builder { variant: Variant::new(checkpoint.clone(), Some(FloatType::F32)), layer: None };
    let graph = b.variant.graph_mut();
    graph.add_function("decode").unwrap();
    let ids = graph.add_input("decode", "ids", ValueType::indices()).unwrap();
    graph.add_input("decode", "positions", ValueType::indices()).unwrap();
    let none = Settings::default;
    let scaled = none().with("scale", 3.0);
    let mut x = b.node("embedding", "embedding", scaled, &[ids], Some("token_embd.weight"))[0];
    for (i, op) in ["silu", "tanh", "sigmoid", "relu", "softmax"].into_iter().enumerate() {
        let y = b.node(&format!("one-{i}"), op, none(), &[x], None)[0];
        x = b.node(&format!("sum-{i}"), "add", none(), &[x, y], None)[0];
    }
    for approximate in ["tanh", "none"] {
        let gelu = none().with("approximate", approximate);
        let y = b.node(&format!("gelu-{approximate}"), "gelu", gelu, &[x], None)[0];
        x = b.node(&format!("product-{approximate}"), "mul", none(), &[y, x], None)[0];
    }
    let epsilon = none().with("epsilon", 1e-5);
    x = b.node("layer-norm", "layer-norm", epsilon.clone(), &[x], Some("output_norm.weight"))[0];
    let offset = epsilon.with("weight-offset", 1.0);
    x = b.node("rms-norm", "rms-norm", offset, &[x], Some("blk.0.attn_norm.weight"))[0];
    let row = b.node("row", "parameter", none(), &[], Some("blk.0.ffn_norm.weight"))[0];
    x = b.node("times-row", "mul", none(), &[x, row], None)[0];
    // An activation times one row for all is not a gated product.
    let gate = b.node("gate", "silu", none(), &[x], None)[0];
    x = b.node("gate-row", "mul", none(), &[gate, row], None)[0];
    x = b.node("row-plus", "add", none(), &[row, x], None)[0];
    x = b.node("scale", "scale", none().with("factor", 0.25), &[x], None)[0];
    let logits = b.node("head", "linear", none(), &[x], Some("output.weight"))[0];
    b.variant.graph_mut().set_output("decode", "logits", logits).unwrap();
    b.variant.check().unwrap();
    b.variant
}

/// Experts, and stretches of columns with a matrix each, in a blocked format or as they are.
fn stacks(checkpoint: &Arc<Checkpoint>, format: Option<Encoding>) -> Variant {
    let mut b = Builder { variant: Variant::new(checkpoint.clone(), Some(FloatType::F32)), layer: None };
    let graph = b.variant.graph_mut();
    graph.add_function("decode").unwrap();
    let ids = graph.add_input("decode", "ids", ValueType::indices()).unwrap();
    graph.add_input("decode", "positions", ValueType::indices()).unwrap();
    let numbers = |name: &str, numbers: &[i64]| Setting::new(name, aehost_common::Value::Integers(numbers.to_vec()));
    let bind = |variant: &mut Variant, weight: &str, sources: Vec<(String, Vec<Setting>)>| {
        let join = if sources.len() == 1 { "single" } else { "stack" };
        let sources = sources.into_iter().map(|(tensor, steps)| BoundTensor { tensor, steps }).collect();
        variant.bind(weight, sources, join).unwrap();
        if let Some(format) = format {
            variant.encode_weight(weight, Representation::Blocked(format), None).unwrap();
        }
    };
    for slot in ["gate", "up", "down"] {
        let tensors = (0..LAYERS).map(|layer| (format!("blk.{layer}.ffn_{slot}.weight"), vec![])).collect();
        bind(&mut b.variant, slot, tensors);
    }
    let query = |layer: u32| format!("blk.{layer}.attn_q.weight");
    bind(&mut b.variant, "router", vec![(query(0), vec![numbers("rows", &[0, 3])])]);
    bind(&mut b.variant, "wide", vec![(query(1), vec![numbers("reshape", &[3, 96, 32])])]);
    bind(&mut b.variant, "narrow", vec![(query(2), vec![numbers("reshape", &[3, 32, 96])])]);

    let none = Settings::default;
    let weighted = |b: &mut Builder, op: &str, attributes: Settings, inputs: &[ValueId], weights: &[[&str; 2]]| {
        let spec = Spec {
            function: "decode".into(),
            name: format!("{op}-{}", weights[0][1]),
            role: "other".into(),
            layer: None,
            op: op.into(),
            attributes,
            inputs: inputs.to_vec(),
            weights: weights
                .iter()
                .map(|[slot, weight]| Slot { name: (*slot).into(), weight: (*weight).into() })
                .collect(),
        };
        b.variant.graph_mut().insert(spec).unwrap().outputs[0]
    };
    let x = b.node("embedding", "embedding", none(), &[ids], Some("token_embd.weight"))[0];
    let router = weighted(&mut b, "linear", none(), &[x], &[["weight", "router"]]);
    let experts = none()
        .with("top-k", 2i64)
        .with("score", "sigmoid")
        .with("normalise", "sum")
        .with("scale", 1.5)
        .with("activation", "gelu");
    let slots = [["gate", "gate"], ["up", "up"], ["down", "down"]];
    let y = weighted(&mut b, "experts", experts, &[x, router], &slots);
    let x = b.node("sum", "add", none(), &[x, y], None)[0];
    bind(&mut b.variant, "column", vec![(query(0), vec![numbers("rows", &[7, 1])])]);
    let column = weighted(&mut b, "linear", none(), &[x], &[["weight", "column"]]);
    let gate = b.node("gate", "silu", none(), &[x], None)[0];
    let x = b.node("gate-column", "mul", none(), &[gate, column], None)[0];
    let wide = weighted(&mut b, "grouped-linear", none(), &[x], &[["weight", "wide"]]);
    let y = weighted(&mut b, "grouped-linear", none(), &[wide], &[["weight", "narrow"]]);
    let joined = b.node("joined", "concat", none().with("groups", 3i64), &[x, y], None)[0];
    let share = b.node("share", "softmax", none(), &[router], None)[0];
    let joined = b.node("shared", "concat", none(), &[joined, share], None)[0];
    // More logits than there are token ids.
    let joined = b.node("twice", "concat", none(), &[joined, joined], None)[0];
    b.variant.graph_mut().set_output("decode", "logits", joined).unwrap();
    b.variant.check().unwrap();
    b.variant
}

#[test]
fn the_cpu_executor_equals_the_one_on_tensors() {
    let fixture = fixture();
    let cpu = Device::Cpu;
    let checkpoint = &fixture.checkpoint;
    let stacks = [None, Some(Encoding::Q8_0), Some(Encoding::Q4_0)].map(|format| stacks(checkpoint, format));
    let others = [every_op(checkpoint), llama(checkpoint, &cache("float32", 9, 2))];
    for variant in stacks.into_iter().chain(others) {
        for threads in [1, 3] {
            let model = Model::new(&variant, &cpu, threads).unwrap();
            let reference = Model::on_tensors(&variant, &cpu, threads).unwrap();
            for length in [1, 2, 70] {
                let tokens = tokens(length, 21);
                for (found, expected) in all_logits(&model, &tokens).iter().zip(&all_logits(&reference, &tokens)) {
                    let gap = largest_gap(found, expected);
                    assert!(gap < 1e-4, "{length} tokens on {threads} threads: logits differ by {gap}");
                }
            }
        }
    }
}

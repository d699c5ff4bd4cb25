//! Both formats, every scaling, and what is said when a checkpoint lacks something.

use super::*;
use aehost_sdk::family::testing::{Checkpoint, Recorded, Recorder};

fn gguf() -> Checkpoint {
    let mut checkpoint = Checkpoint::new("gguf")
        .with("general.architecture", "llama")
        .with("llama.block_count", 2i64)
        .with("llama.embedding_length", 8i64)
        .with("llama.attention.head_count", 4i64)
        .with("llama.attention.head_count_kv", 2i64)
        .with("llama.feed_forward_length", 16i64)
        .with("llama.context_length", 64i64)
        .with("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .with("llama.rope.freq_base", 100_000.0)
        .with("llama.rope.dimension_count", 2i64)
        .tensor("token_embd.weight", &[32, 8])
        .tensor("output_norm.weight", &[8]);
    for layer in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[8][..]),
            ("attn_q", &[8, 8]),
            ("attn_k", &[4, 8]),
            ("attn_v", &[4, 8]),
            ("attn_output", &[8, 8]),
            ("ffn_norm", &[8]),
            ("ffn_gate", &[16, 8]),
            ("ffn_up", &[16, 8]),
            ("ffn_down", &[8, 16]),
        ] {
            checkpoint = checkpoint.tensor(&format!("blk.{layer}.{name}.weight"), shape);
        }
    }
    checkpoint
}

fn hugging_face() -> Checkpoint {
    let mut checkpoint = Checkpoint::new("safetensors")
        .with("model_type", "llama")
        .with("num_hidden_layers", 1i64)
        .with("hidden_size", 8i64)
        .with("num_attention_heads", 4i64)
        .with("intermediate_size", 16i64)
        .with("max_position_embeddings", 64i64)
        .with("rms_norm_eps", 1e-6)
        .tensor("model.embed_tokens.weight", &[32, 8])
        .tensor("model.norm.weight", &[8])
        .tensor("lm_head.weight", &[32, 8]);
    for (name, shape) in [
        ("input_layernorm", &[8][..]),
        ("self_attn.q_proj", &[8, 8]),
        ("self_attn.k_proj", &[8, 8]),
        ("self_attn.v_proj", &[8, 8]),
        ("self_attn.o_proj", &[8, 8]),
        ("post_attention_layernorm", &[8]),
        ("mlp.gate_proj", &[16, 8]),
        ("mlp.up_proj", &[16, 8]),
        ("mlp.down_proj", &[8, 16]),
    ] {
        checkpoint = checkpoint.tensor(&format!("model.layers.0.{name}.weight"), shape);
    }
    checkpoint
}

fn build(checkpoint: &Checkpoint) -> Result<Recorded, Error> {
    let recorder = Recorder::default();
    Llama::build(checkpoint, &mut Builder::new(checkpoint, &recorder))?;
    Ok(recorder.recorded())
}

fn failure(checkpoint: &Checkpoint) -> (String, String) {
    let error = build(checkpoint).unwrap_err();
    (error.code, error.message)
}

#[test]
fn a_gguf_checkpoint_becomes_a_decoder_with_dotted_names() {
    let model = build(&gguf()).unwrap();
    let names: Vec<&str> =
        model.nodes.iter().filter(|(s, _)| s.layer == Some(1)).map(|(s, _)| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "layers.1.attention.norm",
            "layers.1.attention.query",
            "layers.1.attention.key",
            "layers.1.attention.value",
            "layers.1.attention.rope-query",
            "layers.1.attention.rope-key",
            "layers.1.attention.cache",
            "layers.1.attention.attention",
            "layers.1.attention.output",
            "layers.1.attention.residual",
            "layers.1.feed-forward.norm",
            "layers.1.feed-forward.gate",
            "layers.1.feed-forward.up",
            "layers.1.feed-forward.activation",
            "layers.1.feed-forward.product",
            "layers.1.feed-forward.down",
            "layers.1.feed-forward.residual",
        ]
    );
    assert_eq!(model.weights["layers.1.attention.key.weight"], "blk.1.attn_k.weight");
    assert_eq!(model.facts["kv-heads"], Value::Integer(2));
    assert_eq!(model.facts["vocabulary"], Value::Integer(32));
    assert_eq!(model.attribute("layers.0.attention.rope-key", "pairing"), Some("interleaved".into()));
    assert_eq!(model.attribute("layers.0.attention.attention", "scale"), Some(Value::Real(1.0 / 2f64.sqrt())));
    assert_eq!(model.attribute("layers.0.attention.cache", "dtype"), Some("float16".into()));
}

#[test]
fn the_values_flow_from_ids_to_logits() {
    let model = build(&gguf()).unwrap();
    let output = |name: &str| model.nodes.iter().find(|(s, _)| s.name == name).unwrap().1.clone();
    let inputs = |name: &str| model.node(name).unwrap().inputs.clone();
    let cache = output("layers.0.attention.cache");
    assert_eq!(inputs("layers.0.attention.attention")[1..], [cache[0], cache[1], 1, cache[2]]);
    assert_eq!(inputs("layers.1.attention.norm"), output("layers.0.feed-forward.residual"));
    assert_eq!(
        inputs("layers.0.feed-forward.product"),
        [output("layers.0.feed-forward.activation")[0], output("layers.0.feed-forward.up")[0]]
    );
    assert_eq!(model.outputs["logits"], output("head")[0]);
}

#[test]
fn without_a_head_tensor_the_head_is_the_embedding() {
    let tied = build(&gguf()).unwrap();
    assert_eq!(tied.node("head").unwrap().weights[0].weight, "embedding.weight");
    let own = build(&gguf().tensor("output.weight", &[32, 8])).unwrap();
    assert_eq!(own.node("head").unwrap().weights[0].weight, "head.weight");
    let config = build(&hugging_face().with("tie_word_embeddings", true)).unwrap();
    assert_eq!(config.node("head").unwrap().weights[0].weight, "embedding.weight");
}

#[test]
fn hugging_face_configurations_default_to_plain_heads_and_rope() {
    let model = build(&hugging_face()).unwrap();
    assert_eq!(model.facts["kv-heads"], Value::Integer(4));
    assert_eq!(model.attribute("layers.0.attention.rope-query", "pairing"), Some("half".into()));
    assert_eq!(model.attribute("layers.0.attention.rope-query", "base"), Some(Value::Real(10_000.0)));
    assert_eq!(model.attribute("layers.0.attention.rope-query", "scaling"), None);
    assert_eq!(model.node("head").unwrap().weights[0].weight, "head.weight");
}

#[test]
fn attention_biases_are_bound_where_the_checkpoint_has_them() {
    let model = build(&hugging_face().tensor("model.layers.0.self_attn.q_proj.bias", &[8])).unwrap();
    let slots = |name: &str| model.node(name).unwrap().weights.len();
    assert_eq!((slots("layers.0.attention.query"), slots("layers.0.attention.key")), (2, 1));
    assert_eq!(model.weights["layers.0.attention.query.bias"], "model.layers.0.self_attn.q_proj.bias");
}

#[test]
fn llama3_scaling_comes_from_the_configuration_or_from_divisors() {
    let scaled = hugging_face()
        .with("rope_theta", 500_000.0)
        .with("rope_scaling.rope_type", "llama3")
        .with("rope_scaling.factor", 8.0)
        .with("rope_scaling.low_freq_factor", 1.0)
        .with("rope_scaling.high_freq_factor", 4.0)
        .with("rope_scaling.original_max_position_embeddings", 8192i64);
    let model = build(&scaled).unwrap();
    let attribute = |name: &str| model.attribute("layers.0.attention.rope-key", name);
    assert_eq!(attribute("scaling"), Some("llama3".into()));
    assert_eq!(attribute("high-frequency-factor"), Some(Value::Real(4.0)));
    assert_eq!(attribute("original-context"), Some(Value::Integer(8192)));

    let model = build(&gguf().tensor("rope_freqs.weight", &[1])).unwrap();
    for node in ["layers.0.attention.rope-query", "layers.1.attention.rope-key"] {
        assert_eq!(model.node(node).unwrap().weights[0].weight, "rope.frequencies");
    }
    assert_eq!(model.weights["rope.frequencies"], "rope_freqs.weight");
}

#[test]
fn yarn_and_linear_scaling_are_read_from_both_formats() {
    let yarn = gguf()
        .with("llama.rope.scaling.type", "yarn")
        .with("llama.rope.scaling.factor", 4.0)
        .with("llama.rope.scaling.original_context_length", 32i64);
    let model = build(&yarn).unwrap();
    assert_eq!(model.attribute("layers.0.attention.rope-key", "factor"), Some(Value::Real(4.0)));
    let linear = hugging_face().with("rope_scaling.type", "linear").with("rope_scaling.factor", 2.0);
    let model = build(&linear).unwrap();
    assert_eq!(model.attribute("layers.0.attention.rope-key", "scaling"), Some("linear".into()));
    let parameters = hugging_face()
        .with("rope_parameters.rope_type", "yarn")
        .with("rope_parameters.rope_theta", 50_000.0)
        .with("rope_parameters.factor", 2.0)
        .with("rope_parameters.beta_fast", 16.0);
    let model = build(&parameters).unwrap();
    assert_eq!(model.attribute("layers.0.attention.rope-key", "base"), Some(Value::Real(50_000.0)));
    assert_eq!(model.attribute("layers.0.attention.rope-key", "beta-fast"), Some(Value::Real(16.0)));
    assert_eq!(model.attribute("layers.0.attention.rope-key", "original-context"), Some(Value::Integer(64)));
}

#[test]
fn what_is_missing_or_not_supported_is_named() {
    let invalid = |message: &str| ("invalid-input".to_owned(), message.to_owned());
    let unsupported = |message: &str| ("unsupported".to_owned(), message.to_owned());
    assert_eq!(
        failure(&gguf().without("llama.block_count")),
        invalid("the checkpoint's metadata lacks `llama.block_count` (an integer)")
    );
    assert_eq!(
        failure(&gguf().with("llama.attention.head_count_kv", "two")),
        invalid("the checkpoint's metadata `llama.attention.head_count_kv` must be an integer, but is two")
    );
    assert_eq!(
        failure(&gguf().with("llama.attention.head_count_kv", 3i64)),
        invalid("4 heads cannot share 3 key-value heads evenly")
    );
    assert_eq!(
        failure(&gguf().with("llama.block_count", 3i64)),
        invalid("the checkpoint lacks the tensor `blk.2.attn_norm.weight`")
    );
    assert_eq!(
        failure(&gguf().with("llama.expert_count", 8i64)),
        invalid("the checkpoint's metadata lacks `llama.expert_used_count` (an integer)")
    );
    assert_eq!(
        failure(&hugging_face().with("rope_scaling.rope_type", "longrope")),
        invalid("config.json lacks `rope_scaling.short_factor`")
    );
    assert_eq!(
        failure(&hugging_face().with("rope_scaling.rope_type", "dynamic")),
        unsupported("rope_scaling.rope_type is `dynamic`; supported: default, linear, llama3, yarn, longrope")
    );
    assert_eq!(
        failure(&hugging_face().with("hidden_act", "gelu")),
        unsupported("hidden_act is `gelu`; supported: silu")
    );
}

//! The llama family: pre-norm decoders with rotary positions, grouped-query attention and a gated feed-forward network
//! (Touvron et al., arXiv 2302.13971 and 2307.09288; Llama 3's rope scaling: arXiv 2407.21783), from GGUF or from
//! safetensors with config.json.

mod config;

use aehost_sdk::family::*;
use config::Config;

struct Llama;

/// Where a checkpoint keeps its tensors; a layer's names lack its prefix.
struct Names {
    embedding: &'static str,
    norm: &'static str,
    head: &'static str,
    layer: &'static str,
    attention_norm: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    output: &'static str,
    feed_forward_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
}

const GGUF: Names = Names {
    embedding: "token_embd.weight",
    norm: "output_norm.weight",
    head: "output",
    layer: "blk",
    attention_norm: "attn_norm.weight",
    query: "attn_q",
    key: "attn_k",
    value: "attn_v",
    output: "attn_output",
    feed_forward_norm: "ffn_norm.weight",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
};

const HUGGING_FACE: Names = Names {
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    head: "lm_head",
    layer: "model.layers",
    attention_norm: "input_layernorm.weight",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.o_proj",
    feed_forward_norm: "post_attention_layernorm.weight",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
};

/// Per-pair divisors of the rope's frequencies, in GGUF files of Llama 3.1 and later.
const DIVISORS: &str = "rope_freqs.weight";

impl Family for Llama {
    fn describe() -> Description {
        let summary = "Builds llama models from GGUF or safetensors.";
        Description::new(identity!("llama", summary, "arXiv:2302.13971"), ["llama"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let config = Config::read(checkpoint)?;
        let names = if checkpoint.format() == "gguf" { &GGUF } else { &HUGGING_FACE };
        let vocabulary = b.shape(names.embedding)?.first().copied().unwrap_or_default();
        for (name, value) in [
            ("layers", config.layers),
            ("hidden", config.hidden),
            ("heads", config.heads),
            ("kv-heads", config.kv_heads),
            ("head-dim", config.head_dim),
            ("feed-forward", config.feed_forward),
            ("vocabulary", i64::from(vocabulary)),
            ("context", config.context),
        ] {
            b.fact(name, value)?;
        }
        b.fact("architecture", "llama")?;

        b.function("decode")?;
        let ids = b.input("ids", "uint32", &["tokens"])?;
        let positions = b.input("positions", "uint32", &["tokens"])?;
        let mut x = b.embedding("embedding", ids, names.embedding)?;
        for layer in 0..config.layers as u32 {
            b.layer(Some(layer));
            x = attention(b, &config, names, layer, x, positions)?;
            x = feed_forward(b, &config, names, layer, x)?;
        }
        b.layer(None);
        let x = b.rms_norm("norm", x, names.norm, config.epsilon)?;
        let tied = config.tied || !b.has(&format!("{}.weight", names.head));
        let logits = if tied {
            b.tied_linear("head", "head", x, "embedding.weight")?
        } else {
            b.linear("head", "head", x, names.head)?
        };
        b.output("logits", logits)
    }
}

fn attention(
    b: &mut Builder,
    config: &Config,
    names: &Names,
    layer: u32,
    x: ValueId,
    positions: ValueId,
) -> Result<ValueId, Error> {
    let tensor = |name: &str| format!("{}.{layer}.{name}", names.layer);
    let divisors = b.has(DIVISORS).then_some(DIVISORS);
    let normed = b.rms_norm("attention.norm", x, &tensor(names.attention_norm), config.epsilon)?;
    let q = b.linear("attention.query", "query", normed, &tensor(names.query))?;
    let k = b.linear("attention.key", "key", normed, &tensor(names.key))?;
    let v = b.linear("attention.value", "value", normed, &tensor(names.value))?;
    let q = b.rope("attention.rope-query", q, positions, &config.rope, divisors)?;
    let k = b.rope("attention.rope-key", k, positions, &config.rope, divisors)?;
    let kept = b.cache("attention.cache", [k, v, positions], config.head_dim)?;
    let shape = Attention {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        scale: config.scale,
        window: 0,
    };
    let y = b.attention("attention.attention", q, positions, kept, shape)?;
    let y = b.linear("attention.output", "output", y, &tensor(names.output))?;
    b.apply("add", "attention.residual", "residual", [x, y])
}

fn feed_forward(b: &mut Builder, config: &Config, names: &Names, layer: u32, x: ValueId) -> Result<ValueId, Error> {
    let tensor = |name: &str| format!("{}.{layer}.{name}", names.layer);
    let normed = b.rms_norm("feed-forward.norm", x, &tensor(names.feed_forward_norm), config.epsilon)?;
    let gate = b.linear("feed-forward.gate", "gate", normed, &tensor(names.gate))?;
    let up = b.linear("feed-forward.up", "up", normed, &tensor(names.up))?;
    let gate = b.apply("silu", "feed-forward.activation", "activation", [gate])?;
    let product = b.apply("mul", "feed-forward.product", "other", [gate, up])?;
    let y = b.linear("feed-forward.down", "down", product, &tensor(names.down))?;
    b.apply("add", "feed-forward.residual", "residual", [x, y])
}

aehost_sdk::family!(Llama);

#[cfg(test)]
mod tests;

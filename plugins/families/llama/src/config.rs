//! What a llama checkpoint says of itself, under GGUF's keys or Hugging Face's, in one form.

use aehost_sdk::family::{Checkpoint, Error, Setting, setting};

/// The shape of a llama model.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub layers: i64,
    pub hidden: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub head_dim: i64,
    pub feed_forward: i64,
    pub context: i64,
    pub epsilon: f64,
    /// Factor on the products of queries and keys.
    pub scale: f64,
    /// The head is the embedding, even where the checkpoint has a tensor for it.
    pub tied: bool,
    /// Attributes of the rope op.
    pub rope: Vec<Setting>,
}

impl Config {
    /// Reads the metadata of either format.
    pub fn read(checkpoint: &dyn Checkpoint) -> Result<Self, Error> {
        let config = if checkpoint.format() == "gguf" { gguf(checkpoint)? } else { hugging_face(checkpoint)? };
        for (what, value) in [
            ("layers", config.layers),
            ("hidden size", config.hidden),
            ("heads", config.heads),
            ("key-value heads", config.kv_heads),
            ("elements of a head", config.head_dim),
        ] {
            if !(1..=1 << 24).contains(&value) {
                return Err(Error::invalid(format!("the checkpoint's metadata gives {value} as its number of {what}")));
            }
        }
        if config.heads % config.kv_heads != 0 {
            let (heads, kv_heads) = (config.heads, config.kv_heads);
            return Err(Error::invalid(format!("{heads} heads cannot share {kv_heads} key-value heads evenly")));
        }
        Ok(config)
    }
}

/// Keys of the GGUF specification (ggml's docs/gguf.md), as llama.cpp reads them.
fn gguf(checkpoint: &dyn Checkpoint) -> Result<Config, Error> {
    let experts = checkpoint.optional_integer("llama.expert_count")?.unwrap_or(0);
    if experts > 0 {
        let message = format!("llama.expert_count is {experts}: models with experts are not supported");
        return Err(Error::unsupported(message));
    }
    let hidden = checkpoint.integer("llama.embedding_length")?;
    let heads = checkpoint.integer("llama.attention.head_count")?;
    let head_dim = match checkpoint.optional_integer("llama.attention.key_length")? {
        Some(length) => length,
        None => hidden / heads.max(1),
    };
    let value_dim = checkpoint.optional_integer("llama.attention.value_length")?.unwrap_or(head_dim);
    if value_dim != head_dim {
        let message = format!("llama.attention.value_length is {value_dim}, but keys have {head_dim}: not supported");
        return Err(Error::unsupported(message));
    }
    let base = checkpoint.optional_real("llama.rope.freq_base")?.unwrap_or(10_000.0);
    // The converter permutes the rows of queries and keys, so that pairs lie side by side.
    let mut rope = vec![setting("head-dim", head_dim), setting("base", base), setting("pairing", "interleaved")];
    if let Some(dims) = checkpoint.optional_integer("llama.rope.dimension_count")? {
        rope.push(setting("dims", dims));
    }
    match checkpoint.optional_text("llama.rope.scaling.type")?.as_deref() {
        // Older files give the linear factor without a type.
        None => {
            if let Some(factor) = checkpoint.optional_real("llama.rope.scale_linear")?.filter(|f| *f != 1.0) {
                rope.extend([setting("scaling", "linear"), setting("factor", factor)]);
            }
        }
        Some("none") => {}
        Some("linear") => {
            let factor = checkpoint.real("llama.rope.scaling.factor")?;
            rope.extend([setting("scaling", "linear"), setting("factor", factor)]);
        }
        Some("yarn") => {
            let factor = checkpoint.real("llama.rope.scaling.factor")?;
            let original = checkpoint.integer("llama.rope.scaling.original_context_length")?;
            rope.extend([setting("scaling", "yarn"), setting("factor", factor), setting("original-context", original)]);
            if let Some(factor_of_own) = checkpoint.optional_real("llama.rope.scaling.attn_factor")? {
                rope.push(setting("attention-factor", factor_of_own * (1.0 + 0.1 * factor.max(1.0).ln())));
            }
        }
        Some(other) => {
            return Err(Error::unsupported(format!(
                "llama.rope.scaling.type is `{other}`; supported: none, linear, yarn"
            )));
        }
    }
    let scale = checkpoint.optional_real("llama.attention.scale")?.filter(|s| *s != 0.0);
    Ok(Config {
        layers: checkpoint.integer("llama.block_count")?,
        hidden,
        heads,
        kv_heads: checkpoint.optional_integer("llama.attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        feed_forward: checkpoint.integer("llama.feed_forward_length")?,
        context: checkpoint.integer("llama.context_length")?,
        epsilon: checkpoint.real("llama.attention.layer_norm_rms_epsilon")?,
        scale: scale.unwrap_or(1.0 / (head_dim as f64).sqrt()),
        tied: false,
        rope,
    })
}

/// Keys of transformers' LlamaConfig.
fn hugging_face(checkpoint: &dyn Checkpoint) -> Result<Config, Error> {
    let activation = checkpoint.optional_text("hidden_act")?.unwrap_or_else(|| "silu".into());
    if activation != "silu" {
        return Err(Error::unsupported(format!("hidden_act is `{activation}`; supported: silu")));
    }
    let hidden = checkpoint.integer("hidden_size")?;
    let heads = checkpoint.integer("num_attention_heads")?;
    let head_dim = checkpoint.optional_integer("head_dim")?.unwrap_or(hidden / heads.max(1));
    let context = checkpoint.integer("max_position_embeddings")?;
    Ok(Config {
        layers: checkpoint.integer("num_hidden_layers")?,
        hidden,
        heads,
        kv_heads: checkpoint.optional_integer("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        feed_forward: checkpoint.integer("intermediate_size")?,
        context,
        epsilon: checkpoint.real("rms_norm_eps")?,
        scale: 1.0 / (head_dim as f64).sqrt(),
        tied: checkpoint.optional_flag("tie_word_embeddings")?.unwrap_or(false),
        rope: hugging_face_rope(checkpoint, head_dim, context)?,
    })
}

/// transformers writes `rope_theta` and `rope_scaling`, and from version 5 on `rope_parameters` with both.
fn hugging_face_rope(checkpoint: &dyn Checkpoint, head_dim: i64, context: i64) -> Result<Vec<Setting>, Error> {
    let new = checkpoint.optional_text("rope_parameters.rope_type")?.is_some();
    let table = if new { "rope_parameters" } else { "rope_scaling" };
    let key = |name: &str| format!("{table}.{name}");
    let base = match checkpoint.optional_real("rope_parameters.rope_theta")? {
        Some(base) => base,
        None => checkpoint.optional_real("rope_theta")?.unwrap_or(10_000.0),
    };
    let mut rope = vec![setting("head-dim", head_dim), setting("base", base), setting("pairing", "half")];
    let kind = match checkpoint.optional_text(&key("rope_type"))? {
        Some(kind) => Some(kind),
        None => checkpoint.optional_text(&key("type"))?,
    };
    match kind.as_deref() {
        None | Some("default") => return Ok(rope),
        Some(kind @ ("linear" | "llama3" | "yarn")) => {
            rope.extend([setting("scaling", kind), setting("factor", checkpoint.real(&key("factor"))?)]);
        }
        Some(other) => {
            let message = format!("{} is `{other}`; supported: default, linear, llama3, yarn", key("rope_type"));
            return Err(Error::unsupported(message));
        }
    }
    let original = checkpoint.optional_integer(&key("original_max_position_embeddings"))?;
    match kind.as_deref() {
        Some("llama3") => rope.extend([
            setting("low-frequency-factor", checkpoint.real(&key("low_freq_factor"))?),
            setting("high-frequency-factor", checkpoint.real(&key("high_freq_factor"))?),
            setting("original-context", checkpoint.integer(&key("original_max_position_embeddings"))?),
        ]),
        Some("yarn") => {
            rope.push(setting("original-context", original.unwrap_or(context)));
            for (attribute, name) in
                [("attention-factor", "attention_factor"), ("beta-fast", "beta_fast"), ("beta-slow", "beta_slow")]
            {
                if let Some(value) = checkpoint.optional_real(&key(name))? {
                    rope.push(setting(attribute, value));
                }
            }
        }
        _ => {}
    }
    Ok(rope)
}

//! What a checkpoint says of itself, under GGUF's keys or Hugging Face's.

use super::{Attention, Checkpoint, Error, Setting, Value, setting};

/// Metadata of either format: every reader takes GGUF's key, without the architecture in front (the specification is
/// ggml's docs/gguf.md), and Hugging Face's, that of config.json. A format without the key has an empty one.
pub struct Metadata<'a> {
    checkpoint: &'a dyn Checkpoint,
    /// Before Hugging Face's keys: `text_config.` for example.
    table: String,
    /// GGUF's `general.architecture`, which stands in front of its keys, or config.json's `model_type`.
    architecture: String,
    gguf: bool,
}

impl<'a> Metadata<'a> {
    /// The checkpoint's metadata. Errors: invalid-input when it does not say its architecture.
    pub fn new(checkpoint: &'a dyn Checkpoint) -> Result<Self, Error> {
        let gguf = checkpoint.format() == "gguf";
        let architecture = checkpoint.text(if gguf { "general.architecture" } else { "model_type" })?;
        Ok(Self { checkpoint, table: String::new(), architecture, gguf })
    }

    /// The metadata of one of several models that a checkpoint of Hugging Face's holds, in a table such as `text_config`.
    /// Errors: unsupported when it is GGUF.
    pub fn part(checkpoint: &'a dyn Checkpoint, table: &str) -> Result<Self, Error> {
        let whole = Self::new(checkpoint)?;
        if whole.gguf {
            let architecture = &whole.architecture;
            return Err(Error::unsupported(format!("{architecture} is built from safetensors only, not from GGUF")));
        }
        Ok(Self { table: format!("{table}."), ..whole })
    }

    /// Whether it is GGUF's.
    pub fn is_gguf(&self) -> bool {
        self.gguf
    }

    /// The key under which this checkpoint has it.
    pub fn key(&self, gguf: &str, hugging_face: &str) -> String {
        match self.gguf {
            true => format!("{}.{gguf}", self.architecture),
            false => format!("{}{hugging_face}", self.table),
        }
    }

    /// An integer that must be there.
    pub fn integer(&self, gguf: &str, hugging_face: &str) -> Result<i64, Error> {
        self.checkpoint.integer(&self.key(gguf, hugging_face))
    }

    /// A number that must be there.
    pub fn real(&self, gguf: &str, hugging_face: &str) -> Result<f64, Error> {
        self.checkpoint.real(&self.key(gguf, hugging_face))
    }

    /// An integer that may be absent.
    pub fn optional_integer(&self, gguf: &str, hugging_face: &str) -> Result<Option<i64>, Error> {
        self.checkpoint.optional_integer(&self.key(gguf, hugging_face))
    }

    /// A number that may be absent.
    pub fn optional_real(&self, gguf: &str, hugging_face: &str) -> Result<Option<f64>, Error> {
        self.checkpoint.optional_real(&self.key(gguf, hugging_face))
    }

    /// A text that may be absent.
    pub fn optional_text(&self, gguf: &str, hugging_face: &str) -> Result<Option<String>, Error> {
        self.checkpoint.optional_text(&self.key(gguf, hugging_face))
    }

    /// A flag that may be absent.
    pub fn optional_flag(&self, gguf: &str, hugging_face: &str) -> Result<Option<bool>, Error> {
        self.checkpoint.optional_flag(&self.key(gguf, hugging_face))
    }

    /// A list of numbers that may be absent.
    pub fn optional_reals(&self, gguf: &str, hugging_face: &str) -> Result<Option<Vec<f64>>, Error> {
        self.checkpoint.optional_reals(&self.key(gguf, hugging_face))
    }

    /// Refuses an activation of config.json that is not among those `known`; GGUF does not say.
    pub fn check_activation(&self, key: &str, known: &[&str]) -> Result<(), Error> {
        match self.optional_text("", key)?.filter(|_| !self.is_gguf()) {
            Some(found) if !known.contains(&found.as_str()) => {
                Err(Error::unsupported(format!("{key} is `{found}`; supported: {}", known.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// The tokens that each layer's queries see, 0 for all: the checkpoint's sliding window in the layers that its list
    /// `layer_types` says slide or, where it has none, in those of which `slides` is true.
    pub fn windows(&self, layers: i64, slides: impl Fn(i64) -> bool) -> Result<Vec<i64>, Error> {
        let window = self.optional_integer("attention.sliding_window", "sliding_window")?.unwrap_or(0);
        let types = match self.checkpoint.fact(&self.key("", "layer_types")) {
            Some(Value::Texts(types)) if !self.is_gguf() => Some(types),
            _ => None,
        };
        let slides = |layer: i64| match &types {
            Some(types) => types.get(layer as usize).is_some_and(|kind| kind == "sliding_attention"),
            None => slides(layer),
        };
        Ok((0..layers).map(|layer| if slides(layer) { window } else { 0 }).collect())
    }
}

/// The shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the checkpoint calls it.
    pub architecture: String,
    /// Layers.
    pub layers: i64,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Elements of a head.
    pub head_dim: i64,
    /// Width inside the feed-forward network.
    pub feed_forward: i64,
    /// Tokens that the model was made for.
    pub context: i64,
    /// Of the norms.
    pub epsilon: f64,
    /// The head is the embedding, even where the checkpoint has a tensor for it.
    pub tied: bool,
}

impl Config {
    /// Reads the usual keys. Errors: invalid-input, naming the key that is missing or wrong.
    pub fn read(metadata: &Metadata<'_>) -> Result<Self, Error> {
        let hidden = metadata.integer("embedding_length", "hidden_size")?;
        let heads = metadata.integer("attention.head_count", "num_attention_heads")?;
        let head_dim = match metadata.optional_integer("attention.key_length", "head_dim")? {
            Some(length) => length,
            None => hidden / heads.max(1),
        };
        let kv_heads = metadata.optional_integer("attention.head_count_kv", "num_key_value_heads")?.unwrap_or(heads);
        let epsilon = match metadata.optional_real("attention.layer_norm_epsilon", "norm_epsilon")? {
            Some(epsilon) => epsilon,
            None => metadata.real("attention.layer_norm_rms_epsilon", "rms_norm_eps")?,
        };
        let config = Self {
            architecture: metadata.architecture.clone(),
            layers: metadata.integer("block_count", "num_hidden_layers")?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            feed_forward: metadata.integer("feed_forward_length", "intermediate_size")?,
            context: metadata.integer("context_length", "max_position_embeddings")?,
            epsilon,
            tied: metadata.optional_flag("", "tie_word_embeddings")?.unwrap_or(false),
        };
        for (what, value) in [
            ("layers", config.layers),
            ("hidden size", hidden),
            ("heads", heads),
            ("key-value heads", kv_heads),
            ("elements of a head", head_dim),
        ] {
            if !(1..=1 << 24).contains(&value) {
                return Err(Error::invalid(format!("the checkpoint's metadata gives {value} as its number of {what}")));
            }
        }
        if heads % kv_heads != 0 {
            return Err(Error::invalid(format!("{heads} heads cannot share {kv_heads} key-value heads evenly")));
        }
        Ok(config)
    }

    /// Plain attention of this shape: scaled by the root of the head's elements, without window, cap or norms.
    pub fn attention(&self, rope: Vec<Setting>) -> Attention {
        Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f64).sqrt(),
            window: 0,
            softcap: None,
            normed: false,
            rope,
        }
    }
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: i64,
    /// Experts that a token goes through.
    pub top_k: i64,
    /// Width inside an expert.
    pub feed_forward: i64,
    /// How logits become scores: `softmax` or `sigmoid`.
    pub score: &'static str,
    /// Whether the shares of a token's experts sum to 1.
    pub normalise: bool,
    /// Factor on the shares.
    pub scale: f64,
    /// Groups that neighbouring experts form.
    pub groups: i64,
    /// Groups that take part, those with the best expert.
    pub top_groups: i64,
}

impl Experts {
    /// Reads the usual keys; none where there are no experts. Errors: invalid-input, naming the key.
    pub fn read(metadata: &Metadata<'_>) -> Result<Option<Self>, Error> {
        let mut count = metadata.optional_integer("expert_count", "num_experts")?;
        for other in ["num_local_experts", "n_routed_experts"] {
            if count.is_none() && !metadata.is_gguf() {
                count = metadata.optional_integer("", other)?;
            }
        }
        let Some(count) = count.filter(|count| *count > 0) else { return Ok(None) };
        if count > 1 << 16 {
            return Err(Error::invalid(format!("the checkpoint's metadata gives {count} as its number of experts")));
        }
        let width = metadata.optional_integer("expert_feed_forward_length", "moe_intermediate_size")?;
        Ok(Some(Self {
            count,
            top_k: metadata.integer("expert_used_count", "num_experts_per_tok")?,
            feed_forward: match width {
                Some(width) => width,
                None => metadata.integer("feed_forward_length", "intermediate_size")?,
            },
            score: "softmax",
            normalise: true,
            scale: 1.0,
            groups: 1,
            top_groups: 1,
        }))
    }
}

/// The attributes of the rope op. `pairing` is that of GGUF's files and of Hugging Face's: GGUF has `interleaved` where the
/// converter permutes the rows of queries and keys, as it does for llama. `layers` names the kind of layers where
/// config.json has a rope for each kind (`full_attention`).
/// Errors: invalid-input, naming the key that is missing; unsupported, naming the scaling.
pub fn rope(
    metadata: &Metadata<'_>,
    config: &Config,
    pairing: [&str; 2],
    layers: Option<&str>,
) -> Result<Vec<Setting>, Error> {
    let pairing = pairing[usize::from(!metadata.is_gguf())];
    let mut rope = vec![setting("head-dim", config.head_dim), setting("pairing", pairing)];
    match metadata.is_gguf() {
        true => gguf_rope(metadata, &mut rope)?,
        false => hugging_face_rope(metadata, config, layers, &mut rope)?,
    }
    Ok(rope)
}

fn gguf_rope(metadata: &Metadata<'_>, rope: &mut Vec<Setting>) -> Result<(), Error> {
    let base = metadata.optional_real("rope.freq_base", "")?.unwrap_or(10_000.0);
    rope.push(setting("base", base));
    if let Some(dims) = metadata.optional_integer("rope.dimension_count", "")? {
        rope.push(setting("dims", dims));
    }
    let factor = || metadata.real("rope.scaling.factor", "");
    match metadata.optional_text("rope.scaling.type", "")?.as_deref() {
        // Longrope's factors are a tensor, and only its attention factor stands here.
        None if metadata.optional_real("rope.scaling.attn_factor", "")?.is_some() => {
            rope.push(setting("attention-factor", metadata.real("rope.scaling.attn_factor", "")?));
        }
        // Older files give the linear factor without a type.
        None => {
            if let Some(factor) = metadata.optional_real("rope.scale_linear", "")?.filter(|f| *f != 1.0) {
                rope.extend([setting("scaling", "linear"), setting("factor", factor)]);
            }
        }
        Some("none") => {}
        Some("linear") => rope.extend([setting("scaling", "linear"), setting("factor", factor()?)]),
        Some("yarn") => {
            let factor = factor()?;
            let original = metadata.integer("rope.scaling.original_context_length", "")?;
            rope.extend([setting("scaling", "yarn"), setting("factor", factor), setting("original-context", original)]);
            for (attribute, key) in
                [("beta-fast", "rope.scaling.yarn_beta_fast"), ("beta-slow", "rope.scaling.yarn_beta_slow")]
            {
                if let Some(value) = metadata.optional_real(key, "")? {
                    rope.push(setting(attribute, value));
                }
            }
            if let Some(own) = metadata.optional_real("rope.scaling.attn_factor", "")? {
                rope.push(setting("attention-factor", own * (1.0 + 0.1 * factor.max(1.0).ln())));
            } else if metadata.optional_real("rope.scaling.yarn_log_multiplier", "")?.is_some() {
                // DeepSeek's factor is in the scores instead.
                rope.push(setting("attention-factor", 1.0));
            }
        }
        Some(other) => {
            let key = metadata.key("rope.scaling.type", "");
            return Err(Error::unsupported(format!("{key} is `{other}`; supported: none, linear, yarn")));
        }
    }
    Ok(())
}

/// transformers writes `rope_theta` and `rope_scaling`, and from version 5 on `rope_parameters` with both.
fn hugging_face_rope(
    metadata: &Metadata<'_>,
    config: &Config,
    layers: Option<&str>,
    rope: &mut Vec<Setting>,
) -> Result<(), Error> {
    let text = |key: &str| metadata.optional_text("", key);
    let real = |key: &str| metadata.optional_real("", key);
    let mut tables = layers.map(|kind| vec![format!("rope_parameters.{kind}")]).unwrap_or_default();
    tables.extend(["rope_parameters".to_owned(), "rope_scaling".to_owned()]);
    let mut kind = None;
    let mut table = "rope_scaling".to_owned();
    for name in tables {
        kind = match text(&format!("{name}.rope_type"))? {
            Some(kind) => Some(kind),
            None => text(&format!("{name}.type"))?,
        };
        if kind.is_some() {
            table = name;
            break;
        }
    }
    let key = |name: &str| format!("{table}.{name}");
    let either = |name: &str| match real(&key(name))? {
        Some(value) => Ok(Some(value)),
        None => real(name),
    };
    rope.push(setting("base", either("rope_theta")?.unwrap_or(10_000.0)));
    if let Some(share) = either("partial_rotary_factor")?.filter(|share| *share != 1.0) {
        rope.push(setting("dims", (config.head_dim as f64 * share) as i64));
    }
    let needed = |name: &str| metadata.real("", &key(name));
    let original = match metadata.optional_integer("", &key("original_max_position_embeddings"))? {
        Some(original) => original,
        None => metadata.optional_integer("", "original_max_position_embeddings")?.unwrap_or(config.context),
    };
    match kind.as_deref() {
        None | Some("default") => {}
        Some("linear") => rope.extend([setting("scaling", "linear"), setting("factor", needed("factor")?)]),
        Some("llama3") => rope.extend([
            setting("scaling", "llama3"),
            setting("factor", needed("factor")?),
            setting("low-frequency-factor", needed("low_freq_factor")?),
            setting("high-frequency-factor", needed("high_freq_factor")?),
            setting("original-context", metadata.integer("", &key("original_max_position_embeddings"))?),
        ]),
        Some("yarn") => {
            rope.extend([setting("scaling", "yarn"), setting("factor", needed("factor")?)]);
            rope.push(setting("original-context", original));
            for (attribute, name) in
                [("attention-factor", "attention_factor"), ("beta-fast", "beta_fast"), ("beta-slow", "beta_slow")]
            {
                if let Some(value) = real(&key(name))? {
                    rope.push(setting(attribute, value));
                }
            }
            if let (Some(all), Some(own)) = (real(&key("mscale_all_dim"))?, real(&key("mscale"))?) {
                let magnitude = |share: f64, factor: f64| 1.0 + 0.1 * share * factor.max(1.0).ln();
                let factor = needed("factor")?;
                rope.push(setting("attention-factor", magnitude(own, factor) / magnitude(all, factor)));
            }
        }
        Some("longrope") => {
            let short = metadata.optional_reals("", &key("short_factor"))?;
            let short = short.ok_or_else(|| Error::invalid(format!("config.json lacks `{}`", key("short_factor"))))?;
            let stretched = match real(&key("factor"))? {
                Some(factor) => factor,
                None => config.context as f64 / original as f64,
            };
            let factor = match real(&key("attention_factor"))? {
                Some(factor) => factor,
                None if stretched > 1.0 => (1.0 + stretched.ln() / (original as f64).ln()).sqrt(),
                None => 1.0,
            };
            rope.extend([setting("divisors", Value::Reals(short)), setting("attention-factor", factor)]);
        }
        Some(other) => {
            let known = "default, linear, llama3, yarn, longrope";
            let message = format!("{} is `{other}`; supported: {known}", key("rope_type"));
            return Err(Error::unsupported(message));
        }
    }
    Ok(())
}

//! DeepSeek-V2 (arXiv 2405.04434): attention on a latent of few elements that all heads share, and experts beside some that
//! all tokens share. What would make keys of the latent is applied to the queries instead, and what would make values to
//! what attention gives: the cache then keeps the latent and one rotated key a token, and nothing else.

use aehost_sdk::family::*;

struct Deepseek2;

/// The shape of latent attention.
struct Latent {
    heads: i64,
    /// Elements of the latent.
    rank: i64,
    /// Elements of a head's query and key that position leaves alone, and those that it rotates.
    plain: i64,
    rotated: i64,
    /// Elements of a head's values.
    value: i64,
    scale: f64,
    rope: Vec<Setting>,
}

impl Family for Deepseek2 {
    fn describe() -> Description {
        let summary = "Builds deepseek-v2 models from GGUF or safetensors.";
        Description::new(identity!("deepseek2", summary, "arXiv:2405.04434"), ["deepseek2", "deepseek_v2"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let mut config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let latent = latent(&metadata, &mut config)?;
        let experts = experts(&metadata)?;
        let shared = metadata.optional_integer("expert_shared_count", "n_shared_experts")?.unwrap_or(0);

        for (part, gguf, hugging_face) in [
            ("attention.query-down", "attn_q_a", "self_attn.q_a_proj"),
            ("attention.query-down-norm", "attn_q_a_norm", "self_attn.q_a_layernorm"),
            ("attention.query-up", "attn_q_b", "self_attn.q_b_proj"),
            ("attention.latent", "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
            ("attention.key-rotated", "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
            ("attention.latent-norm", "attn_kv_a_norm", "self_attn.kv_a_layernorm"),
            ("attention.key-up", "attn_k_b", "self_attn.kv_b_proj"),
            ("attention.value-up", "attn_v_b", "self_attn.kv_b_proj"),
            ("feed-forward.shared.gate", "ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
            ("feed-forward.shared.up", "ffn_up_shexp", "mlp.shared_experts.up_proj"),
            ("feed-forward.shared.down", "ffn_down_shexp", "mlp.shared_experts.down_proj"),
        ] {
            b.name(part, gguf, hugging_face);
        }
        let (ids, positions) = b.decoder(&config)?;
        let mut x = b.embedding(ids, None)?;
        for layer in 0..config.layers as u32 {
            b.layer(Some(layer));
            b.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset: 0.0 });
            let y = b.norm("attention.norm", x)?;
            let y = attention(b, &latent, metadata.is_gguf(), y, positions)?;
            x = b.apply("add", "attention.residual", "residual", [x, y])?;
            b.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset: 0.0 });
            let y = b.norm("feed-forward.norm", x)?;
            let y = match &experts {
                Some(experts) if b.has_experts()? => {
                    let chosen = b.experts(y, experts)?;
                    let width = shared * experts.feed_forward;
                    let always = b.gated_feed_forward("feed-forward.shared", y, "silu", width)?;
                    b.apply("add", "feed-forward.sum", "other", [chosen, always])?
                }
                _ => b.gated_feed_forward("feed-forward", y, "silu", config.feed_forward)?,
            };
            x = b.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        b.layer(None);
        let x = b.norm("norm", x)?;
        let logits = b.head(x, config.tied)?;
        b.output("logits", logits)
    }
}

fn latent(metadata: &Metadata<'_>, config: &mut Config) -> Result<Latent, Error> {
    let rank = metadata.integer("attention.kv_lora_rank", "kv_lora_rank")?;
    let rotated = metadata.integer("rope.dimension_count", "qk_rope_head_dim")?;
    let (plain, value) = match metadata.is_gguf() {
        true => (
            metadata.integer("attention.key_length_mla", "")? - rotated,
            metadata.integer("attention.value_length_mla", "")?,
        ),
        false => (metadata.integer("", "qk_nope_head_dim")?, metadata.integer("", "v_head_dim")?),
    };
    // What the cache keeps, and thus what facts tell of.
    config.head_dim = rotated;
    let rope = rope(metadata, config, ["interleaved", "interleaved"], None)?;
    (config.kv_heads, config.head_dim) = (1, rank + rotated);
    Ok(Latent {
        heads: config.heads,
        rank,
        plain,
        rotated,
        value,
        scale: score_factor(metadata)?.powi(2) / ((plain + rotated) as f64).sqrt(),
        rope,
    })
}

/// Yarn's factor on queries and on keys alike.
fn score_factor(metadata: &Metadata<'_>) -> Result<f64, Error> {
    let stretch = match metadata.optional_real("rope.scaling.factor", "rope_scaling.factor")? {
        Some(factor) => factor,
        None => metadata.optional_real("", "rope_parameters.factor")?.unwrap_or(1.0),
    };
    let multiplier = match metadata.is_gguf() {
        true => metadata.optional_real("rope.scaling.yarn_log_multiplier", "")?.unwrap_or(0.0),
        false => match metadata.optional_real("", "rope_scaling.mscale_all_dim")? {
            Some(share) => 0.1 * share,
            None => 0.1 * metadata.optional_real("", "rope_parameters.mscale_all_dim")?.unwrap_or(0.0),
        },
    };
    Ok(1.0 + multiplier * stretch.max(1.0).ln())
}

fn experts(metadata: &Metadata<'_>) -> Result<Option<Experts>, Error> {
    let Some(mut experts) = Experts::read(metadata)? else { return Ok(None) };
    if let Some(score) = metadata.optional_text("", "scoring_func")?.filter(|score| score != "softmax") {
        return Err(Error::unsupported(format!("scoring_func is `{score}`; supported: softmax")));
    }
    experts.normalise = metadata.optional_flag("expert_weights_norm", "")?.unwrap_or(false);
    experts.scale = metadata.optional_real("expert_weights_scale", "routed_scaling_factor")?.unwrap_or(1.0);
    if metadata.optional_text("", "topk_method")?.is_none_or(|method| method != "greedy") {
        experts.groups = metadata.optional_integer("expert_group_count", "n_group")?.unwrap_or(1);
        experts.top_groups =
            metadata.optional_integer("expert_group_used_count", "topk_group")?.unwrap_or(experts.groups);
    }
    Ok(Some(experts))
}

fn attention(b: &mut Builder, shape: &Latent, gguf: bool, x: ValueId, positions: ValueId) -> Result<ValueId, Error> {
    let Latent { heads, rank, plain, rotated, value, .. } = *shape;
    // The norms inside attention have an epsilon of their own.
    b.norms(Norm { op: "rms-norm", epsilon: 1e-6, offset: 0.0 });
    let down = b.tensor("attention.query-down", "weight")?;
    let (from, tensor) = if b.has(&down) {
        let y = b.linear("attention.query-down", "query", x)?;
        (b.norm("attention.query-down-norm", y)?, b.tensor("attention.query-up", "weight")?)
    } else {
        (x, b.tensor("attention.query", "weight")?)
    };
    let columns = i64::from(b.shape(&tensor)?.get(1).copied().unwrap_or(0));
    // Each head's rows hold what is left alone, then what is rotated.
    let part = |first: i64, count: i64| {
        [
            ("reshape", vec![heads, plain + rotated, columns]),
            ("permute", vec![1, 0, 2]),
            ("rows", vec![first, count]),
            ("permute", vec![1, 0, 2]),
            ("reshape", vec![heads * count, columns]),
        ]
        .map(|(step, numbers)| setting(step, Value::Integers(numbers)))
    };
    let node = b.node("linear", "attention.query", "query").inputs([from]);
    let q = node.weight_of("weight", &tensor, &part(0, plain))?.finish()?;
    let node = b.node("linear", "attention.query-rotated", "query").inputs([from]);
    let q_rotated = node.weight_of("weight", &tensor, &part(plain, rotated))?.finish()?;
    let q_rotated = b.rope("attention.rope-query", q_rotated, positions, &shape.rope)?;

    // In Hugging Face's one tensor each head's rows make its keys, then its values.
    let up = |first: i64, count: i64, axes: [i64; 3]| match gguf {
        true => vec![],
        false => [
            ("reshape", vec![heads, plain + value, rank]),
            ("permute", vec![1, 0, 2]),
            ("rows", vec![first, count]),
            ("permute", axes.to_vec()),
        ]
        .map(|(step, numbers)| setting(step, Value::Integers(numbers)))
        .to_vec(),
    };
    let tensor = b.tensor("attention.key-up", "weight")?;
    let node = b.node("grouped-linear", "attention.key-up", "latent").inputs([q]);
    let q = node.weight_of("weight", &tensor, &up(0, plain, [1, 2, 0]))?.finish()?;
    let join = |b: &mut Builder, name: &str, parts, groups: i64| {
        b.node("concat", name, "other").inputs(parts).attribute("groups", groups).finish()
    };
    let q = join(b, "attention.query-joined", [q, q_rotated], heads)?;

    let kept = b.linear_part("attention.latent", "latent", x, "attention.latent", 0, rank)?;
    let kept = b.norm("attention.latent-norm", kept)?;
    let key = b.linear_part("attention.key-rotated", "key", x, "attention.latent", rank, rotated)?;
    let key = b.rope("attention.rope-key", key, positions, &shape.rope)?;
    let kept = join(b, "attention.latent-joined", [kept, key], 1)?;
    let kept = b.cache("attention.cache", [kept, kept, positions], rank + rotated)?;
    let [k, v, key_positions] = kept;
    let y = b
        .node("attention", "attention.attention", "attention")
        .inputs([q, k, v, positions, key_positions])
        .attribute("heads", heads)
        .attribute("kv-heads", 1i64)
        .attribute("head-dim", rank + rotated)
        .attribute("value-dim", rank)
        .attribute("scale", shape.scale)
        .finish()?;
    let tensor = b.tensor("attention.value-up", "weight")?;
    let node = b.node("grouped-linear", "attention.value-up", "latent").inputs([y]);
    let y = node.weight_of("weight", &tensor, &up(plain, value, [1, 0, 2]))?.finish()?;
    b.linear("attention.output", "output", y)
}

aehost_sdk::family!(Deepseek2);

//! DeepSeek-V2 (arXiv 2405.04434): attention on a latent of few elements that all heads share, and experts beside some that
//! all tokens share.

use aehost_sdk::family::*;

struct Deepseek2;

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

        for part in ["gate", "up", "down"] {
            let of_all = format!("mlp.shared_experts.{part}_proj");
            b.name(&format!("feed-forward.shared.{part}"), &format!("ffn_{part}_shexp"), &of_all);
        }
        let attention = |b: &mut Builder, _: usize, x, positions| b.latent_attention(x, positions, &latent);
        b.pre_norm_decoder(&config, attention, |b, x| match &experts {
            Some(experts) if b.has_experts()? => {
                let chosen = b.experts(x, experts)?;
                let always = b.gated_feed_forward("feed-forward.shared", x, "silu", shared * experts.feed_forward)?;
                b.apply("add", "feed-forward.sum", "other", [chosen, always])
            }
            _ => b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward),
        })
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
        epsilon: 1e-6,
        rope,
        fused: !metadata.is_gguf(),
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

aehost_sdk::family!(Deepseek2);

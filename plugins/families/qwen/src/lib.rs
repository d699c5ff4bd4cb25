//! Qwen 2, 2.5 and 3 (arXiv 2407.10671, 2412.15115, 2505.09388): llama's graph with biases on queries, keys and values and
//! in some models a sliding window in the upper layers; from 3 on with norms on each head of queries and keys instead. Some
//! have experts in some layers or all, those of Qwen 2 beside one that all tokens share.

use aehost_sdk::family::*;

struct Qwen;

impl Family for Qwen {
    fn describe() -> Description {
        let summary = "Builds qwen2 and qwen3 models, with experts too, from GGUF or safetensors.";
        let architectures = ["qwen2", "qwen2moe", "qwen2_moe", "qwen3", "qwen3moe", "qwen3_moe"];
        Description::new(identity!("qwen", summary, "arXiv:2505.09388"), architectures)
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let mut attention = config.attention(rope(&metadata, &config, ["half", "half"], None)?);
        let third = config.architecture.starts_with("qwen3");
        attention.normed = third;
        // GGUF does not tell of the window.
        let slides = metadata.optional_flag("", "use_sliding_window")?.unwrap_or(false);
        let full = metadata.optional_integer("", "max_window_layers")?.unwrap_or(config.layers);
        let windows = metadata.windows(config.layers, |layer| slides && layer >= full)?;
        let mut experts = Experts::read(&metadata)?;
        if let Some(experts) = &mut experts {
            experts.normalise = metadata.optional_flag("", "norm_topk_prob")?.unwrap_or(third && metadata.is_gguf());
        }
        let shared = metadata
            .optional_integer("expert_shared_feed_forward_length", "shared_expert_intermediate_size")?
            .unwrap_or(0);
        b.pre_norm_decoder(&config, attention.with_windows(&windows), |b, x| match &experts {
            Some(experts) if b.has_experts()? => {
                let y = b.experts(x, experts)?;
                if shared == 0 {
                    return Ok(y);
                }
                let z = b.gated_feed_forward("feed-forward.shared", x, "silu", shared)?;
                let share = b.linear("feed-forward.shared.router", "router", x)?;
                let share = b.apply("sigmoid", "feed-forward.shared.share", "activation", [share])?;
                let z = b.apply("mul", "feed-forward.shared.scaled", "other", [z, share])?;
                b.apply("add", "feed-forward.sum", "other", [y, z])
            }
            _ => b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward),
        })
    }
}

aehost_sdk::family!(Qwen);

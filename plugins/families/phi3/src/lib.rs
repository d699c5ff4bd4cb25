//! Phi-3 and Phi-3.5 (arXiv 2404.14219): llama's graph, with queries, keys and values kept as one tensor, gate and up as
//! another, a sliding window in some models, and longrope (arXiv 2402.13753) in those of long context. Longrope rotates
//! otherwise beyond the original context, which would change what was rotated before: that is where the context ends here.

use aehost_sdk::family::*;

struct Phi3;

impl Family for Phi3 {
    fn describe() -> Description {
        let summary = "Builds phi3 models from GGUF or safetensors.";
        Description::new(identity!("phi3", summary, "arXiv:2404.14219"), ["phi3"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let mut config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let attention = config.attention(rope(&metadata, &config, ["half", "half"], None)?);
        let original =
            metadata.optional_integer("rope.scaling.original_context_length", "original_max_position_embeddings")?;
        config.context = original.unwrap_or(config.context).min(config.context);
        let windows = metadata.windows(config.layers, |_| true)?;
        b.pre_norm_decoder(&config, attention.with_windows(&windows), |b, x| {
            b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward)
        })
    }
}

aehost_sdk::family!(Phi3);

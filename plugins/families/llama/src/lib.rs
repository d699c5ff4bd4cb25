//! The llama family: pre-norm decoders with rotary positions, grouped-query attention and a gated feed-forward network
//! (Touvron et al., arXiv 2302.13971 and 2307.09288; Llama 3's rope scaling: arXiv 2407.21783), and Mistral's models, which
//! add a sliding window (arXiv 2310.06825) or experts (Mixtral, arXiv 2401.04088). GGUF has one name for all of them.

use aehost_sdk::family::*;

struct Llama;

impl Family for Llama {
    fn describe() -> Description {
        let summary = "Builds llama, mistral and mixtral models from GGUF or safetensors.";
        Description::new(identity!("llama", summary, "arXiv:2302.13971"), ["llama", "mistral", "mixtral"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let experts = Experts::read(&metadata)?;
        // Only Mistral's configurations have a window.
        let windows = metadata.windows(config.layers, |_| !metadata.is_gguf())?;
        let mut attention = config.attention(rope(&metadata, &config, ["interleaved", "half"], None)?);
        if let Some(scale) = metadata.optional_real("attention.scale", "")?.filter(|scale| *scale != 0.0) {
            attention.scale = scale;
        }
        b.name("feed-forward.router", "ffn_gate_inp", "block_sparse_moe.gate");
        for (part, hugging_face) in [("gate", "w1"), ("up", "w3"), ("down", "w2")] {
            let experts = format!("block_sparse_moe.experts.*.{hugging_face}");
            b.name(&format!("feed-forward.experts.{part}"), &format!("ffn_{part}_exps"), &experts);
        }
        b.pre_norm_decoder(&config, attention.with_windows(&windows), |b, x| match &experts {
            Some(experts) => b.experts(x, experts),
            None => b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward),
        })
    }
}

aehost_sdk::family!(Llama);

#[cfg(test)]
mod tests;

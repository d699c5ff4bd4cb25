//! OLMo 2 (arXiv 2501.00656): norms after each block instead of before it, and on all of the queries and keys at once.

use aehost_sdk::family::*;

struct Olmo2;

impl Family for Olmo2 {
    fn describe() -> Description {
        let summary = "Builds olmo2 models from GGUF or safetensors.";
        Description::new(identity!("olmo2", summary, "arXiv:2501.00656"), ["olmo2"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let mut attention = config.attention(rope(&metadata, &config, ["half", "half"], None)?);
        attention.normed = true;
        b.name("attention.post-norm", "post_attention_norm", "post_attention_layernorm");
        b.name("feed-forward.post-norm", "post_ffw_norm", "post_feedforward_layernorm");

        let (ids, positions) = b.decoder(&config)?;
        b.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset: 0.0 });
        let mut x = b.embedding(ids, None)?;
        for layer in 0..config.layers as u32 {
            b.layer(Some(layer));
            let y = b.self_attention(x, positions, &attention)?;
            let y = b.norm("attention.post-norm", y)?;
            x = b.apply("add", "attention.residual", "residual", [x, y])?;
            let y = b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward)?;
            let y = b.norm("feed-forward.post-norm", y)?;
            x = b.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        b.layer(None);
        let x = b.norm("norm", x)?;
        let logits = b.head(x, config.tied)?;
        b.output("logits", logits)
    }
}

aehost_sdk::family!(Olmo2);

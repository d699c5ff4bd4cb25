//! IBM's Granite 3 language models: llama's graph with factors on the embedding, the scores, the residuals and the logits
//! (muP, arXiv 2408.13359).

use aehost_sdk::family::*;

struct Granite;

impl Family for Granite {
    fn describe() -> Description {
        let summary = "Builds granite models from GGUF or safetensors.";
        Description::new(identity!("granite", summary, "arXiv:2408.13359"), ["granite"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["silu"])?;
        let mut attention = config.attention(rope(&metadata, &config, ["interleaved", "half"], None)?);
        attention.scale = metadata.real("attention.scale", "attention_multiplier")?;
        let embedding = metadata.real("embedding_scale", "embedding_multiplier")?;
        let residual = metadata.real("residual_scale", "residual_multiplier")?;
        let logits = metadata.real("logit_scale", "logits_scaling")?;

        let (ids, positions) = b.decoder(&config)?;
        b.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset: 0.0 });
        let mut x = b.embedding(ids, Some(embedding))?;
        for layer in 0..config.layers as u32 {
            b.layer(Some(layer));
            let y = b.norm("attention.norm", x)?;
            let y = b.self_attention(y, positions, &attention)?;
            let y = b.scale("attention.scale", y, residual)?;
            x = b.apply("add", "attention.residual", "residual", [x, y])?;
            let y = b.norm("feed-forward.norm", x)?;
            let y = b.gated_feed_forward("feed-forward", y, "silu", config.feed_forward)?;
            let y = b.scale("feed-forward.scale", y, residual)?;
            x = b.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        b.layer(None);
        let x = b.norm("norm", x)?;
        let x = b.head(x, config.tied)?;
        let x = b.scale("head.scale", x, 1.0 / logits)?;
        b.output("logits", x)
    }
}

aehost_sdk::family!(Granite);

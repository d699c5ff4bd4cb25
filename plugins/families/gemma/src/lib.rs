//! Gemma 2 and the language models of Gemma 3 (arXiv 2408.00118, 2503.19786): norms before and after each block, an
//! embedding scaled by the root of its width, and sliding windows in most layers. Gemma 2 caps scores and logits; Gemma 3
//! norms queries and keys instead, and rotates with another base in the layers that slide.

use aehost_sdk::family::*;

struct Gemma;

impl Family for Gemma {
    fn describe() -> Description {
        let summary = "Builds gemma2 and gemma3 language models from GGUF or safetensors.";
        let architectures = ["gemma2", "gemma3", "gemma3_text"];
        Description::new(identity!("gemma", summary, "arXiv:2503.19786"), architectures)
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_activation", &["gelu_pytorch_tanh"])?;
        let third = config.architecture != "gemma2";
        let mut global = config.attention(rope(&metadata, &config, ["half", "half"], Some("full_attention"))?);
        global.normed = third;
        global.softcap = metadata.optional_real("attn_logit_softcapping", "attn_logit_softcapping")?;
        // GGUF does not say; the largest models scale by the width of a head's share of the hidden state.
        global.scale = match metadata.optional_real("", "query_pre_attn_scalar")? {
            Some(scalar) => 1.0 / scalar.sqrt(),
            None if config.layers == if third { 62 } else { 46 } => {
                ((config.heads as f64) / config.hidden as f64).sqrt()
            }
            None => global.scale,
        };
        let mut local = global.clone();
        if third {
            let base = local_base(&metadata)?.unwrap_or(10_000.0);
            local.rope = vec![setting("head-dim", config.head_dim), setting("base", base), setting("pairing", "half")];
        }
        let period = match metadata.optional_integer("attention.sliding_window_pattern", "sliding_window_pattern")? {
            Some(period) => period.max(1),
            None if third => 6,
            None => 2,
        };
        let windows = metadata.windows(config.layers, |layer| (layer + 1) % period != 0)?;
        let cap = metadata.optional_real("final_logit_softcapping", "final_logit_softcapping")?;

        b.name("attention.post-norm", "post_attention_norm", "post_attention_layernorm");
        b.name("feed-forward.norm", "ffn_norm", "pre_feedforward_layernorm");
        b.name("feed-forward.post-norm", "post_ffw_norm", "post_feedforward_layernorm");
        let (ids, positions) = b.decoder(&config)?;
        // The weights lack a 1, which the converter to GGUF adds.
        let offset = if metadata.is_gguf() { 0.0 } else { 1.0 };
        b.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset });
        let mut x = b.embedding(ids, Some((config.hidden as f64).sqrt()))?;
        for (layer, window) in (0..).zip(windows) {
            b.layer(Some(layer));
            local.window = window;
            let y = b.norm("attention.norm", x)?;
            let y = b.self_attention(y, positions, if window > 0 { &local } else { &global })?;
            let y = b.norm("attention.post-norm", y)?;
            x = b.apply("add", "attention.residual", "residual", [x, y])?;
            let y = b.norm("feed-forward.norm", x)?;
            let y = b.gated_feed_forward("feed-forward", y, "gelu", config.feed_forward)?;
            let y = b.norm("feed-forward.post-norm", y)?;
            x = b.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        b.layer(None);
        let x = b.norm("norm", x)?;
        let mut logits = b.head(x, config.tied)?;
        if let Some(cap) = cap {
            logits = b.softcap("head.cap", logits, cap)?;
        }
        b.output("logits", logits)
    }
}

/// The rope's base in layers that slide.
fn local_base(metadata: &Metadata<'_>) -> Result<Option<f64>, Error> {
    match metadata.optional_real("rope.freq_base_swa", "rope_parameters.sliding_attention.rope_theta")? {
        Some(base) => Ok(Some(base)),
        None => metadata.optional_real("", "rope_local_base_freq"),
    }
}

aehost_sdk::family!(Gemma);

//! StarCoder2 (arXiv 2402.19173): layer norms, biases everywhere, and a feed-forward network without a gate.

use aehost_sdk::family::*;

struct Starcoder2;

impl Family for Starcoder2 {
    fn describe() -> Description {
        let summary = "Builds starcoder2 models from GGUF or safetensors.";
        Description::new(identity!("starcoder2", summary, "arXiv:2402.19173"), ["starcoder2"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let metadata = Metadata::new(checkpoint)?;
        let config = Config::read(&metadata)?;
        metadata.check_activation("hidden_act", &["gelu_pytorch_tanh"])?;
        let mut attention = config.attention(rope(&metadata, &config, ["half", "half"], None)?);
        attention.window = metadata.optional_integer("attention.sliding_window", "sliding_window")?.unwrap_or(0);
        b.name("feed-forward.up", "ffn_up", "mlp.c_fc");
        b.name("feed-forward.down", "ffn_down", "mlp.c_proj");

        let (ids, positions) = b.decoder(&config)?;
        b.norms(Norm { op: "layer-norm", epsilon: config.epsilon, offset: 0.0 });
        let mut x = b.embedding(ids, None)?;
        for layer in 0..config.layers as u32 {
            b.layer(Some(layer));
            let y = b.norm("attention.norm", x)?;
            let y = b.self_attention(y, positions, &attention)?;
            x = b.apply("add", "attention.residual", "residual", [x, y])?;
            let y = b.norm("feed-forward.norm", x)?;
            let y = b.linear("feed-forward.up", "up", y)?;
            let y = b.activation("feed-forward.activation", "gelu", y)?;
            let y = b.linear("feed-forward.down", "down", y)?;
            x = b.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        b.layer(None);
        let x = b.norm("norm", x)?;
        let logits = b.head(x, config.tied)?;
        b.output("logits", logits)
    }
}

aehost_sdk::family!(Starcoder2);

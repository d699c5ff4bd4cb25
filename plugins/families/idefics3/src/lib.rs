//! Idefics3 and SmolVLM (arXiv 2408.12637, 2504.05299): a SigLIP tower, whose patches by blocks become rows of a llama's
//! stream, and images in tiles beside a small view of the whole.

mod layout;

use aehost_sdk::family::*;

struct Idefics3;

/// Pillow's numbers of its filters, as preprocessor_config.json has them.
const FILTERS: [(i64, &str); 4] = [(0, "nearest"), (1, "lanczos"), (2, "bilinear"), (3, "bicubic")];

impl Family for Idefics3 {
    fn describe() -> Description {
        let summary = "Builds idefics3 and smolvlm vision-language models from safetensors.";
        Description::new(identity!("idefics3", summary, "arXiv:2408.12637"), ["idefics3", "smolvlm"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        let text = Metadata::part(checkpoint, "text_config")?;
        let config = Config::read(&text)?;
        text.check_activation("hidden_act", &["silu"])?;
        let vision = Metadata::part(checkpoint, "vision_config")?;
        vision.check_activation("hidden_act", &["gelu_pytorch_tanh"])?;
        let or = |key: &str, default: i64| Ok::<_, Error>(vision.optional_integer("", key)?.unwrap_or(default));
        // What configurations leave out is as in transformers.
        let tower = Tower {
            layers: or("num_hidden_layers", 12)?,
            hidden: or("hidden_size", 1152)?,
            heads: or("num_attention_heads", 16)?,
            patch: or("patch_size", 32)?,
            epsilon: vision.optional_real("", "layer_norm_eps")?.unwrap_or(1e-6),
        };
        let block = checkpoint.optional_integer("scale_factor")?.unwrap_or(2);
        images(checkpoint, b, &tower, block)?;

        b.part("model.vision_model.encoder", "image.");
        b.name("patches", "", "model.vision_model.embeddings.patch_embedding");
        b.name("places", "", "model.vision_model.embeddings.position_embedding");
        b.name("norm", "", "model.vision_model.post_layernorm");
        b.tower(&tower)?;

        b.part("model.connector", "image.");
        b.name("projection", "", "model.connector.modality_projection.proj");
        b.function("project-image")?;
        let width = tower.hidden * block * block;
        let features = b.input("features", "float32", &["tokens", &width.to_string()])?;
        let rows = b.linear("projection", "other", features)?;
        b.output("rows", rows)?;

        b.part("model.text_model", "");
        let (ids, positions) = b.decoder(&config)?;
        let x = b.embedding(ids, None)?;
        let x = b.overlay(x, config.hidden)?;
        let attention = config.attention(rope(&text, &config, ["half", "half"], None)?);
        b.pre_norm_layers(&config, x, positions, attention.with_windows(&[]), |b, x| {
            b.gated_feed_forward("feed-forward", x, "silu", config.feed_forward)
        })
    }

    fn layout(facts: &dyn Facts, width: u32, height: u32) -> Result<Layout, Error> {
        layout::layout(facts, width, height)
    }
}

/// Says how images are made ready.
fn images(checkpoint: &dyn Checkpoint, b: &mut Builder, tower: &Tower, block: i64) -> Result<(), Error> {
    let side = checkpoint.optional_integer("preprocessor.max_image_size.longest_edge")?.unwrap_or(364);
    let longest = checkpoint.optional_integer("preprocessor.size.longest_edge")?.unwrap_or(4 * 364);
    let tiles = checkpoint.optional_flag("preprocessor.do_image_splitting")?.unwrap_or(true);
    if tower.patch < 1 || block < 1 || side < 1 || side % (tower.patch * block) != 0 {
        return Err(Error::unsupported(format!(
            "tiles of {side} pixels (preprocessor_config.json: max_image_size) are no whole blocks of {block} x {block} patches of {} pixels",
            tower.patch
        )));
    }
    let channels = |key: &str| -> Result<Vec<f64>, Error> {
        let numbers = checkpoint.optional_reals(key)?.unwrap_or_else(|| vec![0.5; 3]);
        let wrong = || Error::invalid(format!("`{key}` must have three numbers"));
        if numbers.len() == 3 { Ok(numbers) } else { Err(wrong()) }
    };
    let number = checkpoint.optional_integer("preprocessor.resample")?.unwrap_or(1);
    let filter = FILTERS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    let filter =
        filter.ok_or_else(|| Error::unsupported(format!("`preprocessor.resample` is {number}; supported: 0 to 3")))?;
    b.fact("image.patch", tower.patch)?;
    b.fact("image.block", block)?;
    b.fact("image.fold", block * block)?;
    b.fact("image.filter", filter)?;
    b.fact("image.mean", Value::Reals(channels("preprocessor.image_mean")?))?;
    b.fact("image.deviation", Value::Reals(channels("preprocessor.image_std")?))?;
    b.fact("image.token", "<image>")?;
    b.fact("image.side", side)?;
    b.fact("image.longest-edge", longest)?;
    b.fact("image.tiles", tiles)
}

aehost_sdk::family!(Idefics3);

#[cfg(test)]
mod tests;

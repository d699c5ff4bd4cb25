//! Drops the layers that change the residual stream least. Block influence = 1 - mean cosine between a layer's input and
//! output (Men et al.: ShortGPT, arXiv 2403.03853, section 3), measured on calibration text.

use aehost_sdk::technique::*;

struct DepthPruning;

impl Technique for DepthPruning {
    fn describe() -> Description {
        let summary = "Drops the layers with the least influence on the residual stream.";
        Description::new(identity!("depth-pruning", summary, "arXiv:2403.03853"), Stage::Architecture)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let layers = layers(model)?.len() as i64;
        if layers < 3 {
            return Err(Error::not_applicable(format!("the model has {layers} layers; dropping one needs at least 3")));
        }
        Ok(vec![integer("drop", "Layers to drop.", 1..=layers / 3).default((layers / 10).max(1)).into()])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let drop = settings.integer("drop")? as usize;
        let layers = layers(&model.model())?;
        log::progress(0.0, "measuring the influence of each layer");
        let dropped = least_influential(model, &layers, drop)?;
        // From the last layer to the first: the output of a dropped layer becomes its input, which an earlier drop replaces.
        for layer in dropped.iter().rev() {
            model.replace_uses(layer.output, layer.input, &[])?;
        }
        model.check()?;
        let numbers: Vec<String> = dropped.iter().map(|layer| layer.number.to_string()).collect();
        aehost_sdk::info!("dropped layers {}", numbers.join(", "));
        model.state("layers", (layers.len() - drop) as i64)
    }
}

aehost_sdk::technique!(DepthPruning);

//! Rounds each weight of the layers to the nearest code of its group: the plain way, which other quantisers are held to.
//! The importance of input columns may weigh the choice of scales.

use aehost_sdk::technique::*;
use std::collections::BTreeMap;

/// Calibration tokens behind the importance of columns.
const TOKENS: u32 = 2048;

struct RoundToNearest;

impl Technique for RoundToNearest {
    fn describe() -> Description {
        let summary = "Rounds weights to the nearest of evenly spaced codes, in groups with a scale each.";
        let reference = "arXiv:2103.13630";
        Description::new(identity!("round-to-nearest", summary, reference), Stage::Inference)
            .order(10)
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters = quantiser::parameters(model, &[4, 8, 3, 2])?;
        let summary = "Choose scales by the input's second moment on calibration text.";
        parameters.push(flag("importance", summary).into());
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = Affine::of(settings)?;
        let targets = quantiser::targets(model, &form)?;
        let inputs = targets.iter().filter_map(|(matrix, _)| matrix.input);
        let importances = match settings.flag("importance")? {
            true => collect_each(model, "second-moment", inputs, TOKENS)?,
            false => BTreeMap::new(),
        };
        for (matrix, form) in &targets {
            let importance = matrix.input.and_then(|input| importances.get(&input));
            weights::encode(model, &matrix.weight, &form.representation(), importance)?;
        }
        quantiser::round_outer(model, settings)
    }
}

aehost_sdk::technique!(RoundToNearest);

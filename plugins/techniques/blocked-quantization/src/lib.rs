//! Stores weights in ggml's block formats, each group of weights in a format of its own: attention, feed-forward,
//! embedding and head. The importance of input columns, their second moment on calibration text, may weigh the rounding
//! errors (llama.cpp's importance matrix).

mod formats;

use aehost_sdk::technique::*;
use std::collections::BTreeMap;

/// Calibration tokens behind the importance of columns.
const TOKENS: u32 = 2048;
/// The choice that leaves a group as it is.
const KEEP: &str = "keep";

struct BlockedQuantization;

impl Technique for BlockedQuantization {
    fn describe() -> Description {
        let summary = "Stores weights in ggml's block formats, chosen for each group of weights.";
        let reference = "https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c";
        let identity = identity!("blocked-quantization", summary, reference);
        Description::new(identity, Stage::Inference).order(10).provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let matrices = matrices(model)?;
        let mut parameters: Vec<Parameter> = Vec::new();
        for group in [Group::Attention, Group::FeedForward, Group::Embedding, Group::Head] {
            let members: Vec<Matrix> = matrices.iter().filter(|m| m.group == group).cloned().collect();
            let formats = formats::formats(&members);
            // The first that fits is the safest.
            if let Some(safest) = formats.first() {
                let choices = std::iter::once(KEEP).chain(formats.iter().copied());
                parameters.push(choice(group.name(), summary(group), choices).ordered().default(*safest).into());
            }
        }
        if parameters.is_empty() {
            return Err(Error::not_applicable("no group of weights has a smaller block format"));
        }
        let importance = flag("importance", "Weigh rounding errors by the input's second moment on calibration text.");
        parameters.push(importance.into());
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let mut wanted: Vec<(Matrix, &str)> = Vec::new();
        for matrix in matrices(&model.model())? {
            if settings.get(matrix.group.name()).is_some() {
                let format = settings.text(matrix.group.name())?;
                wanted.extend((format != KEEP).then_some((matrix, format)));
            }
        }
        if wanted.is_empty() {
            return Err(Error::not_applicable("every group of weights is left as it is"));
        }
        let inputs = wanted.iter().filter_map(|(matrix, _)| matrix.input);
        let importances = if settings.flag("importance")? {
            collect_each(model, "second-moment", inputs, TOKENS)?
        } else {
            BTreeMap::new()
        };
        for (done, (matrix, format)) in wanted.iter().enumerate() {
            log::progress(done as f64 / wanted.len() as f64, "choosing block formats");
            let importance = matrix.input.and_then(|input| importances.get(&input));
            weights::encode(model, &matrix.weight, &Representation::blocked(format), importance).map_err(|error| {
                // An earlier technique made the rows another length.
                if error.code == "unsupported" { Error::not_applicable(error.message) } else { error }
            })?;
        }
        Ok(())
    }
}

/// The summary of a group's parameter.
fn summary(group: Group) -> &'static str {
    match group {
        Group::Attention => "Format of the queries', keys', values' and outputs' weights.",
        Group::FeedForward => "Format of the feed-forward networks' weights, experts' too.",
        Group::Embedding => "Format of the embedding, and of the head where it is the same weight.",
        Group::Head => "Format of the head.",
    }
}

aehost_sdk::technique!(BlockedQuantization);

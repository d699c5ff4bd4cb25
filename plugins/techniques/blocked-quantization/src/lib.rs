//! Stores weights in ggml's block formats, each group of weights in a format of its own: attention, feed-forward,
//! embedding and head. The importance of input columns, their second moment on calibration text, may weigh the rounding
//! errors (llama.cpp's importance matrix).

mod groups;

use aehost_sdk::technique::*;
use groups::Member;
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
        let mut parameters: Vec<Parameter> = Vec::new();
        for (group, members) in groups::find(model) {
            let weights = members.iter().map(|m| weights::describe(model, &m.weight)).collect::<Result<Vec<_>, _>>()?;
            let formats = groups::formats(&weights);
            // The first that fits is the safest.
            if let Some(safest) = formats.first() {
                let choices = std::iter::once(KEEP).chain(formats.iter().copied());
                let parameter = choice(group.name(), group.summary(), choices).ordered().default(*safest);
                parameters.push(parameter.into());
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
        let current = model.model();
        let mut wanted: Vec<(Member, &str)> = Vec::new();
        for (group, members) in groups::find(&current) {
            if settings.get(group.name()).is_some() {
                let format = settings.text(group.name())?;
                wanted.extend(members.into_iter().filter(|_| format != KEEP).map(|member| (member, format)));
            }
        }
        if wanted.is_empty() {
            return Err(Error::not_applicable("every group of weights is left as it is"));
        }
        let importances = if settings.flag("importance")? { importances(model, &wanted)? } else { BTreeMap::new() };
        for (done, (member, format)) in wanted.iter().enumerate() {
            log::progress(done as f64 / wanted.len() as f64, "choosing block formats");
            let importance = member.input.and_then(|input| importances.get(&input));
            weights::encode(model, &member.weight, &Representation::blocked(format), importance)?;
        }
        Ok(())
    }
}

/// The second moment of every input of the wanted weights, one pass over the calibration text for all.
fn importances(model: &Editor, wanted: &[(Member, &str)]) -> Result<BTreeMap<ValueId, Tensor>, Error> {
    let mut inputs: Vec<ValueId> = wanted.iter().filter_map(|(member, _)| member.input).collect();
    inputs.sort_unstable();
    inputs.dedup();
    let second_moment =
        |at: &ValueId| Wanted { statistic: "second-moment".into(), at: *at, against: None, settings: vec![] };
    let wanted: Vec<Wanted> = inputs.iter().map(second_moment).collect();
    let statistics = calibration::collect(model, &wanted, TOKENS)?;
    Ok(inputs.into_iter().zip(statistics.values).collect())
}

aehost_sdk::technique!(BlockedQuantization);

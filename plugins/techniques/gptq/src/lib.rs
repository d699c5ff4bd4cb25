//! GPTQ (Frantar et al., arXiv:2210.17323, section 3): weights are rounded a column at a time, and the columns that follow
//! make up for each one's error as the Gram matrix of the layer's inputs says. Layers are taken in order, each with the
//! inputs that the rounded layers before it give.

mod rounding;

use aehost_sdk::technique::*;
use rounding::Rounding;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Calibration tokens behind a Gram matrix.
const TOKENS: u32 = 4096;

struct Gptq;

impl Technique for Gptq {
    fn describe() -> Description {
        let summary = "Rounds weights column by column; the columns left make up for the error on calibration text.";
        Description::new(identity!("gptq", summary, "arXiv:2210.17323"), Stage::Inference)
            .order(10)
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters = quantiser::parameters(model, &[4, 3, 2, 8])?;
        parameters.extend([
            real("damping", "Share of the Gram matrix's mean diagonal that is added to it.", 0.001..=0.1)
                .log()
                .default(0.01)
                .into(),
            flag("activation-order", "Round the columns with the largest inputs first, on scales fixed before.").into(),
            flag("sequential", "Take a layer's inputs from the rounded layers before it.").default(true).into(),
        ]);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = Affine::of(settings)?;
        let damping = settings.real("damping")?;
        let by_activation = settings.flag("activation-order")?;
        let targets = quantiser::targets(model, &form)?;
        let before = model.fork();
        let seen = if settings.flag("sequential")? { model } else { &before };
        let mut done = 0;
        for layer in targets.chunk_by(|(a, _), (b, _)| a.layer == b.layer) {
            let grams = collect_each(seen, "gram", layer.iter().filter_map(|(matrix, _)| matrix.input), TOKENS)?;
            let mut ways: BTreeMap<ValueId, Way> = BTreeMap::new();
            for (matrix, form) in layer {
                log::progress(done as f64 / targets.len() as f64, "rounding with error feedback");
                done += 1;
                let Some((input, gram)) = matrix.input.and_then(|input| Some((input, grams.get(&input)?))) else {
                    weights::encode(model, &matrix.weight, &form.representation(), None)?;
                    continue;
                };
                let failed = |error: Error| error.within(cannot(matrix));
                let way = match ways.entry(input) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(Way::new(gram, damping, by_activation).map_err(failed)?),
                };
                way.round(model, matrix, *form).map_err(failed)?;
            }
        }
        quantiser::round_outer(model, settings)
    }
}

fn cannot(matrix: &Matrix) -> String {
    let place = matrix.layer.map(|layer| format!(" of layer {layer}")).unwrap_or_default();
    format!("weight `{}`{place} cannot be rounded so; raise damping, or give other calibration text", matrix.weight)
}

/// How the columns that multiply one value are rounded.
struct Way {
    /// Columns, the first to be rounded last; none: as they are.
    order: Option<Vec<u32>>,
    feedback: Feedback,
    /// The Gram matrix's diagonal, of the columns as they are.
    importance: Vec<f32>,
}

impl Way {
    fn new(gram: &Tensor, damping: f64, by_activation: bool) -> Result<Self, Error> {
        let importance = gram.diagonal()?.to_f32()?;
        if !by_activation {
            return Ok(Self { order: None, feedback: Feedback::new(gram, damping)?, importance });
        }
        let order = rounding::ascending(&importance);
        let feedback = Feedback::new(&gram.take(0, &order)?.take(1, &order)?, damping)?;
        Ok(Self { order: Some(order), feedback, importance })
    }

    fn round(&self, model: &Editor, matrix: &Matrix, form: Affine) -> Result<(), Error> {
        let tensor = read(model, &matrix.weight)?;
        let mut rounding = Rounding::new(matrix.rows() as usize, matrix.columns() as usize, form, &self.importance);
        let tensor = match &self.order {
            Some(order) => {
                rounding.fix(&tensor.to_f32()?, order);
                tensor.take(1, order)?
            }
            None => tensor,
        };
        self.feedback.run(tensor, &mut rounding)?;
        store_codes(model, matrix, &rounding.codes)
    }
}

aehost_sdk::technique!(Gptq);

//! Stores the layers' matrices in few bits and trains adapters beside them, which stay (QLoRA, Dettmers et al.,
//! arXiv:2305.14314). Adapters may begin at what rounding lost (LoftQ, Li et al., arXiv:2310.08659, algorithm 1); trained towards
//! the base model they restore it.

use aehost_sdk::technique::*;
use aehost_sdk::{Condition, Random};

/// Times that a matrix is rounded and its adapter fitted to the rest, in turn.
const ROUNDS: usize = 3;

struct Qlora;

impl Technique for Qlora {
    fn describe() -> Description {
        let summary = "Stores matrices in few bits and trains low-rank adapters beside them.";
        Description::new(identity!("qlora", summary, "arXiv:2305.14314"), Stage::FineTuning)
            .order(10)
            .after("lora")
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let schedule = FineTuning::parameters(model, facts, 5e-4)?;
        let codes = "Codes of 4 bits with the table of NF4, or evenly spaced ones.";
        let mut parameters: Vec<Parameter> = vec![choice("codes", codes, ["nf4", "affine"]).into()];
        for mut parameter in quantiser::parameters(model, &[4, 3, 2])? {
            if ["bits", "symmetric"].contains(&parameter.name.as_str()) {
                let values = vec!["affine".into()];
                parameter.active_when.push(Condition { parameter: "codes".into(), values });
            }
            parameters.push(parameter);
        }
        parameters.extend(AdapterForm::parameters(model)?);
        parameters.push(choice("initial", "Nothing, or what rounding loses.", ["lost", "zero"]).into());
        parameters.extend(schedule);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = AdapterForm::of(settings)?;
        let adapted: Vec<String> = form.targets(model)?.into_iter().map(|matrix| matrix.weight).collect();
        let affine = match settings.text("codes")? {
            "affine" => Affine::of(settings)?,
            _ => Affine { bits: 4, group: settings.integer("group")? as usize, symmetric: true },
        };
        let table = settings.text("codes")? == "nf4";
        let lost = settings.text("initial")? == "lost";
        let targets = quantiser::targets(model, &affine)?;
        let mut random = Random::new(0);
        let mut adapters = Vec::new();
        let count = targets.len();
        for (i, (matrix, affine)) in targets.into_iter().enumerate() {
            log::progress(i as f64 / count as f64, "rounding matrices");
            let codes = match table {
                true => Representation::codebook(affine.group as i64, None),
                false => affine.representation(),
            };
            if !adapted.contains(&matrix.weight) {
                weights::encode(model, &matrix.weight, &codes, None)?;
                continue;
            }
            let [down, up] = match lost {
                true => take_lost(model, &matrix, &codes, &form)?,
                false => {
                    weights::encode(model, &matrix.weight, &codes, None)?;
                    form.blank(&matrix, &mut random)?
                }
            };
            adapters.push(Adapter { matrix, down, up });
        }
        quantiser::round_outer(model, settings)?;
        form.train(model, adapters, settings, false)
    }
}

/// Rounds a matrix, and gives an adapter near to what that loses.
fn take_lost(
    model: &Editor,
    matrix: &Matrix,
    codes: &Representation,
    form: &AdapterForm,
) -> Result<[Tensor; 2], Error> {
    let (numbers, dtype) = (read(model, &matrix.weight)?, model.dtype_of(&matrix.weight)?);
    let mut adapter = None;
    for _ in 0..ROUNDS {
        if let Some(adapter) = &adapter {
            let rest = numbers.binary("sub", &form.product(adapter)?)?;
            weights::put(model, &matrix.weight, &rest, &dtype)?;
        }
        weights::encode(model, &matrix.weight, codes, None)?;
        adapter = Some(form.principal(&numbers.binary("sub", &read(model, &matrix.weight)?)?)?);
    }
    adapter.ok_or_else(|| Error::new("internal", "there are rounds"))
}

aehost_sdk::technique!(Qlora);

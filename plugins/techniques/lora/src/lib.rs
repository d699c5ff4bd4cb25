//! Trains a thin pair of matrices beside each matrix of the layers, and adds it to them (LoRA, Hu et al., arXiv:2106.09685). It
//! may begin at the matrix's own largest directions (PiSSA, arXiv:2404.02948), learn norms of rows apart from their directions (DoRA,
//! arXiv:2402.09353), and learn from the base model instead of the data, which restores what techniques before it have lost.

use aehost_sdk::Random;
use aehost_sdk::technique::*;

struct Lora;

impl Technique for Lora {
    fn describe() -> Description {
        let summary = "Trains low-rank adapters of the layers' matrices on the study's training data.";
        Description::new(identity!("lora", summary, "arXiv:2106.09685"), Stage::FineTuning)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let schedule = FineTuning::parameters(model, facts, 5e-4)?;
        let mut parameters = AdapterForm::parameters(model)?;
        parameters.extend([
            choice("initial", "Nothing, or the matrix's largest directions.", ["zero", "principal"]).into(),
            flag("merge", "Add adapters to their matrices in the end, so that they cost nothing.").default(true).into(),
        ]);
        parameters.extend(schedule);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = AdapterForm::of(settings)?;
        let targets = form.targets(model)?;
        let principal = settings.text("initial")? == "principal";
        let mut random = Random::new(0);
        let mut adapters = Vec::new();
        let count = targets.len();
        for (i, matrix) in targets.into_iter().enumerate() {
            log::progress(i as f64 / count as f64, "inserting adapters");
            let [down, up] =
                if principal { take_principal(model, &matrix, &form)? } else { form.blank(&matrix, &mut random)? };
            adapters.push(Adapter { matrix, down, up });
        }
        form.train(model, adapters, settings, settings.flag("merge")?)
    }
}

/// Takes the largest directions out of a matrix, and gives them as an adapter.
fn take_principal(model: &Editor, matrix: &Matrix, form: &AdapterForm) -> Result<[Tensor; 2], Error> {
    let numbers = read(model, &matrix.weight)?;
    let adapter = form.principal(&numbers)?;
    let rest = numbers.binary("sub", &form.product(&adapter)?)?;
    weights::put(model, &matrix.weight, &rest, &model.dtype_of(&matrix.weight)?)?;
    Ok(adapter)
}

aehost_sdk::technique!(Lora);

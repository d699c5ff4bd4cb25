//! Gives each matrix bits of its own, so that the model's divergence is the least that a size allows (after HAWQ-V2: Dong et al.,
//! arXiv:1911.03852, which takes traces of the Hessian for what is measured here). A matrix's divergence is measured once, in few
//! bits, and grows with the squared error of its outputs; the best of all combinations is found by an exact solver.

mod errors;
mod knapsack;
mod sensitivity;

use aehost_sdk::technique::*;
use errors::Form;
use knapsack::Candidate;
use sensitivity::Place;
use std::collections::BTreeMap;

/// Calibration tokens behind the importance of columns.
const TOKENS: u32 = 2048;
/// Calibration tokens behind a divergence; there are many of them to measure.
const MEASURED: u32 = 128;
/// Bits of codes.
const BITS: [u32; 4] = [2, 3, 4, 8];
/// Bits in which divergences are measured: so few that they stand out, and still so many that they add up.
const PROBE: u32 = 3;

struct MixedPrecision;

impl Technique for MixedPrecision {
    fn describe() -> Description {
        let summary = "Gives each matrix bits of its own, for the least divergence in a number of bits a weight.";
        Description::new(identity!("mixed-precision", summary, "arXiv:1911.03852"), Stage::Inference)
            .order(10)
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut common = quantiser::parameters(model, &[4])?;
        common.retain(|parameter| parameter.name != "bits");
        let budget = "Bits a weight of the layers' matrices, scales included, all together.";
        let mut parameters: Vec<Parameter> = vec![real("budget", budget, 2.5..=8.5).default(4.5).into()];
        parameters.append(&mut common);
        let summary = "Choose for each matrix whether its groups are of this size, or smaller.";
        parameters.push(flag("smaller-groups", summary).default(true).into());
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let probe =
            Affine { bits: PROBE, group: settings.integer("group")? as usize, symmetric: settings.flag("symmetric")? };
        let smaller = settings.flag("smaller-groups")?;
        let targets = quantiser::targets(model, &probe)?;
        let inputs = targets.iter().filter_map(|(matrix, _)| matrix.input);
        let importances = collect_each(model, "second-moment", inputs, TOKENS)?;
        let importance = |matrix: &Matrix| matrix.input.and_then(|input| importances.get(&input));
        let mut forms: Vec<Vec<Form>> = Vec::new();
        for (done, (matrix, probe)) in targets.iter().enumerate() {
            log::progress(0.3 * done as f64 / targets.len() as f64, "rounding in all forms");
            let tried = candidates(*probe, if smaller { 32 } else { probe.group });
            forms.push(errors::forms(model, matrix, &tried, importance(matrix))?);
        }
        let errors: Vec<f64> = forms.iter().zip(&targets).map(|(forms, (_, probe))| at(forms, probe)).collect();

        let places: Vec<Place> = targets.iter().map(|(m, _)| (m.layer.unwrap_or(u32::MAX), m.role.clone())).collect();
        let inner = sensitivity::inner(&places);
        let parts = sensitivity::parts(&places);
        let mut measured = BTreeMap::new();
        for (done, part) in parts.iter().enumerate() {
            log::progress(0.3 + 0.6 * done as f64 / parts.len() as f64, "measuring what rounding does");
            let trial = model.fork();
            for (index, (matrix, probe)) in targets.iter().enumerate() {
                if part.holds(index, &places[index], inner[index]) {
                    weights::encode(&trial, &matrix.weight, &probe.representation(), importance(matrix))?;
                }
            }
            measured.insert(part.clone(), calibration::divergence(&trial, MEASURED)?);
        }
        if let Some((part, bad)) = measured.iter().find(|(_, divergence)| !divergence.is_finite()) {
            let message =
                format!("the divergence with {part:?} rounded is {bad}: an earlier technique broke the model");
            return Err(Error::new("diverged", message));
        }
        let divergences = sensitivity::shares(&places, &errors, &measured);
        choose(&targets, &forms, &errors, &divergences, settings.real("budget")?)?.iter().zip(&targets).try_for_each(
            |(form, (matrix, _))| weights::encode(model, &matrix.weight, &form.representation(), importance(matrix)),
        )?;
        quantiser::round_outer(model, settings)
    }
}

/// All bits, in groups of this size and, down to the smallest, its halves.
fn candidates(form: Affine, smallest: usize) -> Vec<Affine> {
    let groups =
        std::iter::successors(Some(form.group), |group| Some(group / 2)).take_while(|group| *group >= smallest);
    groups.flat_map(|group| BITS.map(|bits| Affine { bits, group, ..form })).collect()
}

/// The error in one form.
fn at(forms: &[Form], form: &Affine) -> f64 {
    forms.iter().find(|known| known.form == *form).map_or(0.0, |known| known.error)
}

/// The form of each matrix. Errors: not-applicable where the budget is too small.
fn choose(
    targets: &[(Matrix, Affine)],
    forms: &[Vec<Form>],
    errors: &[f64],
    divergences: &[f64],
    budget: f64,
) -> Result<Vec<Affine>, Error> {
    let items: Vec<Vec<Candidate>> = forms
        .iter()
        .zip(errors.iter().zip(divergences))
        .map(|(forms, (error, divergence))| {
            let cost = |form: &Form| if *error > 0.0 { divergence * form.error / error } else { 0.0 };
            forms.iter().map(|form| Candidate { size: form.bytes, cost: cost(form) }).collect()
        })
        .collect();
    let numbers: f64 = targets.iter().map(|(m, _)| f64::from(m.rows()) * f64::from(m.columns())).sum();
    let choice = knapsack::solve(&items, (budget * numbers / 8.0) as u64).ok_or_else(|| {
        let least: u64 = items.iter().filter_map(|item| item.iter().map(|c| c.size).min()).sum();
        let bits = least as f64 * 8.0 / numbers;
        Error::not_applicable(format!(
            "budget is {budget} bits a weight, but 2 bits and scales take {bits:.3}: raise it"
        ))
    })?;
    let chosen = |of: fn(&Candidate) -> f64| items.iter().zip(&choice).map(|(item, c)| of(&item[*c])).sum::<f64>();
    let bits = chosen(|c| c.size as f64) * 8.0 / numbers;
    aehost_sdk::info!("{bits:.3} bits a weight, for {:.4} nats expected of the sum", chosen(|c| c.cost));
    Ok(forms.iter().zip(choice).map(|(forms, c)| forms[c].form).collect())
}

aehost_sdk::technique!(MixedPrecision);

//! Gives each matrix bits of its own, so that the model's divergence is the least that a size allows (after HAWQ-V2: Dong et al.,
//! arXiv:1911.03852, which takes traces of the Hessian for what is measured here). A matrix's divergence is measured once, in few
//! bits, and grows with the squared error of its outputs; the best of all combinations is found by an exact solver.

mod errors;
mod sensitivity;

use aehost_sdk::technique::*;
use errors::Form;
use sensitivity::Place;
use std::collections::BTreeMap;

/// Calibration tokens behind the importance of columns.
const TOKENS: u32 = 2048;
/// Calibration tokens behind a divergence; there are many of them to measure.
const MEASURED: u32 = 128;
/// Calibration tokens on which what was found is compared.
const COMPARED: u32 = 512;
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
                format!("the divergence with {part:?} rounded is {}: an earlier technique broke the model", *bad);
            return Err(Error::new("diverged", message));
        }
        let divergences = sensitivity::shares(&places, &errors, &measured);
        let budget = settings.real("budget")?;
        let plans = plans(&targets, &forms, &errors, &divergences, budget);
        // What is measured is rounded alone; together, few bits may do more harm than the sum says.
        let mut best: Option<(f64, Editor)> = None;
        for plan in &plans {
            let trial = model.fork();
            for (form, (matrix, _)) in plan.iter().zip(&targets) {
                weights::encode(&trial, &matrix.weight, &form.representation(), importance(matrix))?;
            }
            let divergence = calibration::divergence(&trial, COMPARED)?;
            aehost_sdk::info!("{} nats on calibration text", divergence);
            if best.as_ref().is_none_or(|(least, _)| divergence < *least) {
                best = Some((divergence, trial));
            }
        }
        match best {
            Some((_, trial)) => model.adopt(trial)?,
            None => return Err(too_small(&targets, &forms, budget)),
        }
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

/// Numbers of all matrices.
fn numbers(targets: &[(Matrix, Affine)]) -> f64 {
    targets.iter().map(|(m, _)| f64::from(m.rows()) * f64::from(m.columns())).sum()
}

/// Forms of all matrices that fit the budget, each the best of its kind: of all bits, without those that do more harm than
/// was measured, and of one number of bits for all. The same ones twice are there once.
fn plans(
    targets: &[(Matrix, Affine)],
    forms: &[Vec<Form>],
    errors: &[f64],
    divergences: &[f64],
    budget: f64,
) -> Vec<Vec<Affine>> {
    let bytes = (budget * numbers(targets) / 8.0) as u64;
    let best = |allowed: &dyn Fn(&Affine, &Affine) -> bool| -> Option<Vec<Affine>> {
        let of = |i: usize| forms[i].iter().filter(move |known| allowed(&known.form, &targets[i].1));
        // Where nothing is lost, nothing diverges.
        let rate = |i: usize| if errors[i] > 0.0 { divergences[i] / errors[i] } else { 0.0 };
        let item =
            |i: usize| of(i).map(|form| knapsack::Candidate { size: form.bytes, cost: rate(i) * form.error }).collect();
        let choice = knapsack::solve(&(0..forms.len()).map(item).collect::<Vec<_>>(), bytes)?;
        choice.iter().enumerate().map(|(i, c)| of(i).nth(*c).map(|known| known.form)).collect()
    };
    let uniform = |bits: u32| best(&move |form, own| form.bits == bits && form.group == own.group);
    let mixed = [best(&|_, _| true), best(&|form, _| form.bits >= PROBE)];
    let mut plans: Vec<Vec<Affine>> =
        mixed.into_iter().chain([BITS.into_iter().rev().find_map(uniform)]).flatten().collect();
    plans.dedup();
    plans
}

fn too_small(targets: &[(Matrix, Affine)], forms: &[Vec<Form>], budget: f64) -> Error {
    let least: u64 = forms.iter().filter_map(|forms| forms.iter().map(|form| form.bytes).min()).sum();
    let bits = least as f64 * 8.0 / numbers(targets);
    Error::not_applicable(format!(
        "budget is {} bits a weight, but {} and scales take {}: raise it",
        budget,
        BITS[0],
        (bits * 1000.0).ceil() / 1000.0
    ))
}

aehost_sdk::technique!(MixedPrecision);

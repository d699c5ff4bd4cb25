//! Moves outliers of activations into weights (SmoothQuant: Xiao et al., arXiv:2211.10438, section 4): channel j of what a
//! norm gives is divided by s_j = max|X_j|^a / max|W_j|^(1 - a), and the columns that read it are multiplied by that. The
//! model computes the same; activations rounded to 8 bits lose less, and weights, from some strength a on, more.

use aehost_sdk::technique::*;
use std::collections::BTreeSet;

/// Calibration tokens over which the largest activations are sought.
const TOKENS: u32 = 2048;
/// No scale is smaller, and no matrix counts as having smaller columns.
const SMALLEST: f32 = 1e-5;
/// Scales that fold into norms only, as in the paper.
const NORMS: &str = "norms";
/// Those that fold into values' and up projections too.
const ALL: &str = "all";

struct SmoothQuant;

impl Technique for SmoothQuant {
    fn describe() -> Description {
        let summary = "Moves outliers of activations into the weights that read them, before both are rounded.";
        Description::new(identity!("smoothquant", summary, "arXiv:2211.10438"), Stage::Inference)
            .order(4)
            .provides("smoothed")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let inputs = matrices(model)?.into_iter().filter(|m| m.group.in_layers()).filter_map(|m| m.input);
        let wiring = Wiring::of(model)?;
        let folds = folds(&wiring, inputs, ALL)?;
        let normed = folds.iter().filter(|fold| after_norm(fold)).count();
        let places: Vec<&str> =
            [(NORMS, normed > 0), (ALL, normed < folds.len())].into_iter().filter(|p| p.1).map(|p| p.0).collect();
        Ok(vec![
            real("strength", "How much of the outliers moves: a.", 0.3..=0.8).default(0.5).into(),
            choice("places", "Inputs that are smoothed: those from norms, or from projections too.", places).into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (strength, places) = (settings.real("strength")? as f32, settings.text("places")?);
        let wiring = Wiring::of(&model.model())?;
        let folds = folds(&wiring, layer_matrices(model)?.into_iter().filter_map(|m| m.input), places)?;
        let largest = collect_each(model, "maximum-absolute", folds.iter().map(|fold| fold.value), TOKENS)?;
        for (done, fold) in folds.iter().enumerate() {
            log::progress(done as f64 / folds.len() as f64, "smoothing");
            let inputs = fold.by_channel(&largest[&fold.value].to_f32()?, f32::max);
            let mut weights = vec![0f32; fold.channels.len()];
            for weight in &fold.readers {
                let columns = read(model, weight)?.unary("abs")?.reduce("maximum", &[0], false)?.to_f32()?;
                weights.iter_mut().zip(columns).for_each(|(known, column)| *known = larger(*known, column));
            }
            let weights = fold.by_channel(&weights, larger);
            fold.apply(model, &scales(&inputs, &weights, strength))?;
        }
        Ok(())
    }
}

/// The larger of two numbers; not a number where one of them is not.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

fn after_norm(fold: &Fold) -> bool {
    matches!(fold.maker, Maker::Norm { .. })
}

/// The inputs of matrices whose scales fold away at these places. Errors: not-applicable, with the reason of the last.
fn folds(wiring: &Wiring, inputs: impl Iterator<Item = ValueId>, places: &str) -> Result<Vec<Fold>, Error> {
    let mut why = Error::not_applicable("no input of a matrix comes from a norm");
    let mut found = Vec::new();
    for value in inputs.collect::<BTreeSet<_>>() {
        match wiring.fold(value) {
            Ok(fold) => found.extend((places == ALL || after_norm(&fold)).then_some(fold)),
            Err(refused) => why = refused,
        }
    }
    if found.is_empty() { Err(why.within("no input of a matrix can be smoothed")) } else { Ok(found) }
}

/// The divisors of channels with these largest inputs and weights. Channels that were never met are left as they are.
fn scales(inputs: &[f32], weights: &[f32], strength: f32) -> Vec<f32> {
    let scale = |(input, weight): (&f32, &f32)| match *input == 0.0 {
        true => 1.0,
        false => clamped(input.powf(strength) / clamped(*weight).powf(1.0 - strength)),
    };
    inputs.iter().zip(weights).map(scale).collect()
}

/// At least the smallest; what is not a number stays that.
fn clamped(x: f32) -> f32 {
    if x < SMALLEST { SMALLEST } else { x }
}

aehost_sdk::technique!(SmoothQuant);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn reference() -> Value {
        serde_json::from_str(include_str!("reference.json")).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    #[test]
    fn scales_are_those_of_the_authors_formula() {
        let reference = reference();
        let (inputs, weights) = (numbers(&reference["inputs"]), numbers(&reference["weights"]));
        for case in reference["cases"].as_array().unwrap() {
            let strength = case["strength"].as_f64().unwrap() as f32;
            for (found, expected) in scales(&inputs, &weights, strength).iter().zip(numbers(&case["scales"])) {
                assert!((found / expected - 1.0).abs() < 1e-5, "strength {strength}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn channels_without_inputs_stay_and_what_is_not_a_number_is_passed_on() {
        assert_eq!(scales(&[0.0, 4.0, 4.0], &[2.0, 0.0, 1.0], 0.5), [1.0, 2.0 / 1e-5f32.sqrt(), 2.0]);
        assert!(scales(&[1.0], &[larger(1.0, f32::NAN)], 0.5)[0].is_nan());
        assert!(scales(&[1.0], &[larger(f32::NAN, 1.0)], 0.5)[0].is_nan());
    }
}

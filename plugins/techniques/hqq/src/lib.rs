//! Half-quadratic quantisation (Badri and Shaji 2023, <https://mobiusml.github.io/hqq_blog/>):
//! without calibration text, the zero-point of each group, and if wanted its scale, is found by alternating between codes, a
//! sparse error and least squares.

mod solver;

use aehost_sdk::technique::*;
use solver::Solver;

struct Hqq;

impl Technique for Hqq {
    fn describe() -> Description {
        let summary = "Fits scale and zero-point of each group to its weights, outliers apart, without calibration.";
        let identity = identity!("hqq", summary, "https://mobiusml.github.io/hqq_blog/");
        Description::new(identity, Stage::Inference).order(10).provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters = quantiser::parameters(model, &[4, 3, 2, 8])?;
        // Without a minimum there is no zero-point to fit.
        parameters.retain(|parameter| parameter.name != "symmetric");
        parameters.push(flag("scale", "Fit the scale too, from several ranges.").default(true).into());
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (bits, group) = (settings.integer("bits")? as u32, settings.integer("group")? as usize);
        let form = Affine { bits, group, symmetric: false };
        let scale = settings.flag("scale")?;
        let targets = quantiser::targets(model, &form)?;
        for (done, (matrix, form)) in targets.iter().enumerate() {
            log::progress(done as f64 / targets.len() as f64, "fitting scales and zero-points");
            let solver = Solver { form: *form, scale };
            encode_groups(model, matrix, *form, |_, numbers| solver.fit(numbers))?;
        }
        quantiser::round_outer(model, settings)
    }
}

aehost_sdk::technique!(Hqq);

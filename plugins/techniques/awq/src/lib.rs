//! Activation-aware weight quantisation (AWQ: Lin et al., arXiv:2306.00978). Columns of weights that meet large inputs are
//! scaled up before rounding, and what makes the inputs is scaled down (section 3.2): of powers of the inputs' mean size the
//! one with the least output error is taken. Then each group is clipped to the range with the least error.

mod scales;

use aehost_sdk::technique::*;
use std::collections::{BTreeMap, BTreeSet};

/// Calibration tokens behind sizes and importances.
const TOKENS: u32 = 2048;
/// Tokens on which output errors are compared.
const COMPARED_TOKENS: u32 = 512;
/// Rows of each matrix on which they are compared.
const COMPARED_ROWS: usize = 64;

struct Awq;

impl Technique for Awq {
    fn describe() -> Description {
        let summary = "Rounds weights after scaling up the columns that meet large inputs, and clips each group.";
        Description::new(identity!("awq", summary, "arXiv:2306.00978"), Stage::Inference)
            .order(10)
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters = quantiser::parameters(model, &[4, 3, 8, 2])?;
        let summary = "Scale columns by their inputs' size, where what makes the inputs can take the inverse.";
        parameters.push(flag("scale", summary).default(true).into());
        parameters.push(flag("clip", "Search the range that each group is clipped to.").default(true).into());
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = Affine::of(settings)?;
        let clip = settings.flag("clip")?;
        let targets = quantiser::targets(model, &form)?;
        let folds = match settings.flag("scale")? {
            true => folds(&Wiring::of(&model.model())?, &targets),
            false => Vec::new(),
        };
        let inputs = Inputs::collect(model, &targets, &folds)?;
        let mut scaled: BTreeMap<ValueId, Vec<f32>> = BTreeMap::new();
        // A matrix is rounded as soon as no scales go into it any more: as codes it takes less room.
        let last = |matrix: &Matrix| folds.iter().rposition(|fold| fold.touches(&matrix.weight));
        let mut ready: Vec<Vec<&(Matrix, Affine)>> = vec![Vec::new(); folds.len() + 1];
        targets.iter().for_each(|target| ready[last(&target.0).map_or(0, |fold| fold + 1)].push(target));
        for (done, ready) in ready.into_iter().enumerate() {
            log::progress(done as f64 / (folds.len() + 1) as f64, "searching scales, and rounding");
            if let Some(fold) = done.checked_sub(1).map(|index| &folds[index]) {
                // The readers of a value have rows of one length, which a target has, too.
                let form = form.dividing(fold.channels.len() as u32).unwrap_or(form);
                let scales = best_scales(model, fold, &inputs, &Rounding { form, clip, quick: true })?;
                fold.apply(model, &scales)?;
                scaled.insert(fold.value, fold.by_column(&scales));
            }
            for (matrix, form) in ready {
                let importance = matrix.input.and_then(|input| {
                    let moments = inputs.moments.get(&input)?;
                    Some(after(moments, scaled.get(&input)))
                });
                Rounding { form: *form, clip, quick: false }.store(model, matrix, importance.as_deref())?;
            }
        }
        quantiser::round_outer(model, settings)
    }
}

/// The inputs of the matrices whose scales fold away; the log names the others.
fn folds(wiring: &Wiring, targets: &[(Matrix, Affine)]) -> Vec<Fold> {
    let values: BTreeSet<ValueId> = targets.iter().filter_map(|(matrix, _)| matrix.input).collect();
    let fold =
        |value: ValueId| wiring.fold(value).inspect_err(|why| aehost_sdk::debug!("not scaled: {}", why.message)).ok();
    values.into_iter().filter_map(fold).collect()
}

/// The second moments of inputs that are divided by scales.
fn after(moments: &[f32], scales: Option<&Vec<f32>>) -> Vec<f32> {
    match scales {
        Some(scales) => moments.iter().zip(scales).map(|(moment, scale)| moment / (scale * scale)).collect(),
        None => moments.to_vec(),
    }
}

/// Statistics of the matrices' inputs.
struct Inputs {
    /// Mean squares of columns.
    moments: BTreeMap<ValueId, Vec<f32>>,
    /// Mean sizes of the columns of values that can be scaled.
    sizes: BTreeMap<ValueId, Vec<f32>>,
    /// Some rows of them, as float16.
    rows: BTreeMap<ValueId, Tensor>,
}

impl Inputs {
    fn collect(model: &Editor, targets: &[(Matrix, Affine)], folds: &[Fold]) -> Result<Self, Error> {
        log::progress(0.0, "collecting inputs");
        let read: BTreeSet<ValueId> = targets.iter().filter_map(|(matrix, _)| matrix.input).collect();
        let scaled = || folds.iter().map(|fold| fold.value);
        let list: Vec<Wanted> = read
            .iter()
            .map(|at| Wanted::of("second-moment", *at))
            .chain(scaled().map(|at| Wanted::of("mean-absolute", at)))
            .chain(scaled().map(|at| Wanted::rows(at, COMPARED_TOKENS).kept_as("float16")))
            .collect();
        if list.is_empty() {
            return Ok(Self { moments: BTreeMap::new(), sizes: BTreeMap::new(), rows: BTreeMap::new() });
        }
        let mut found = calibration::collect(model, &list, TOKENS)?.values.into_iter();
        let mut numbers = |values: Vec<ValueId>| -> Result<BTreeMap<ValueId, Vec<f32>>, Error> {
            values.into_iter().zip(found.by_ref()).map(|(value, tensor)| Ok((value, tensor.to_f32()?))).collect()
        };
        let moments = numbers(read.into_iter().collect())?;
        let sizes = numbers(scaled().collect())?;
        Ok(Self { moments, sizes, rows: scaled().zip(found).collect() })
    }
}

/// How matrices become codes.
struct Rounding {
    form: Affine,
    /// Whether groups are clipped.
    clip: bool,
    /// Whether fewer ranges are tried.
    quick: bool,
}

impl Rounding {
    fn grid(&self, numbers: &[f32], importance: &[f32]) -> Grid {
        match self.clip {
            true => Grid::clip(numbers, importance, &self.form, self.quick),
            false => Grid::fit(numbers, &self.form),
        }
    }

    fn store(&self, model: &Editor, matrix: &Matrix, importance: Option<&[f32]>) -> Result<(), Error> {
        // What is never met, as experts that were never chosen, is rounded as if all columns were alike.
        let alike = vec![1.0; matrix.columns() as usize];
        let importance = match importance {
            Some(met) if met.iter().any(|weight| *weight > 0.0) => met,
            _ => &alike,
        };
        encode_groups(model, matrix, self.form, |first, numbers| {
            self.grid(numbers, &importance[first..][..numbers.len()])
        })
    }
}

/// The scales of a value's channels with which the matrices that read it give the least error, each relative to what it
/// gives unrounded.
fn best_scales(model: &Editor, fold: &Fold, inputs: &Inputs, rounding: &Rounding) -> Result<Vec<f32>, Error> {
    let value = fold.value;
    let columns = fold.channels.len();
    let transposed = inputs.rows[&value].cast("float32")?.transpose(&[])?;
    let energy = |rows: &[f32]| {
        let rows = Tensor::from_f32(&[(rows.len() / columns) as u32, columns as u32], rows)?;
        rows.matmul(&transposed)?.unary("square")?.reduce("sum", &[], false)?.scalar()
    };
    let mut compared: Vec<(Vec<f32>, f64)> = Vec::new();
    for weight in &fold.readers {
        let rows = some_rows(&read(model, weight)?.to_f32()?, columns);
        let whole = energy(&rows)?;
        if !whole.is_finite() {
            let message = format!("weight `{weight}` gives outputs that are not finite: an earlier technique broke it");
            return Err(Error::new("diverged", message));
        }
        // A matrix that gives nothing cannot err.
        compared.extend((whole > 0.0).then_some((rows, whole)));
    }
    let sizes = fold.by_channel(&inputs.sizes[&value], |a, b| a.max(b));
    let mut best = (f64::INFINITY, vec![1.0; fold.count()]);
    for scales in scales::candidates(&sizes) {
        let by_column = fold.by_column(&scales);
        let importance = after(&inputs.moments[&value], Some(&by_column));
        let mut error = 0.0;
        for (rows, whole) in &compared {
            error += energy(&errors(rows, &by_column, &importance, rounding))? / whole;
        }
        if error < best.0 {
            best = (error, scales);
        }
    }
    Ok(best.1)
}

/// Rows of a matrix at even distances.
fn some_rows(numbers: &[f32], columns: usize) -> Vec<f32> {
    let rows = numbers.len() / columns;
    let count = rows.min(COMPARED_ROWS);
    (0..count).flat_map(|i| &numbers[i * rows / count * columns..][..columns]).copied().collect()
}

/// What rounding changes in rows whose columns are multiplied by the scales meanwhile.
fn errors(rows: &[f32], scales: &[f32], importance: &[f32], rounding: &Rounding) -> Vec<f32> {
    let columns = scales.len();
    let mut rounded: Vec<f32> = rows.chunks_exact(columns).flat_map(|row| product(row, scales)).collect();
    let mut codes = Codes::new(rows.len() / columns, columns, rounding.form);
    for (row, numbers) in rounded.chunks_exact_mut(columns).enumerate() {
        codes.encode(row, numbers, |first, part| rounding.grid(part, &importance[first..][..part.len()]));
    }
    for (row, numbers) in rounded.chunks_exact_mut(columns).zip(rows.chunks_exact(columns)) {
        for ((found, number), scale) in row.iter_mut().zip(numbers).zip(scales) {
            *found = *found / scale - number;
        }
    }
    rounded
}

fn product<'a>(row: &'a [f32], scales: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    row.iter().zip(scales).map(|(number, scale)| number * scale)
}

aehost_sdk::technique!(Awq);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    /// The squared error of the outputs of rows with these errors.
    fn output_error(errors: &[f32], inputs: &[f32], columns: usize) -> f64 {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let of_input = |x| errors.chunks_exact(columns).map(|row| product(row, x).powi(2)).sum::<f64>();
        inputs.chunks_exact(columns).map(of_input).sum()
    }

    #[test]
    fn scales_and_their_output_errors_are_those_of_the_authors_search() {
        let reference: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let of = |name: &str| numbers(&reference[name]);
        let (sizes, weight, inputs, expected) = (of("sizes"), of("weight"), of("inputs"), of("errors"));
        let candidates = scales::candidates(&sizes);
        assert!(candidates[10].iter().zip(of("scales")).all(|(a, b)| (a / b - 1.0).abs() < 1e-5));
        let plain = Rounding { form: Affine { bits: 4, group: 32, symmetric: false }, clip: false, quick: false };
        // A number between two codes may fall to either side.
        let errors: Vec<f64> = candidates
            .iter()
            .map(|scales| output_error(&errors(&weight, scales, &sizes, &plain), &inputs, sizes.len()))
            .collect();
        assert!(errors.iter().zip(expected).all(|(a, b)| (a / f64::from(b) - 1.0).abs() < 1e-2), "{errors:?}");
        let best = errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(best as u64, reference["best"].as_u64().unwrap());
    }

    #[test]
    fn compared_rows_are_spread_over_the_matrix() {
        let numbers: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let rows = some_rows(&numbers, 2);
        assert_eq!((rows.len(), &rows[..4]), (2 * COMPARED_ROWS, &[0.0, 1.0, 4.0, 5.0][..]));
        assert_eq!(some_rows(&numbers[..6], 2), &numbers[..6]);
    }
}

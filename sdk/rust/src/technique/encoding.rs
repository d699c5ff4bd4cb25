//! Storing what was encoded in groups of columns as the contract's `affine` representation.

use super::quantiser::AffineForm;
use super::{Affine, Codes, Editor, Error, Grid, Matrix, Part, Tensor, each_stretch, weights};

/// Makes codes the weight's.
///
/// # Errors
/// Those of the host; diverged, where a scale is not finite.
pub fn store_codes(model: &Editor, matrix: &Matrix, codes: &Codes) -> Result<(), Error> {
    store(model, matrix, &codes.form, &parts(codes, &matrix.weight)?)
}

/// Codes `[rows, columns]`, scales and minima `[rows, columns / group]`, as the host's tensors.
#[inline(never)]
fn parts(codes: &Codes, weight: &str) -> Result<[Tensor; 3], Error> {
    if let Some(bad) = codes.grids.iter().find(|grid| !grid.scale.is_finite() || !grid.minimum.is_finite()) {
        let (scale, minimum) = (bad.scale, bad.minimum);
        let message = format!("weight `{weight}` would get the scale {scale} and minimum {minimum}");
        return Err(Error::new("diverged", message));
    }
    let rows = (codes.codes.len() / codes.columns) as u32;
    let groups = (codes.columns / codes.form.group) as u32;
    let of = |number: fn(&Grid) -> f32| {
        Tensor::from_f32(&[rows, groups], &codes.grids.iter().map(number).collect::<Vec<f32>>())
    };
    let of_codes = Tensor::from_bytes(&[rows, codes.columns as u32], "uint8", &codes.codes)?;
    Ok([of_codes, of(|grid| grid.scale)?, of(|grid| grid.minimum)?])
}

/// Encodes a matrix, each group of columns on the grid that `fit` finds for its first column and its numbers.
///
/// # Errors
/// Those of the host; diverged, where a number of the weight or a scale is not finite.
pub fn encode_groups(
    model: &Editor,
    matrix: &Matrix,
    form: Affine,
    fit: impl Fn(usize, &[f32]) -> Grid,
) -> Result<(), Error> {
    let columns = matrix.columns() as usize;
    let mut stretches = Vec::new();
    each_stretch(model, matrix, |numbers| {
        let mut codes = Codes::new(numbers.len() / columns, columns, form);
        for (row, numbers) in numbers.chunks_exact_mut(columns).enumerate() {
            codes.encode(row, numbers, &fit);
        }
        stretches.push(parts(&codes, &matrix.weight)?);
        Ok(())
    })?;
    let joined = |part: usize| Tensor::concat(0, &stretches.iter().map(|parts| &parts[part]).collect::<Vec<_>>());
    store(model, matrix, &form, &[joined(0)?, joined(1)?, joined(2)?])
}

/// Codes, scales and minima, rows of a stack's matrices one under another, as the weight's own.
#[inline(never)]
fn store(model: &Editor, matrix: &Matrix, form: &Affine, parts: &[Tensor; 3]) -> Result<(), Error> {
    let names = ["codes", "scales", "minima"].into_iter().zip(parts).take(if form.symmetric { 2 } else { 3 });
    let parts: Vec<Part<'_>> = names.map(|(name, value)| Part { name: name.into(), value }).collect();
    weights::store(model, &matrix.weight, &matrix.shape, &form.representation(), &parts)
}

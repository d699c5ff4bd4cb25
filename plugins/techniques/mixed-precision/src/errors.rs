//! What each form costs a matrix: its bytes, and the squared error of the outputs that rounding leaves.

use aehost_sdk::technique::*;

/// Numbers of a matrix that errors are taken of: rows at equal distances.
const SAMPLE: usize = 1 << 17;

/// A form that a matrix may get.
pub struct Form {
    pub form: Affine,
    pub bytes: u64,
    /// Squared error over the squared size of what it is the error of, columns weighed by their importance.
    pub error: f64,
}

/// All that a matrix may be, errors on some of its rows. Rounding errors of columns are as good as independent of one another,
/// so that the diagonal of the Gram matrix tells how outputs err.
pub fn forms(
    model: &Editor,
    matrix: &Matrix,
    forms: &[Affine],
    importance: Option<&Tensor>,
) -> Result<Vec<Form>, Error> {
    let rows = matrix.rows();
    let step = (rows as usize * matrix.columns() as usize).div_ceil(SAMPLE).max(1);
    let sampled: Vec<u32> = (0..rows).step_by(step).collect();
    let sample = read(model, &matrix.weight)?.take(0, &sampled)?;
    let size = weighted(&sample, importance)?;
    if !size.is_finite() {
        let message =
            format!("weight `{}`, or what it multiplies, is not finite: an earlier technique broke it", matrix.weight);
        return Err(Error::new("diverged", message));
    }
    let found = forms.iter().map(|form| {
        let trial = model.fork();
        weights::put(&trial, &matrix.weight, &sample, "float32")?;
        weights::encode(&trial, &matrix.weight, &form.representation(), importance)?;
        let bytes = weights::describe(&trial.model(), &matrix.weight)?.bytes / sampled.len() as u64 * u64::from(rows);
        let error = weighted(&sample.binary("sub", &read(&trial, &matrix.weight)?)?, importance)?;
        // Of nothing, nothing is lost.
        Ok(Form { form: *form, bytes, error: if size > 0.0 { error / size } else { 0.0 } })
    });
    found.collect()
}

/// The sum of squares, columns weighed.
fn weighted(numbers: &Tensor, importance: Option<&Tensor>) -> Result<f64, Error> {
    let squares = numbers.unary("square")?;
    let squares = importance.map_or(Ok(squares.affine(1.0, 0.0)?), |importance| squares.binary("mul", importance))?;
    squares.reduce("sum", &[], false)?.scalar()
}

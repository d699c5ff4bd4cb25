//! Factorisations and solves, in float64 on the CPU by faer; results are float32 unless the input is float64.

use super::{Result, describe, elements, fault};
use aehost_common::{Code, Fault};
use candle_core::{DType, Device, Tensor};
use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, MatRef, Side};

/// Sides of more rows or columns are refused: the work grows with their cube.
const MAX_SIDE: usize = 1 << 15;

fn matrix(op: &str, tensor: &Tensor) -> Result<Mat<f64>> {
    let &[rows, columns] = tensor.dims() else {
        return Err(Fault::invalid(format!("{op}: {} is not a matrix", describe(tensor))));
    };
    if rows > MAX_SIDE || columns > MAX_SIDE {
        return Err(Fault::invalid(format!("{op}: {} has a side above {MAX_SIDE}", describe(tensor))));
    }
    let values = elements::<f64>(tensor, DType::F64)?;
    if values.iter().any(|v| !v.is_finite()) {
        let message = format!("{op}: {} holds NaN or infinite numbers", describe(tensor));
        return Err(Fault::new(Code::Diverged, message));
    }
    Ok(Mat::from_fn(rows, columns, |i, j| values[i * columns + j]))
}

fn square(op: &str, tensor: &Tensor) -> Result<Mat<f64>> {
    let matrix = matrix(op, tensor)?;
    if matrix.nrows() == matrix.ncols() {
        return Ok(matrix);
    }
    Err(Fault::invalid(format!("{op}: {} is not a square matrix", describe(tensor))))
}

/// Back to the dtype and device of the input.
fn tensor(values: Vec<f64>, dims: &[usize], like: &Tensor) -> Result<Tensor> {
    let dtype = if like.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::from_vec(values, dims, &Device::Cpu)
        .and_then(|t| t.to_dtype(dtype)?.to_device(like.device()))
        .map_err(fault)
}

fn dense(matrix: MatRef<'_, f64>, like: &Tensor) -> Result<Tensor> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let values = (0..rows).flat_map(|i| (0..columns).map(move |j| matrix[(i, j)])).collect();
    tensor(values, &[rows, columns], like)
}

/// Thin factors `U [m, k]`, `S [k]` descending, `V' [k, n]`, with k the smaller side, or `rank` where that is less.
pub fn svd(input: &Tensor, rank: Option<u32>) -> Result<(Tensor, Tensor, Tensor)> {
    let matrix = matrix("svd", input)?;
    let factors =
        matrix.thin_svd().map_err(|_| Fault::invalid(format!("svd: does not converge on {}", describe(input))))?;
    let full = matrix.nrows().min(matrix.ncols());
    let k = rank.map_or(full, |r| full.min(r as usize));
    if k == 0 {
        return Err(Fault::invalid(format!("svd: rank 0 of {}", describe(input))));
    }
    let singular = factors.S().column_vector();
    let u = dense(factors.U().subcols(0, k), input)?;
    let s = tensor((0..k).map(|i| singular[i]).collect(), &[k], input)?;
    let v = dense(factors.V().subcols(0, k).transpose(), input)?;
    Ok((u, s, v))
}

/// Eigenvalues ascending and eigenvectors in columns, of a symmetric matrix.
pub fn eigh(input: &Tensor) -> Result<(Tensor, Tensor)> {
    let matrix = square("eigh", input)?;
    let n = matrix.nrows();
    let largest = (0..n).flat_map(|j| (0..n).map(move |i| (i, j))).fold(0.0f64, |m, at| m.max(matrix[at].abs()));
    let skewed = (0..n).any(|j| (0..j).any(|i| (matrix[(i, j)] - matrix[(j, i)]).abs() > 1e-3 * largest));
    if skewed {
        return Err(Fault::invalid(format!("eigh: {} is not symmetric", describe(input))));
    }
    let even = Mat::from_fn(n, n, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)]));
    let factors = even
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| Fault::invalid(format!("eigh: does not converge on {}", describe(input))))?;
    let values = factors.S().column_vector();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let vectors = Mat::from_fn(n, n, |i, j| factors.U()[(i, order[j])]);
    Ok((tensor(order.iter().map(|i| values[*i]).collect(), &[n], input)?, dense(vectors.as_ref(), input)?))
}

/// Lower factor of A + damping * mean(diagonal) * I.
pub fn cholesky(input: &Tensor, damping: f64) -> Result<Tensor> {
    let mut matrix = square("cholesky", input)?;
    let n = matrix.nrows();
    let mean = (0..n).map(|i| matrix[(i, i)]).sum::<f64>() / n as f64;
    if !damping.is_finite() {
        return Err(Fault::invalid(format!("cholesky: damping {damping} is not finite")));
    }
    for i in 0..n {
        matrix[(i, i)] += damping * mean;
    }
    let factor = matrix.llt(Side::Lower).map_err(|_| {
        Fault::invalid(format!(
            "cholesky: {} with damping {damping} is not positive definite; raise the damping",
            describe(input)
        ))
    })?;
    dense(factor.L(), input)
}

/// Whether a diagonal is zero, or so small against its largest element that nothing is left of float64.
fn vanishes(diagonal: impl Iterator<Item = f64> + Clone) -> bool {
    let largest = diagonal.clone().fold(0.0f64, |m, v| m.max(v.abs()));
    diagonal.into_iter().any(|v| v.abs() <= largest * 1e-15)
}

/// Of a square matrix.
pub fn inverse(input: &Tensor) -> Result<Tensor> {
    let matrix = square("inverse", input)?;
    let factors = matrix.partial_piv_lu();
    let upper = factors.U();
    if vanishes((0..matrix.nrows()).map(|i| upper[(i, i)])) {
        return Err(Fault::invalid(format!("inverse: {} is singular", describe(input))));
    }
    dense(factors.inverse().as_ref(), input)
}

/// X [n, k] with A X = rhs, where A [n, n] is triangular, `upper` or lower, or A' X = rhs with `transpose`.
pub fn triangular_solve(input: &Tensor, rhs: &Tensor, upper: bool, transpose: bool) -> Result<Tensor> {
    let op = "triangular-solve";
    let (a, mut x) = (square(op, input)?, matrix(op, rhs)?);
    if x.nrows() != a.nrows() {
        return Err(Fault::invalid(format!("{op}: {} and {} differ in rows", describe(input), describe(rhs))));
    }
    if (0..a.nrows()).any(|i| a[(i, i)] == 0.0) {
        return Err(Fault::invalid(format!("{op}: {} has a zero on its diagonal", describe(input))));
    }
    let a = if transpose { a.transpose() } else { a.as_ref() };
    if upper == transpose {
        a.solve_lower_triangular_in_place(x.as_mut());
    } else {
        a.solve_upper_triangular_in_place(x.as_mut());
    }
    dense(x.as_ref(), rhs)
}

//! Compression with error feedback (optimal brain surgeon, a column at a time; arXiv:2210.17323, section 3, and
//! arXiv:2301.00774, section 3): once a column is settled, those that are not yet make up for what it lost, as well as
//! they can in the squared error of the outputs. Columns are settled from last to first: the Cholesky factor of the inverse that
//! belongs to this order is the inverse of the Gram matrix's own factor, so that nothing else is inverted.

use super::{Error, Tensor};

/// Columns between updates of all that is left, which the host does.
const BLOCK: usize = 128;
/// Times that damping is raised tenfold where the Gram matrix is singular.
const RAISES: i32 = 3;
/// Rows that are worked on side by side, so that loops over them become vectors.
pub const LANES: usize = 16;
/// One column of as many rows.
pub type Lanes = [f32; LANES];

/// What decides how columns are settled.
pub trait Settle {
    /// Sees columns `[first, first + width)` of all rows, `[rows, width]`, before any of them is settled.
    fn enter(&mut self, first: usize, width: usize, numbers: &[f32]) {
        let _ = (first, width, numbers);
    }

    /// What column `column` of the rows from `row` becomes; it is the last of `tile`, before it are columns yet to be settled.
    /// Lanes beyond the last row are 0.
    fn settle(&mut self, row: usize, column: usize, tile: &[Lanes]) -> Lanes;
}

/// How columns make up for one another, by the Gram matrix of what they multiply.
pub struct Feedback {
    /// Inverse of the lower Cholesky factor, `[columns, columns]`.
    factor: Tensor,
    /// Its diagonal: the output's squared error grows with the square of a column's error over this.
    pub diagonal: Vec<f32>,
}

impl Feedback {
    /// From X'X, damped by a share of its mean diagonal, which is raised where it does not suffice.
    ///
    /// # Errors
    /// diverged, where the matrix cannot be factored nevertheless: it is zero, or not finite.
    pub fn new(gram: &Tensor, damping: f64) -> Result<Self, Error> {
        let mut tried = gram.cholesky(damping);
        let mut raised = damping;
        for _ in 0..RAISES {
            if tried.is_ok() {
                break;
            }
            raised = raised.max(1e-4) * 10.0;
            tried = gram.cholesky(raised);
        }
        let lower = tried.map_err(|error| Error { code: "diverged".into(), ..error })?;
        let factor = lower.triangular_solve(&identity(gram.shape()[0])?, false, false)?;
        let diagonal = factor.diagonal()?.to_f32()?;
        Ok(Self { factor, diagonal })
    }

    /// Settles all columns of a matrix `[rows, columns]`.
    ///
    /// # Errors
    /// Those of the host: invalid-input, where the matrix has other columns than the Gram matrix; diverged, where one of its
    /// numbers is not finite, or becomes so.
    pub fn run(&self, matrix: Tensor, settle: &mut impl Settle) -> Result<(), Error> {
        let rows = matrix.shape()[0];
        let mut open = matrix;
        let mut end = self.diagonal.len();
        while end > 0 {
            let first = (end - 1) / BLOCK * BLOCK;
            let (at, width) = (first as u32, (end - first) as u32);
            let factor = self.factor.slice(0, at, width)?;
            let numbers = open.slice(1, at, width)?.to_f32()?;
            if let Some(bad) = numbers.iter().find(|number| !number.is_finite()) {
                return Err(Error::new("diverged", format!("columns {first} to {end} hold {bad}")));
            }
            settle.enter(first, end - first, &numbers);
            let losses = settle_block(numbers, &factor.slice(1, at, width)?.to_f32()?, first, settle);
            if first > 0 {
                let losses = Tensor::from_f32(&[rows, width], &losses)?;
                let update = losses.matmul(&factor.slice(1, 0, at)?)?;
                open = open.slice(1, 0, at)?.binary("sub", &update)?;
            }
            end = first;
        }
        Ok(())
    }
}

/// `[n, n]`
fn identity(n: u32) -> Result<Tensor, Error> {
    let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
    Tensor::from_f32(&[n, 1], &numbers)?.binary("eq", &Tensor::from_f32(&[1, n], &numbers)?)
}

/// Settles the columns `[rows, width]` from `first`, by the factor's `[width, width]`; gives back their losses, each over the
/// factor's diagonal.
pub fn settle_block(mut numbers: Vec<f32>, factor: &[f32], first: usize, settle: &mut impl Settle) -> Vec<f32> {
    let width = factor.len().isqrt();
    let mut tile: Vec<Lanes> = vec![[0.0; LANES]; width];
    for (i, rows) in numbers.chunks_mut(LANES * width).enumerate() {
        tile.fill([0.0; LANES]);
        for (lane, row) in rows.chunks_exact(width).enumerate() {
            row.iter().zip(&mut tile).for_each(|(number, lanes)| lanes[lane] = *number);
        }
        for column in (0..width).rev() {
            let settled = settle.settle(i * LANES, first + column, &tile[..=column]);
            let factors = &factor[column * width..=column * width + column];
            let (open, now) = tile.split_at_mut(column);
            let loss: Lanes = std::array::from_fn(|lane| (now[0][lane] - settled[lane]) / factors[column]);
            for (lanes, factor) in open.iter_mut().zip(factors) {
                for (number, loss) in lanes.iter_mut().zip(&loss) {
                    *number -= loss * factor;
                }
            }
            now[0] = loss;
        }
        for (lane, row) in rows.chunks_exact_mut(width).enumerate() {
            row.iter_mut().zip(&tile).for_each(|(number, lanes)| *number = lanes[lane]);
        }
    }
    numbers
}

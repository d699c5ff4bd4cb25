//! Compression with error feedback (optimal brain surgeon, a column at a time; arXiv:2210.17323, section 3, and
//! arXiv:2301.00774, section 3): once a column is settled, those that are not yet make up for what it lost, as well as
//! they can in the squared error of the outputs. Columns are settled from last to first: the Cholesky factor of the inverse that
//! belongs to this order is the inverse of the Gram matrix's own factor, so that nothing else is inverted.

use super::{Error, Settle, Tensor, settle_block};

/// Columns between updates of all that is left, which the host does.
const BLOCK: usize = 128;
/// Times that damping is raised tenfold where the Gram matrix is singular.
const RAISES: i32 = 3;
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
    #[inline(never)]
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
                return Err(Error::new("diverged", format!("columns {first} to {end} hold {}", *bad)));
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

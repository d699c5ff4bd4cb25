//! Numbers of the host's tensors in the plugin's own memory, for loops that no operation of the host does.

use super::{Editor, Error, Matrix, Node, Span, Tensor, weights};
use aehost_numerics::{from_bytes, to_bytes};

/// Elements that one call carries.
const PORTION: usize = 8 << 20;
/// Numbers of a matrix that are in memory as float32 at a time.
const STRETCH: usize = 1 << 20;
/// Shares of the mean diagonal that a matrix may need on its diagonal to be positive definite, the least that does first.
const DAMPING: [f64; 3] = [1e-6, 1e-4, 1e-2];

impl Tensor {
    /// A float32 tensor of these numbers, row-major.
    ///
    /// # Errors
    /// Those of the host: invalid-input where there are not as many numbers as `shape` has elements.
    pub fn from_f32(shape: &[u32], numbers: &[f32]) -> Result<Self, Error> {
        Self::from_bytes(shape, "float32", &to_bytes(numbers))
    }

    /// All elements, row-major, as float32.
    ///
    /// # Errors
    /// Those of the host.
    #[inline(never)]
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let cast = (self.dtype() != "float32").then(|| self.cast("float32")).transpose()?;
        let tensor = cast.as_ref().unwrap_or(self);
        let count = tensor.shape().iter().map(|d| *d as usize).product::<usize>();
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            let part = tensor.read(numbers.len() as u64, PORTION.min(count - numbers.len()) as u64)?;
            from_bytes(&part, &mut numbers);
        }
        Ok(numbers)
    }

    /// The lower Cholesky factor of a matrix that is positive semidefinite, damped as little as it needs.
    ///
    /// # Errors
    /// Those of the host, where no damping helps: all is 0, or not finite.
    pub fn damped_cholesky(&self) -> Result<Self, Error> {
        let [first, rest @ ..] = DAMPING;
        rest.iter().fold(self.cholesky(first), |found, damping| found.or_else(|_| self.cholesky(*damping)))
    }

    /// Eigenvalues of a symmetric positive semidefinite matrix, descending, and its eigenvectors in columns.
    ///
    /// # Errors
    /// Those of the host, where a number is not finite.
    pub fn principal(&self) -> Result<(Vec<f32>, Self), Error> {
        let (values, vectors) = self.eigh()?;
        let values: Vec<f32> = values.to_f32()?.into_iter().rev().map(|v| v.max(0.0)).collect();
        let reversed: Vec<u32> = (0..values.len() as u32).rev().collect();
        Ok((values, vectors.take(1, &reversed)?))
    }

    /// A matrix of four: two rows of two, side by side.
    ///
    /// # Errors
    /// Those of the host: invalid-input where sides that meet differ.
    pub fn blocks(of: [[&Self; 2]; 2]) -> Result<Self, Error> {
        let [upper, lower] = of.map(|row| Self::concat(1, &row));
        Self::concat(0, &[&upper?, &lower?])
    }

    /// The elements at some indices of an axis of a matrix, in their order.
    ///
    /// # Errors
    /// Those of the host: invalid-input where an index is outside the axis, or there are none.
    pub fn take<I: Copy + TryInto<u32>>(&self, axis: u32, indices: &[I]) -> Result<Self, Error> {
        let count = indices.len() as u32;
        let (mut shape, mut line) = (self.shape(), vec![1; self.shape().len()]);
        if let (Some(side), Some(length)) = (shape.get_mut(axis as usize), line.get_mut(axis as usize)) {
            (*side, *length) = (count, count);
        }
        // What is no uint32 is outside every axis.
        let index = |i: &I| (*i).try_into().unwrap_or(u32::MAX);
        let bytes: Vec<u8> = indices.iter().flat_map(|i| index(i).to_le_bytes()).collect();
        let indices = Self::from_bytes(&line, "uint32", &bytes)?;
        self.gather(axis, &Self::full(&shape, "uint32", 0.0)?.binary("add", &indices)?)
    }

    /// The only element.
    ///
    /// # Errors
    /// internal, where there are more.
    pub fn scalar(&self) -> Result<f64, Error> {
        match self.to_f32()?.as_slice() {
            [only] => Ok(f64::from(*only)),
            all => Err(Error::new("internal", format!("a number was expected, not {}", all.len()))),
        }
    }
}

/// The numbers of a weight as a matrix `[rows, columns]`, a stack's matrices one under another.
///
/// # Errors
/// invalid-input where there is no such weight.
#[inline(never)]
pub fn read(model: &Editor, weight: &str) -> Result<Tensor, Error> {
    let tensor = weights::get(&model.model(), weight, None::<Span>)?;
    let shape = tensor.shape();
    match shape.as_slice() {
        [_, _] => Ok(tensor),
        [.., columns] => tensor.reshape(&[shape.iter().rev().skip(1).product(), *columns]),
        [] => Err(Error::invalid(format!("weight `{weight}` has no dimensions"))),
    }
}

/// The same of the matrix in a node's slot `weight`.
///
/// # Errors
/// invalid-input where the slot is empty.
pub fn matrix_of(model: &Editor, node: &Node) -> Result<Tensor, Error> {
    read(model, node.matrix()?)
}

/// Shows the rows of a matrix, whole ones and in order, but only a stretch of them at a time: a matrix may be larger than a
/// plugin's memory.
///
/// # Errors
/// Those of the host and of `see`; diverged, where a number is not finite.
pub fn each_stretch(
    model: &Editor,
    matrix: &Matrix,
    mut see: impl FnMut(&mut [f32]) -> Result<(), Error>,
) -> Result<(), Error> {
    let columns = matrix.columns() as usize;
    let mut row = 0;
    for span in spans(model, &matrix.weight)? {
        let tensor = weights::get(&model.model(), &matrix.weight, Some(span))?;
        let rows = tensor.shape().iter().product::<u32>() / columns as u32;
        let tensor = tensor.reshape(&[rows, columns as u32])?;
        let stretch = (STRETCH / columns.max(1)).max(1) as u32;
        for first in (0..rows).step_by(stretch as usize) {
            let mut numbers = tensor.slice(0, first, stretch.min(rows - first))?.to_f32()?;
            if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
                let (weight, row, number) = (&matrix.weight, row + at / columns, numbers[at]);
                let message = format!("weight `{weight}` has {number} in row {row}: an earlier technique broke it");
                return Err(Error::new("diverged", message));
            }
            row += numbers.len() / columns;
            see(&mut numbers)?;
        }
    }
    Ok(())
}

/// The rows of a matrix, or the matrices of a stack, in stretches.
///
/// # Errors
/// invalid-input where there is no such weight.
pub(super) fn spans(model: &Editor, weight: &str) -> Result<impl Iterator<Item = Span> + use<>, Error> {
    let shape = weights::describe(&model.model(), weight)?.shape;
    let (count, each) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u32>());
    let stretch = (STRETCH as u32 / each.max(1)).max(1);
    let starts = (0..count).step_by(stretch as usize);
    Ok(starts.map(move |start| Span { start, count: stretch.min(count - start) }))
}

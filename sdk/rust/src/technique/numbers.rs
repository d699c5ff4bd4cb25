//! Numbers of the host's tensors in the plugin's own memory, for loops that no operation of the host does.

use super::{Editor, Error, Span, Tensor, weights};

/// Elements that one call carries.
const PORTION: usize = 8 << 20;

impl Tensor {
    /// A float32 tensor of these numbers, row-major.
    ///
    /// # Errors
    /// Those of the host: invalid-input where there are not as many numbers as `shape` has elements.
    pub fn from_f32(shape: &[u32], numbers: &[f32]) -> Result<Self, Error> {
        Self::from_bytes(shape, "float32", &numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// All elements, row-major, as float32.
    ///
    /// # Errors
    /// Those of the host.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let cast = (self.dtype() != "float32").then(|| self.cast("float32")).transpose()?;
        let tensor = cast.as_ref().unwrap_or(self);
        let count = tensor.shape().iter().map(|d| *d as usize).product::<usize>();
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            let part = tensor.read(numbers.len() as u64, PORTION.min(count - numbers.len()) as u64)?;
            numbers.extend(part.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        Ok(numbers)
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
pub fn read(model: &Editor, weight: &str) -> Result<Tensor, Error> {
    let tensor = weights::get(&model.model(), weight, None::<Span>)?;
    let shape = tensor.shape();
    match shape.as_slice() {
        [_, _] => Ok(tensor),
        [.., columns] => tensor.reshape(&[shape.iter().rev().skip(1).product(), *columns]),
        [] => Err(Error::invalid(format!("weight `{weight}` has no dimensions"))),
    }
}

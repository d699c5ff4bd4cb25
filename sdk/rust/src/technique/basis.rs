//! Another basis for a segment of the residual stream, of as many directions or fewer (SliceGPT, arXiv:2401.15024,
//! section 3): what writes to it is multiplied by Q, and what reads it by Q'. Norms' weights move into the matrices that
//! follow, without which a norm would see the basis.

use super::stream::{Norm, Segment};
use super::{Editor, Error, Tensor, change, change_rows, insert_after, insert_before, setting, weights};

impl Segment {
    /// Gives its values the coordinates Q x, `q` being `[kept, width]` with orthonormal rows. Nodes that this takes are
    /// named with `suffix`. Where fewer are kept than there were, shapes do not fit until all segments have as many, and
    /// `check` is called.
    ///
    /// # Errors
    /// Those of the host.
    #[inline(never)]
    pub fn turn(&self, model: &Editor, q: &Tensor, suffix: &str) -> Result<(), Error> {
        let back = q.transpose(&[])?;
        for weight in self.embeddings.iter().chain(&self.readers) {
            change_rows(model, weight, |w| times(w, &back))?;
        }
        for (weight, bias) in &self.writers {
            change(model, weight, |w| q.matmul(w))?;
            if let Some(bias) = bias {
                change(model, bias, |b| times(b, &back))?;
            }
        }
        for (norm, readers) in &self.reading_norms {
            let factors = norm.take_weight(model)?;
            norm.narrow(model, q.shape()[0])?;
            for weight in readers {
                change_rows(model, weight, |w| times(&w.binary("mul", &factors)?, &back))?;
            }
        }
        for norm in &self.writing_norms {
            let factors = norm.take_weight(model)?;
            insert_after(model, norm.node, suffix, &q.binary("mul", &factors)?)?;
        }
        for node in &self.rotated_after {
            insert_after(model, *node, suffix, q)?;
        }
        for node in &self.restored_before {
            insert_before(model, *node, suffix, &back)?;
        }
        Ok(())
    }
}

impl Norm {
    /// What it multiplies by, which from now on is 1.
    fn take_weight(&self, model: &Editor) -> Result<Tensor, Error> {
        let factors = weights::get(&model.model(), &self.weight, None)?.affine(1.0, self.offset)?;
        change(model, &self.weight, |w| w.affine(0.0, 1.0 - self.offset))?;
        Ok(factors)
    }

    /// Norms `kept` coordinates as if those that are gone were there and 0.
    fn narrow(&self, model: &Editor, kept: u32) -> Result<(), Error> {
        let width = weights::describe(&model.model(), &self.weight)?.shape[0];
        if kept == width {
            return Ok(());
        }
        let (gain, epsilon) = narrowed(width, kept, self.epsilon);
        // Before the weight, by whose length the host infers what the norm gives.
        model.set_attribute(self.node, &setting("epsilon", epsilon))?;
        weights::put(model, &self.weight, &Tensor::full(&[kept], "float32", gain - self.offset)?, "float32")
    }
}

/// What the norm of `kept` coordinates multiplies by, and adds to their mean square, so that it gives what that of `width`
/// with this epsilon gives where all others are 0: x / sqrt(sum / width + epsilon).
fn narrowed(width: u32, kept: u32, epsilon: f64) -> (f64, f64) {
    let ratio = f64::from(width) / f64::from(kept);
    (ratio.sqrt(), epsilon * ratio)
}

/// Rows, those of a stack one under another, times a matrix `[in, out]`; rows of several times `in` columns are heads, each
/// of which is multiplied.
///
/// # Errors
/// Those of the host: invalid-input where columns are no multiple of `in`.
pub fn times(rows: &Tensor, matrix: &Tensor) -> Result<Tensor, Error> {
    let mut shape = rows.shape();
    let (columns, out) = (matrix.shape()[0], matrix.shape()[1]);
    let product = rows.reshape(&[shape.iter().product::<u32>() / columns, columns])?.matmul(matrix)?;
    shape.iter_mut().last().into_iter().for_each(|last| *last = *last / columns * out);
    product.reshape(&shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `tests/fixtures/techniques/slicing.py`.
    #[test]
    fn a_narrowed_norm_gives_what_pytorchs_norm_of_the_whole_stream_does() {
        let x = [0.699735493660075, -2.5406699506320414, 3.2169639372557883, 2.534700956988887, 1.7956117399953062];
        let expected =
            [0.38072971120534427, -1.3823916970576624, 1.75036676270762, 1.3791439366588631, 0.9770016604837917];
        let (gain, epsilon) = narrowed(8, 5, 0.01);
        let square = x.iter().map(|x: &f64| x * x).sum::<f64>() / 5.0;
        for (x, expected) in x.iter().zip(expected) {
            let found = gain * x / (square + epsilon).sqrt();
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
        assert_eq!(narrowed(8, 8, 0.01), (1.0, 0.01));
    }
}

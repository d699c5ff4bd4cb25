//! Linear maps of values, before they are nodes.

use super::{Editor, Error, Span, Tensor, ValueId, read, times, weights};

/// weight x + bias.
pub struct Linear {
    /// x, of `in` columns.
    pub input: ValueId,
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// One without a bias.
    pub fn new(input: ValueId, weight: Tensor) -> Self {
        Self { input, weight, bias: None }
    }

    /// `matrix` times a value: where a linear node makes the value, as one map of what that node reads.
    ///
    /// # Errors
    /// Those of the host.
    pub fn folded(model: &Editor, value: ValueId, matrix: &Tensor) -> Result<Self, Error> {
        let now = model.model();
        let maker = now.producer(value).map(|id| now.node(id)).transpose()?.filter(|node| node.spec.op == "linear");
        let Some((node, weight)) = maker.as_ref().and_then(|node| Some((node, node.weight("weight")?))) else {
            return Ok(Self::new(value, matrix.affine(1.0, 0.0)?));
        };
        let bias = node.weight("bias").map(|bias| {
            let bias = weights::get(&now, bias, None::<Span>)?;
            times(&bias, &matrix.transpose(&[])?)
        });
        Ok(Self { input: node.spec.inputs[0], weight: matrix.matmul(&read(model, weight)?)?, bias: bias.transpose()? })
    }

    /// The map that fits `y`, `[tokens, out]`, by the value's `x`, `[tokens, in]`: least squares with a ridge of this share
    /// of x's mean variance.
    ///
    /// # Errors
    /// Those of the host, where x has no variance, or is not finite.
    pub fn fitted(input: ValueId, x: &Tensor, y: &Tensor, ridge: f64) -> Result<Self, Error> {
        let (x_mean, y_mean) = (x.reduce("mean", &[0], true)?, y.reduce("mean", &[0], true)?);
        let centred = x.binary("sub", &x_mean)?;
        let turned = centred.transpose(&[])?;
        let factor = turned.matmul(&centred)?.cholesky(ridge)?;
        let cross = turned.matmul(&y.binary("sub", &y_mean)?)?;
        let map = factor.triangular_solve(&factor.triangular_solve(&cross, false, false)?, false, true)?;
        let bias = y_mean.binary("sub", &x_mean.matmul(&map)?)?.reshape(&[y.shape()[1]])?;
        Ok(Self { input, weight: map.transpose(&[])?, bias: Some(bias) })
    }
}

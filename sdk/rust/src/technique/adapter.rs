//! Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685): beside y = W x stands a thin pair of matrices, y + scale up (down x). With
//! a magnitude (DoRA, Liu et al., arXiv:2402.09353), each row of W + scale up down has a norm that is learned apart.

use super::numbers::spans;
use super::{AdapterForm, Editor, Error, Insert, Matrix, Node, Tensor, ValueId, change_rows_at, weights};

/// An adapter of one matrix, wherever that is used.
pub struct Adapter {
    /// The matrix.
    pub matrix: Matrix,
    /// `[rank, columns]`.
    pub down: Tensor,
    /// `[rows, rank]`.
    pub up: Tensor,
}

/// The adapter's weights in the model.
pub(super) struct Inserted {
    pub down: String,
    pub up: String,
    /// What rows are multiplied by: their norms while these are learned, then those over the norms that they have.
    pub rows: Option<String>,
}

impl Adapter {
    /// Puts it beside each linear map that the matrix makes, to be trained.
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn insert_to_train(&self, model: &Editor, form: &AdapterForm) -> Result<Inserted, Error> {
        let norms = if form.magnitude { Some(self.norms(model, form.scale)?) } else { None };
        let inserted = self.put(model, norms.as_ref())?;
        for node in users(model, &self.matrix)? {
            let part = Part { model, node: &node };
            let x = node.spec.inputs[0];
            let seen = match form.dropout > 0.0 {
                true => part.of("dropout", "dropout").attribute("rate", form.dropout).inputs([x]).finish()?,
                false => x,
            };
            let rows = match &inserted.rows {
                Some(magnitude) => {
                    let norms = part.of("inverse-norms", "norms").attribute("scale", form.scale);
                    let norms = norms.weight("weight", &self.matrix.weight);
                    let norms = norms.weight("down", &inserted.down).weight("up", &inserted.up).finish()?;
                    let magnitude = part.of("parameter", "magnitude").weight("weight", magnitude).finish()?;
                    Some(part.of("mul", "rows").inputs([norms, magnitude]).finish()?)
                }
                None => None,
            };
            part.join(&inserted, form.scale, seen, rows)?;
        }
        Ok(inserted)
    }

    /// Puts it beside each linear map that the matrix makes, to stay; `rows` is what the sum's rows are multiplied by.
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn insert(&self, model: &Editor, scale: f64, rows: Option<&Tensor>) -> Result<(), Error> {
        let inserted = self.put(model, rows)?;
        for node in users(model, &self.matrix)? {
            let part = Part { model, node: &node };
            let rows = inserted.rows.as_ref();
            let rows = rows.map(|rows| part.of("parameter", "rows").weight("weight", rows).finish()).transpose()?;
            part.join(&inserted, scale, node.spec.inputs[0], rows)?;
        }
        Ok(())
    }

    /// Adds it to its matrix, which is of plain numbers afterwards, and multiplies rows.
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn merge(&self, model: &Editor, scale: f64, rows: Option<&Tensor>) -> Result<(), Error> {
        let down = self.down.affine(scale, 0.0)?;
        change_rows_at(model, &self.matrix.weight, |first, w| {
            let count = w.shape()[0];
            let sum = w.binary("add", &self.up.slice(0, first, count)?.matmul(&down)?)?;
            match rows {
                Some(rows) => sum.binary("mul", &rows.slice(0, first, count)?.reshape(&[count, 1])?),
                None => Ok(sum),
            }
        })
    }

    /// The norm of each row of the matrix with the adapter.
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn norms(&self, model: &Editor, scale: f64) -> Result<Tensor, Error> {
        let (down, weight) = (self.down.affine(scale, 0.0)?, &self.matrix.weight);
        let norms = spans(model, weight)?.map(|rows| {
            let added = self.up.slice(0, rows.start, rows.count)?.matmul(&down)?;
            let norms = weights::get(&model.model(), weight, Some(rows))?.binary("add", &added)?;
            // A row of nothing stays one.
            norms.reduce("norm", &[1], false)?.clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX))
        });
        Tensor::concat(0, &norms.collect::<Result<Vec<_>, Error>>()?.iter().collect::<Vec<_>>())
    }

    fn put(&self, model: &Editor, rows: Option<&Tensor>) -> Result<Inserted, Error> {
        let name = |part: &str| format!("{}.adapter.{part}", self.matrix.weight);
        let inserted = Inserted { down: name("down"), up: name("up"), rows: rows.map(|_| name("rows")) };
        weights::put(model, &inserted.down, &self.down, "float32")?;
        weights::put(model, &inserted.up, &self.up, "float32")?;
        if let Some((name, rows)) = inserted.rows.as_ref().zip(rows) {
            weights::put(model, name, rows, "float32")?;
        }
        Ok(inserted)
    }
}

/// Where parts of an adapter are put.
struct Part<'a> {
    model: &'a Editor,
    node: &'a Node,
}

impl<'a> Part<'a> {
    fn of(&self, op: &str, part: &str) -> Insert<'a> {
        self.model.node_beside(self.node, op, &format!("{}.adapter.{part}", self.node.spec.name), "adapter")
    }

    /// The adapter's product with what it sees is added to the map's, and their rows are multiplied.
    fn join(&self, weights: &Inserted, scale: f64, seen: ValueId, rows: Option<ValueId>) -> Result<(), Error> {
        let node = self.node;
        let down = self.of("linear", "down").inputs([seen]).weight("weight", &weights.down).finish()?;
        let scaled = self.of("scale", "scale").attribute("factor", scale).inputs([down]).finish()?;
        let up = self.of("linear", "up").inputs([scaled]).weight("weight", &weights.up).finish()?;
        let Some(rows) = rows else {
            let sum = self.of("add", "sum").inputs([node.outputs[0], up]).node()?;
            return self.model.replace_uses(node.outputs[0], sum.outputs[0], &[sum.id]);
        };
        // What rows are multiplied by is the matrix's alone: a bias is added afterwards.
        let plain = self.model.node_again(node, "without-bias").without_weight("bias");
        let plain = plain.inputs(node.spec.inputs.iter().copied()).finish()?;
        let sum = self.of("add", "sum").inputs([plain, up]).finish()?;
        let mut adapted = self.of("mul", "multiplied").inputs([sum, rows]).finish()?;
        if let Some(bias) = node.weight("bias") {
            let bias = self.of("parameter", "bias").weight("weight", bias).finish()?;
            adapted = self.of("add", "biased").inputs([adapted, bias]).finish()?;
        }
        self.model.replace_uses(node.outputs[0], adapted, &[])?;
        self.model.remove(node.id)
    }
}

/// The linear maps that a matrix makes.
///
/// # Errors
/// Those of the host.
pub fn users(model: &Editor, matrix: &Matrix) -> Result<Vec<Node>, Error> {
    let model = model.model();
    let nodes = model.users(&matrix.weight).into_iter().map(|id| model.node(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(nodes.into_iter().filter(|node| node.spec.op == "linear").collect())
}

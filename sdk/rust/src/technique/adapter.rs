//! Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685): beside y = W x stands a thin pair of matrices, y + scale up (down x).

use super::{Editor, Error, Matrix, Node, NodeId, Tensor, ValueId, change_rows_at, weights};

/// An adapter of one matrix, wherever that is used.
pub struct Adapter {
    /// The matrix.
    pub matrix: Matrix,
    /// The name of the weight `[rank, columns]`.
    pub down: String,
    /// The name of the weight `[rows, rank]`.
    pub up: String,
    scale: f64,
    /// What each user of the matrix makes, and the sum that stands in its place.
    sums: Vec<(ValueId, ValueId, [NodeId; 4])>,
}

impl Adapter {
    /// Puts one beside each linear map that the matrix makes; `down` is `[rank, columns]`, `up` `[rows, rank]`.
    ///
    /// # Errors
    /// Those of the host.
    pub fn insert(model: &Editor, matrix: &Matrix, down: &Tensor, up: &Tensor, scale: f64) -> Result<Self, Error> {
        let name = |part: &str| format!("{}.adapter.{part}", matrix.weight);
        let mut adapter = Self { matrix: matrix.clone(), down: name("down"), up: name("up"), scale, sums: Vec::new() };
        weights::put(model, &adapter.down, down, "float32")?;
        weights::put(model, &adapter.up, up, "float32")?;
        for node in users(model, matrix)? {
            let part = |op: &str, part: &str| {
                model.node_beside(&node, op, &format!("{}.adapter.{part}", node.spec.name), "adapter")
            };
            let made = node.outputs[0];
            let down = part("linear", "down").inputs([node.spec.inputs[0]]).weight("weight", &adapter.down).node()?;
            let scaled = part("scale", "scale").attribute("factor", scale).inputs([down.outputs[0]]).node()?;
            let up = part("linear", "up").inputs([scaled.outputs[0]]).weight("weight", &adapter.up).node()?;
            let sum = part("add", "sum").inputs([made, up.outputs[0]]).node()?;
            model.replace_uses(made, sum.outputs[0], &[sum.id])?;
            adapter.sums.push((made, sum.outputs[0], [sum.id, up.id, scaled.id, down.id]));
        }
        Ok(adapter)
    }

    /// Adds the adapter to its matrix, and takes its nodes away. The matrix is of plain numbers afterwards.
    ///
    /// # Errors
    /// Those of the host.
    pub fn merge(self, model: &Editor) -> Result<(), Error> {
        for (made, sum, nodes) in &self.sums {
            model.replace_uses(*sum, *made, &[nodes[0]])?;
            nodes.iter().try_for_each(|node| model.remove(*node))?;
        }
        let down = weights::get(&model.model(), &self.down, None)?.affine(self.scale, 0.0)?;
        let up = weights::get(&model.model(), &self.up, None)?;
        change_rows_at(model, &self.matrix.weight, |first, w| {
            w.binary("add", &up.slice(0, first, w.shape()[0])?.matmul(&down)?)
        })
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

//! Linear maps put between nodes.

use super::{Editor, Error, Node, NodeId, Tensor, ValueId, weights};

/// A linear map `[out, in]` after a node: all that read the node's first output read the map's instead. Node and weight
/// are named after the node, with `suffix`; the weight is float16. A map of other sides than the value had leaves shapes
/// that do not fit until `check`.
///
/// # Errors
/// Those of the host.
pub fn insert_after(model: &Editor, node: NodeId, suffix: &str, weight: &Tensor) -> Result<Node, Error> {
    let node = model.model().node(node)?;
    let inserted = insert(model, &node, suffix, "other", node.outputs[0], weight)?;
    model.replace_uses(node.outputs[0], inserted.outputs[0], &[inserted.id])?;
    Ok(inserted)
}

/// The same between a node and its first input, of which other readers stay as they are.
///
/// # Errors
/// Those of the host.
pub fn insert_before(model: &Editor, node: NodeId, suffix: &str, weight: &Tensor) -> Result<Node, Error> {
    let input = model.model().node(node)?.spec.inputs[0];
    insert_between(model, input, node, suffix, "other", weight)
}

/// The same between a value and one node that reads it; the map has this role.
///
/// # Errors
/// Those of the host.
#[inline(never)]
pub fn insert_between(
    model: &Editor,
    value: ValueId,
    reader: NodeId,
    suffix: &str,
    role: &str,
    weight: &Tensor,
) -> Result<Node, Error> {
    let reader = model.model().node(reader)?;
    let inserted = insert(model, &reader, suffix, role, value, weight)?;
    let others: Vec<NodeId> = model.model().consumers(value).into_iter().filter(|id| *id != reader.id).collect();
    model.replace_uses(value, inserted.outputs[0], &others)?;
    Ok(inserted)
}

fn insert(
    model: &Editor,
    near: &Node,
    suffix: &str,
    role: &str,
    input: ValueId,
    weight: &Tensor,
) -> Result<Node, Error> {
    let name = format!("{}.{suffix}", near.spec.name);
    let columns = model.model().shape(input)?.last().and_then(|columns| columns.parse().ok());
    let insert = model.node_beside(near, "linear", &name, role).inputs([input]);
    // One value may only take another's place where their shapes are equal, so the map is square until that is done.
    match columns.filter(|columns: &u32| weight.shape() != [*columns, *columns]) {
        Some(columns) => {
            let square = Tensor::full(&[columns, columns], "float32", 0.0)?;
            let node = insert.new_weight("weight", &square, "float16")?.node()?;
            weights::put(model, &format!("{name}.weight"), weight, "float16")?;
            Ok(node)
        }
        None => insert.new_weight("weight", weight, "float16")?.node(),
    }
}

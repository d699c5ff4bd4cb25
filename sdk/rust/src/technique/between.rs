//! Linear maps put between nodes.

use super::{Editor, Error, Node, NodeId, Tensor, ValueId};

/// A linear map `[out, in]` after a node: all that read the node's first output read the map's instead. Node and weight
/// are named after the node, with `suffix`; the weight is float16.
///
/// # Errors
/// Those of the host.
pub fn insert_after(model: &Editor, node: NodeId, suffix: &str, weight: &Tensor) -> Result<Node, Error> {
    let node = model.model().node(node)?;
    let inserted = insert(model, &node, suffix, node.outputs[0], weight)?;
    model.replace_uses(node.outputs[0], inserted.outputs[0], &[inserted.id])?;
    Ok(inserted)
}

/// The same between a node and its first input, of which other readers stay as they are.
///
/// # Errors
/// Those of the host.
pub fn insert_before(model: &Editor, node: NodeId, suffix: &str, weight: &Tensor) -> Result<Node, Error> {
    let node = model.model().node(node)?;
    let input = node.spec.inputs[0];
    let inserted = insert(model, &node, suffix, input, weight)?;
    let others: Vec<NodeId> = model.model().consumers(input).into_iter().filter(|id| *id != node.id).collect();
    model.replace_uses(input, inserted.outputs[0], &others)?;
    Ok(inserted)
}

fn insert(model: &Editor, near: &Node, suffix: &str, input: ValueId, weight: &Tensor) -> Result<Node, Error> {
    let name = format!("{}.{suffix}", near.spec.name);
    let insert = model.node_beside(near, "linear", &name, "other").inputs([input]);
    insert.new_weight("weight", weight, "float16")?.node()
}

//! Attention of queries and keys that a rope turns, as the graph shows it, whatever the nodes are called.

use super::{Error, Filter, Model, Node, ValueId};

/// The nodes of one layer's attention.
pub struct RotaryAttention {
    /// The op itself.
    pub attention: Node,
    /// Its cache, which nothing else reads.
    pub cache: Node,
    /// The keys' rope; that of the queries is the same.
    pub rope: Node,
    /// Linear, which alone reads what attention gives.
    pub output: Node,
    /// Queries before their rope.
    pub query: ValueId,
    /// Keys before their rope.
    pub key: ValueId,
    /// Values.
    pub value: ValueId,
}

/// The attention of all layers.
///
/// # Errors
/// not-applicable, naming the first node that is built otherwise; those of the host.
pub fn rotary_attentions(model: &Model) -> Result<Vec<RotaryAttention>, Error> {
    let attentions = model.nodes(&Filter::op("attention"));
    if attentions.is_empty() {
        return Err(Error::not_applicable("the model has no attention"));
    }
    attentions.into_iter().map(|attention| layer(model, attention)).collect()
}

fn layer(model: &Model, attention: Node) -> Result<RotaryAttention, Error> {
    let unfit = |why: &str| Error::not_applicable(format!("node `{}`: {why}", attention.spec.name));
    let maker = |value: ValueId, op: &str, why: &str| {
        let node = model.producer(value).map(|id| model.node(id)).transpose()?;
        node.filter(|node| node.spec.op == op).ok_or_else(|| unfit(why))
    };
    let inputs = &attention.spec.inputs;
    let cache = maker(inputs[1], "cache", "its keys come from no cache")?;
    if cache.outputs[..] != [inputs[1], inputs[2], inputs[4]] {
        return Err(unfit("keys, values and their positions are not those of one cache"));
    }
    if cache.outputs.iter().any(|value| model.consumers(*value).len() != 1) {
        return Err(unfit("others read its cache"));
    }
    if cache.spec.inputs[0] == cache.spec.inputs[1] {
        return Err(unfit("it is latent attention already"));
    }
    let query_rope = maker(inputs[0], "rope", "its queries have no rope")?;
    let rope = maker(cache.spec.inputs[0], "rope", "its keys have no rope")?;
    if query_rope.spec.attributes != rope.spec.attributes || query_rope.spec.weights != rope.spec.weights {
        return Err(unfit("queries and keys have different ropes"));
    }
    let (readers, y) = (model.consumers(attention.outputs[0]), attention.outputs[0]);
    let output = readers.first().map(|id| model.node(*id)).transpose()?;
    let output = output.filter(|node| node.spec.op == "linear" && readers.len() == 1);
    let output = output.ok_or_else(|| unfit(&format!("value {y} goes into no output matrix")))?;
    let (query, key, value) = (query_rope.spec.inputs[0], rope.spec.inputs[0], cache.spec.inputs[1]);
    Ok(RotaryAttention { attention, cache, rope, output, query, key, value })
}

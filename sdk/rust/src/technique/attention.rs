//! Attention blocks as the graph shows them: from the matrices that make queries, keys and values to the one that takes
//! the heads together.

use super::{Error, Filter, Model, Node, ValueId, weights};

/// A matrix whose rows fall into heads, and what then works on each head by itself, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The matrix.
    pub linear: Node,
    /// Norms of a head's length, and rope.
    pub steps: Vec<Node>,
}

impl Projection {
    /// Whether heads are normed, so that their scale is lost.
    pub fn normed(&self) -> bool {
        self.steps.iter().any(|node| node.spec.op != "rope")
    }

    /// All of its nodes, in order.
    pub fn nodes(&self) -> Vec<&Node> {
        std::iter::once(&self.linear).chain(&self.steps).collect()
    }
}

/// One attention.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionBlock {
    /// Queries.
    pub query: Projection,
    /// Keys.
    pub key: Projection,
    /// Values.
    pub value: Projection,
    /// What keeps keys and values.
    pub cache: Node,
    /// The op itself.
    pub attention: Node,
    /// The matrix that reads the heads.
    pub output: Node,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a query's or key's head.
    pub head_dim: u32,
    /// Elements of a value's head.
    pub value_dim: u32,
}

impl AttentionBlock {
    /// The keys' rope.
    ///
    /// # Errors
    /// not-applicable where queries or keys have none right before the attention, or they are not alike.
    #[inline(never)]
    pub fn rope(&self) -> Result<&Node, Error> {
        let rope = |of: &'_ Projection| of.steps.last().map(|node| node.spec.op == "rope") == Some(true);
        if !rope(&self.query) || !rope(&self.key) {
            return Err(other(&self.attention, "its queries or keys have no rope"));
        }
        let [query, key] = [&self.query, &self.key].map(|of| &of.steps[of.steps.len() - 1]);
        if query.spec.attributes != key.spec.attributes || query.spec.weights != key.spec.weights {
            return Err(other(&self.attention, "queries and keys have different ropes"));
        }
        Ok(key)
    }

    /// Queries and keys before their rope, and the values.
    ///
    /// # Errors
    /// As [`AttentionBlock::rope`].
    pub fn unrotated(&self) -> Result<[ValueId; 3], Error> {
        self.rope()?;
        let before = |of: &Projection| of.steps.last().map_or(of.linear.outputs[0], |rope| rope.spec.inputs[0]);
        Ok([before(&self.query), before(&self.key), self.cache.spec.inputs[1]])
    }

    /// Query heads that share a key-value head.
    pub fn shared(&self) -> u32 {
        self.heads / self.kv_heads
    }
}

/// The attention blocks of a model, in order.
///
/// # Errors
/// not-applicable where there are none, or where one is made otherwise: keys and values of one matrix, norms over all
/// heads, a cache that two attentions read. The message says which.
#[inline(never)]
pub fn attention_blocks(model: &Model) -> Result<Vec<AttentionBlock>, Error> {
    let nodes = model.language_nodes(&Filter::all());
    let length = |weight: &str| Ok(weights::describe(model, weight)?.shape.iter().product());
    let blocks: Vec<AttentionBlock> = nodes
        .iter()
        .filter(|n| n.spec.op == "attention")
        .map(|n| block(&nodes, n, &length))
        .collect::<Result<_, _>>()?;
    match blocks.is_empty() {
        true => Err(Error::not_applicable("the model has no attention")),
        false => Ok(blocks),
    }
}

fn other(node: &Node, what: &str) -> Error {
    Error::not_applicable(format!("attention `{}`: {what}", node.spec.name))
}

fn block(
    nodes: &[Node],
    attention: &Node,
    length: &dyn Fn(&str) -> Result<u32, Error>,
) -> Result<AttentionBlock, Error> {
    let integer = |name: &str| attention.attribute(name).and_then(|v| v.as_integer()).map(|v| v as u32);
    let dimension = |name: &str| integer(name).ok_or_else(|| other(attention, &format!("it has no `{name}`")));
    let (heads, kv_heads, head_dim) = (dimension("heads")?, dimension("kv-heads")?, dimension("head-dim")?);
    let value_dim = integer("value-dim").unwrap_or(head_dim);
    let inputs = &attention.spec.inputs;
    let cache = inputs.get(1).and_then(|k| producer(nodes, *k)).filter(|node| node.spec.op == "cache");
    let cache = cache.ok_or_else(|| other(attention, "its keys come from no cache"))?;
    if inputs.get(1..3) != cache.outputs.get(..2) || cache.spec.inputs[0] == cache.spec.inputs[1] {
        return Err(other(attention, "keys and values are one"));
    }
    if cache.outputs.iter().any(|kept| consumers(nodes, *kept).any(|user| user.id != attention.id)) {
        return Err(other(attention, "another one reads the same keys"));
    }
    let walk = |role: &str, value: ValueId, dim: u32| projection(nodes, attention, role, value, dim, length);
    let mut readers = attention.outputs.iter().flat_map(|y| consumers(nodes, *y));
    let output = match (readers.next(), readers.next()) {
        (Some(node), None) if node.spec.op == "linear" => node.clone(),
        _ => return Err(other(attention, "its heads are not read by one linear")),
    };
    Ok(AttentionBlock {
        query: walk("queries", inputs[0], head_dim)?,
        key: walk("keys", cache.spec.inputs[0], head_dim)?,
        value: walk("values", cache.spec.inputs[1], value_dim)?,
        cache: cache.clone(),
        attention: attention.clone(),
        output,
        heads,
        kv_heads,
        head_dim,
        value_dim,
    })
}

/// From the value back to the matrix that it comes from.
fn projection(
    nodes: &[Node],
    attention: &Node,
    role: &str,
    mut value: ValueId,
    dim: u32,
    length: &dyn Fn(&str) -> Result<u32, Error>,
) -> Result<Projection, Error> {
    let mut steps = Vec::new();
    loop {
        let node =
            producer(nodes, value).ok_or_else(|| other(attention, &format!("its {role} come from no matrix")))?;
        if consumers(nodes, value).count() > 1 {
            return Err(other(attention, &format!("node `{}` of its {role} has other readers", node.spec.name)));
        }
        let by_head = match (node.spec.op.as_str(), node.weight("weight")) {
            ("linear", _) => return Ok(Projection { linear: node.clone(), steps }),
            ("rope", _) => true,
            ("rms-norm" | "layer-norm", Some(weight)) => length(weight)? == dim,
            _ => false,
        };
        if !by_head {
            let (name, op) = (&node.spec.name, &node.spec.op);
            return Err(other(attention, &format!("`{name}` ({op}) of its {role} mixes heads")));
        }
        steps.insert(0, node.clone());
        value = node.spec.inputs[0];
    }
}

fn producer(nodes: &[Node], value: ValueId) -> Option<&Node> {
    nodes.iter().find(|node| node.outputs.contains(&value))
}

fn consumers(nodes: &[Node], value: ValueId) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(move |node| node.spec.inputs.contains(&value))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn node(id: u32, op: &str, inputs: &[ValueId], outputs: &[ValueId]) -> Node {
        let weight = format!("weight=w{id}");
        let weights = [weight.as_str()];
        let weights = if matches!(op, "linear" | "rms-norm") { &weights[..] } else { &[] };
        let attributes = [("heads", 8), ("kv-heads", 2), ("head-dim", 16)];
        Node { outputs: outputs.to_vec(), ..testing::node(id, op, inputs, weights, &attributes) }
    }

    /// x is 0 and positions are 1.
    fn nodes() -> Vec<Node> {
        vec![
            node(0, "linear", &[0], &[10]),
            node(1, "linear", &[0], &[11]),
            node(2, "linear", &[0], &[12]),
            node(3, "rms-norm", &[11], &[13]),
            node(4, "rope", &[10, 1], &[14]),
            node(5, "rope", &[13, 1], &[15]),
            node(6, "cache", &[15, 12, 1], &[16, 17, 18]),
            node(7, "attention", &[14, 16, 17, 1, 18], &[19]),
            node(8, "linear", &[19], &[20]),
        ]
    }

    fn found(nodes: &[Node], norm: u32) -> Result<AttentionBlock, Error> {
        block(nodes, &nodes[7], &|_| Ok(norm))
    }

    #[test]
    fn matrices_and_what_works_on_their_heads_are_found() {
        let block = found(&nodes(), 16).unwrap();
        let ids = |nodes: Vec<&Node>| nodes.iter().map(|n| n.id).collect::<Vec<_>>();
        assert_eq!(
            [&block.query, &block.key, &block.value].map(|p| ids(p.nodes())),
            [vec![0, 4], vec![1, 3, 5], vec![2]]
        );
        assert_eq!((block.cache.id, block.output.id, block.kv_heads, block.value_dim), (6, 8, 2, 16));
        assert!(block.key.normed() && !block.query.normed());
        assert_eq!((block.rope().map(|node| node.id), block.unrotated()), (Ok(5), Ok([10, 13, 12])));
    }

    #[test]
    fn what_is_made_otherwise_is_named() {
        let error = |nodes: &[Node], norm| found(nodes, norm).unwrap_err();
        let wide = error(&nodes(), 32);
        assert_eq!(wide.code, "not-applicable");
        assert_eq!(wide.message, "attention `attention.7`: `rms-norm.3` (rms-norm) of its keys mixes heads");
        let mut shared = nodes();
        shared.push(node(9, "attention", &[14, 16, 17, 1, 18], &[21]));
        assert!(error(&shared, 16).message.contains("another one reads the same keys"));
        let mut latent = nodes();
        latent[6].spec.inputs[1] = 15;
        assert!(error(&latent, 16).message.contains("keys and values are one"));
        let mut turned = nodes();
        turned[4].spec.attributes.pop();
        let different = found(&turned, 16).unwrap().rope().unwrap_err().message;
        assert!(different.contains("different ropes"), "{different}");
        let mut gated = nodes();
        gated[8] = node(8, "mul", &[19, 0], &[20]);
        assert!(error(&gated, 16).message.contains("not read by one linear"));
    }
}

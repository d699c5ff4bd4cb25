//! Gated feed-forward networks as the graph shows them: down(activation(gate(x)) * up(x)), whatever the nodes are called.

use super::{Filter, Model, Node, ValueId};
use std::collections::BTreeMap;

/// The nodes of one network.
#[derive(Debug, Clone)]
pub struct GatedFeedForward {
    /// Linear.
    pub gate: Node,
    /// Linear.
    pub up: Node,
    /// `silu` or `gelu`.
    pub activation: Node,
    /// Linear.
    pub down: Node,
}

impl GatedFeedForward {
    /// What gate and up read.
    pub fn input(&self) -> ValueId {
        self.gate.spec.inputs[0]
    }

    /// What its neurons give, which down reads.
    pub fn neurons(&self) -> ValueId {
        self.down.spec.inputs[0]
    }

    /// The matrices of gate and up, `[width, n]`, and down, `[n, width]`.
    pub fn matrices(&self) -> [&str; 3] {
        // A linear node has a weight.
        [&self.gate, &self.up, &self.down].map(|node| node.weight("weight").unwrap_or_default())
    }

    /// Its layer, for messages.
    pub fn place(&self) -> String {
        self.down.spec.layer.map_or(self.down.spec.name.clone(), |layer| format!("layer {layer}"))
    }
}

/// The gated networks of a model whose values inside nothing else reads, in order.
pub fn gated_feed_forwards(model: &Model) -> Vec<GatedFeedForward> {
    from_nodes(&model.nodes(&Filter::all()))
}

fn from_nodes(nodes: &[Node]) -> Vec<GatedFeedForward> {
    let maker: BTreeMap<ValueId, &Node> =
        nodes.iter().flat_map(|node| node.outputs.iter().map(move |v| (*v, node))).collect();
    let mut readers: BTreeMap<ValueId, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        node.spec.inputs.iter().for_each(|value| readers.entry(*value).or_default().push(node));
    }
    let made_by = |value: ValueId, ops: &[&str]| -> Option<&Node> {
        let node = *maker.get(&value)?;
        (ops.contains(&node.spec.op.as_str()) && readers.get(&value)?.len() == 1).then_some(node)
    };
    let network = |product: &Node| -> Option<GatedFeedForward> {
        let [a, b] = product.spec.inputs[..] else { return None };
        let [down] = readers.get(product.outputs.first()?)?[..] else { return None };
        let (activation, up) = [(a, b), (b, a)]
            .into_iter()
            .find_map(|(gated, up)| made_by(gated, &["silu", "gelu"]).zip(made_by(up, &["linear"])))?;
        let gate = made_by(activation.spec.inputs[0], &["linear"])?;
        let fits = down.spec.op == "linear" && gate.spec.inputs == up.spec.inputs;
        let [gate, up, activation, down] = [gate, up, activation, down].map(Clone::clone);
        fits.then_some(GatedFeedForward { gate, up, activation, down })
    };
    nodes.iter().filter(|node| node.spec.op == "mul").filter_map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::*;

    fn node(id: u32, op: &str, inputs: &[ValueId]) -> Node {
        let spec = Spec {
            function: "decode".into(),
            name: format!("node.{id}"),
            role: "other".into(),
            layer: None,
            op: op.into(),
            attributes: vec![],
            inputs: inputs.to_vec(),
            weights: vec![],
        };
        Node { id, spec, outputs: vec![id] }
    }

    fn network() -> Vec<Node> {
        vec![
            node(1, "linear", &[0]),
            node(2, "linear", &[0]),
            node(3, "silu", &[2]),
            node(4, "mul", &[1, 3]),
            node(5, "linear", &[4]),
        ]
    }

    #[test]
    fn a_network_is_found_by_its_shape_in_either_order_of_the_product() {
        for product in [[1, 3], [3, 1]] {
            let mut nodes = network();
            nodes[3].spec.inputs = product.to_vec();
            let [found] = &from_nodes(&nodes)[..] else { panic!("one network") };
            assert_eq!([found.gate.id, found.up.id, found.activation.id, found.down.id], [2, 1, 3, 5]);
            assert_eq!((found.input(), found.neurons()), (0, 4));
        }
    }

    #[test]
    fn a_network_whose_inside_others_read_or_that_reads_two_values_is_none() {
        let mut nodes = network();
        nodes.push(node(6, "tanh", &[4]));
        assert!(from_nodes(&nodes).is_empty());
        let mut nodes = network();
        nodes[0].spec.inputs = vec![9];
        assert!(from_nodes(&nodes).is_empty());
    }
}

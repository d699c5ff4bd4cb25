//! Feed-forward networks as the graph shows them: the matrix that reads neurons, and those that make them.

use super::{Error, Filter, Model, Node, ValueId};

/// One network. Neuron i is column i of `down` and row i of each of `makers`.
#[derive(Debug)]
pub struct Network {
    /// The matrix that reads the neurons.
    pub down: Node,
    /// The matrices that make them: gate and up, or up alone.
    pub makers: Vec<Node>,
    /// Where the neurons are activation(gate(x)) * up(x).
    pub gated: Option<Gated>,
}

/// The nodes that make the neurons of a gated network.
#[derive(Debug)]
pub struct Gated {
    /// Linear.
    pub gate: Node,
    /// Linear, of the same value as gate.
    pub up: Node,
    /// `silu` or `gelu`.
    pub activation: Node,
}

/// Ops that work on each element by itself.
const BY_ELEMENT: [&str; 8] = ["mul", "add", "silu", "gelu", "tanh", "sigmoid", "relu", "scale"];

/// The networks of a model, in order.
///
/// # Errors
/// not-applicable where there are none, or one has neurons that others read; the message says which.
#[inline(never)]
pub fn networks(model: &Model) -> Result<Vec<Network>, Error> {
    let nodes = model.language_nodes(&Filter::all());
    let downs = nodes.iter().filter(|node| node.spec.role == "down" && node.spec.op == "linear");
    let networks: Vec<Network> = downs.map(|down| network(&nodes, down)).collect::<Result<_, _>>()?;
    if networks.is_empty() {
        return Err(Error::not_applicable("no layer has a feed-forward network of its own: experts stay as they are"));
    }
    Ok(networks)
}

fn network(nodes: &[Node], down: &Node) -> Result<Network, Error> {
    let error = |node: &Node, what: &str| {
        Error::not_applicable(format!("node `{}`, which makes neurons of `{}`, {what}", node.spec.name, down.spec.name))
    };
    let (mut makers, mut open) = (Vec::<Node>::new(), vec![down.spec.inputs[0]]);
    while let Some(value) = open.pop() {
        let Some(node) = nodes.iter().find(|node| node.outputs.contains(&value)) else {
            return Err(Error::not_applicable(format!("the neurons of `{}` come from no matrix", down.spec.name)));
        };
        if nodes.iter().filter(|user| user.spec.inputs.contains(&value)).count() > 1 {
            return Err(error(node, "has other readers"));
        }
        match node.spec.op.as_str() {
            "linear" if makers.contains(node) => {}
            "linear" => makers.push(node.clone()),
            op if BY_ELEMENT.contains(&op) => open.extend(&node.spec.inputs),
            _ => return Err(error(node, "is neither a matrix nor works on each neuron by itself")),
        }
    }
    let gated = gated(nodes, down);
    Ok(Network { down: down.clone(), makers, gated })
}

/// The nodes of a network that is gated; nothing inside has other readers.
fn gated(nodes: &[Node], down: &Node) -> Option<Gated> {
    let made_by = |value: ValueId, ops: &[&str]| {
        nodes.iter().find(|node| node.outputs.contains(&value) && ops.contains(&node.spec.op.as_str()))
    };
    let [a, b] = made_by(down.spec.inputs[0], &["mul"])?.spec.inputs[..] else { return None };
    let (activation, up) = [(a, b), (b, a)]
        .into_iter()
        .find_map(|(bent, up)| made_by(bent, &["silu", "gelu"]).zip(made_by(up, &["linear"])))?;
    let gate = made_by(activation.spec.inputs[0], &["linear"])?;
    let [gate, up, activation] = [gate, up, activation].map(Clone::clone);
    (gate.spec.inputs == up.spec.inputs).then_some(Gated { gate, up, activation })
}

#[cfg(test)]
mod tests {
    use super::super::testing::node;
    use super::*;

    /// x is 0; the last node is down.
    fn network_nodes() -> Vec<Node> {
        vec![
            node(0, "linear", &[0], &[], &[]),
            node(1, "linear", &[0], &[], &[]),
            node(2, "silu", &[100], &[], &[]),
            node(3, "mul", &[102, 101], &[], &[]),
            node(4, "linear", &[103], &[], &[]),
        ]
    }

    #[test]
    fn gate_and_up_make_the_neurons_that_down_reads_in_either_order_of_the_product() {
        for product in [[102, 101], [101, 102]] {
            let mut nodes = network_nodes();
            nodes[3].spec.inputs = product.to_vec();
            let found = network(&nodes, &nodes[4]).unwrap();
            let mut makers: Vec<u32> = found.makers.iter().map(|node| node.id).collect();
            makers.sort_unstable();
            assert_eq!(makers, [0, 1]);
            let gated = found.gated.unwrap();
            assert_eq!([gated.gate.id, gated.up.id, gated.activation.id], [0, 1, 2]);
        }
    }

    #[test]
    fn a_network_without_a_gate_or_of_two_values_is_not_gated() {
        let mut plain = network_nodes();
        plain[4].spec.inputs = vec![102];
        plain.remove(3);
        assert!(network(&plain, &plain[3]).unwrap().gated.is_none());
        let mut of_two = network_nodes();
        of_two[1].spec.inputs = vec![9];
        assert!(network(&of_two, &of_two[4]).unwrap().gated.is_none());
    }

    #[test]
    fn neurons_that_mix_or_have_other_readers_are_refused() {
        let mut read = network_nodes();
        read.push(node(5, "linear", &[102], &[], &[]));
        let message = network(&read, &read[4]).unwrap_err().message;
        assert_eq!(message, "node `silu.2`, which makes neurons of `linear.4`, has other readers");
        let mut mixed = network_nodes();
        mixed[3] = node(3, "softmax", &[102], &[], &[]);
        let message = network(&mixed, &mixed[4]).unwrap_err().message;
        assert!(message.ends_with("is neither a matrix nor works on each neuron by itself"), "{message}");
    }
}

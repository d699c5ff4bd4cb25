//! Feed-forward networks as the graph shows them: the matrix that reads neurons, and those that make them.

use super::{Error, Filter, Model, Node};

/// One network. Neuron i is column i of `down` and row i of each of `makers`.
#[derive(Debug)]
pub struct Network {
    /// The matrix that reads the neurons.
    pub down: Node,
    /// The matrices that make them: gate and up, or up alone.
    pub makers: Vec<Node>,
}

/// Ops that work on each element by itself.
const BY_ELEMENT: [&str; 8] = ["mul", "add", "silu", "gelu", "tanh", "sigmoid", "relu", "scale"];

/// The networks of a model, in order.
///
/// # Errors
/// not-applicable where there are none, or one has neurons that others read; the message says which.
pub fn networks(model: &Model) -> Result<Vec<Network>, Error> {
    let nodes = model.nodes(&Filter::all());
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
    Ok(Network { down: down.clone(), makers })
}

#[cfg(test)]
mod tests {
    use super::super::{Spec, ValueId};
    use super::*;

    fn node(id: u32, op: &str, inputs: &[ValueId]) -> Node {
        let spec = Spec {
            function: "decode".into(),
            name: format!("node.{id}"),
            role: if id == 4 { "down" } else { "other" }.into(),
            layer: Some(0),
            op: op.into(),
            attributes: vec![],
            inputs: inputs.to_vec(),
            weights: vec![],
        };
        Node { id, spec, outputs: vec![100 + id] }
    }

    fn gated() -> Vec<Node> {
        vec![
            node(0, "linear", &[0]),
            node(1, "linear", &[0]),
            node(2, "silu", &[100]),
            node(3, "mul", &[102, 101]),
            node(4, "linear", &[103]),
        ]
    }

    #[test]
    fn gate_and_up_make_the_neurons_that_down_reads() {
        let nodes = gated();
        let mut makers: Vec<u32> = network(&nodes, &nodes[4]).unwrap().makers.iter().map(|node| node.id).collect();
        makers.sort_unstable();
        assert_eq!(makers, [0, 1]);
    }

    #[test]
    fn neurons_that_mix_or_have_other_readers_are_refused() {
        let mut read = gated();
        read.push(node(5, "linear", &[102]));
        let message = network(&read, &read[4]).unwrap_err().message;
        assert_eq!(message, "node `node.2`, which makes neurons of `node.4`, has other readers");
        let mut mixed = gated();
        mixed[3] = node(3, "softmax", &[102]);
        let message = network(&mixed, &mixed[4]).unwrap_err().message;
        assert!(message.ends_with("is neither a matrix nor works on each neuron by itself"), "{message}");
    }
}

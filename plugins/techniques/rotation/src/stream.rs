//! The residual stream as the graph shows it: what embeddings begin and additions carry on, and who writes and reads it.

use aehost_sdk::technique::{Error, Node, NodeId, Value, ValueId, Wiring};
use std::collections::BTreeSet;

/// Where the stream meets weights.
#[derive(Debug, Default, PartialEq)]
pub struct Stream {
    /// Columns of the stream.
    pub width: usize,
    /// Embeddings whose rows are rotated.
    pub embeddings: Vec<String>,
    /// Nodes after which a linear map has to rotate what they give: embeddings that are heads too.
    pub rotated_after: Vec<NodeId>,
    /// Norms that write to the stream. Their weights go into a linear map after them, which rotates too.
    pub writing_norms: Vec<Norm>,
    /// Matrices `[.., width, in]` that write to the stream, and their biases.
    pub writers: Vec<(String, Option<String>)>,
    /// Norms that read the stream, and the matrices that read them.
    pub reading_norms: Vec<(Norm, Vec<String>)>,
    /// Matrices `[.., out, width]` that read it without a norm.
    pub readers: Vec<String>,
    /// Norms before which a linear map has to rotate back: those of heads that are embeddings too.
    pub restored_before: Vec<NodeId>,
}

/// A norm whose weights move into matrices.
#[derive(Debug, PartialEq)]
pub struct Norm {
    pub node: NodeId,
    pub weight: String,
    /// Added to the weight: 1 for Gemma's.
    pub offset: f64,
}

impl Stream {
    /// Of a model. Errors: not-applicable, naming the node that a rotation does not pass.
    pub fn find(wiring: &Wiring) -> Result<Self, Error> {
        let values = values(wiring);
        let Some(first) = values.first() else { return Err(Error::not_applicable("the model has no embedding")) };
        let mut stream = Self { width: wiring.width(*first), ..Self::default() };
        if let Some(output) = values.iter().find(|value| wiring.outputs.contains(value)) {
            return Err(Error::not_applicable(format!("{} is an output of the model", wiring.named(*output))));
        }
        for node in &wiring.nodes {
            if carries(wiring, node).iter().any(|value| values.contains(value)) {
                continue;
            }
            if node.outputs.iter().any(|value| values.contains(value)) {
                stream.written_by(wiring, node)?;
            }
            if node.spec.inputs.iter().any(|value| values.contains(value)) {
                stream.read_by(wiring, node, &values)?;
            }
        }
        Ok(stream)
    }

    fn written_by(&mut self, wiring: &Wiring, node: &Node) -> Result<(), Error> {
        let own = |slot: &str| wiring.own(node, slot).map(str::to_owned);
        match node.spec.op.as_str() {
            "embedding" => match own("weight") {
                Ok(weight) => self.embeddings.push(weight),
                Err(_) => self.rotated_after.push(node.id),
            },
            "linear" => {
                let bias = node.weight("bias").map(|_| own("bias")).transpose()?;
                self.writers.push((own("weight")?, bias));
            }
            "experts" => self.writers.push((own("down")?, None)),
            "rms-norm" => self.writing_norms.push(self.norm(wiring, node)?),
            op => return Err(refused(node, &format!("writes to the residual stream by the op `{op}`"))),
        }
        Ok(())
    }

    fn read_by(&mut self, wiring: &Wiring, node: &Node, values: &BTreeSet<ValueId>) -> Result<(), Error> {
        let own = |slot: &str| wiring.own(node, slot).map(str::to_owned);
        match node.spec.op.as_str() {
            "rms-norm" => match wiring.matrices_reading(node.outputs[0]) {
                Ok(readers) => self.reading_norms.push((self.norm(wiring, node)?, readers)),
                // Once after the last layer costs little; in each it would not.
                Err(_) if node.spec.layer.is_none() => self.restored_before.push(node.id),
                Err(why) => return Err(why),
            },
            "linear" => self.readers.push(own("weight")?),
            "experts" if !values.contains(&node.spec.inputs[1]) => self.readers.extend([own("gate")?, own("up")?]),
            op => return Err(refused(node, &format!("reads the residual stream by the op `{op}`"))),
        }
        Ok(())
    }

    fn norm(&self, wiring: &Wiring, node: &Node) -> Result<Norm, Error> {
        let weight = wiring.own(node, "weight")?.to_owned();
        if wiring.columns(&weight) != self.width {
            return Err(refused(node, "norms parts of the residual stream on their own"));
        }
        let offset = node.attribute("weight-offset").and_then(Value::as_real).unwrap_or(0.0);
        Ok(Norm { node: node.id, weight, offset })
    }
}

fn refused(node: &Node, why: &str) -> Error {
    Error::not_applicable(format!("`{}` {why}, which a rotation does not pass", node.spec.name))
}

/// The values that a node carries on as they are, up to a factor, with what it makes of them; none for other nodes.
fn carries(wiring: &Wiring, node: &Node) -> Vec<ValueId> {
    let (inputs, outputs) = (&node.spec.inputs, &node.outputs);
    let width = outputs.first().map_or(0, |value| wiring.width(*value));
    match node.spec.op.as_str() {
        "add" | "scale" => inputs.iter().chain(outputs).copied().collect(),
        // By a factor of one column.
        "mul" if inputs.iter().any(|value| wiring.width(*value) == 1) && width > 1 => {
            inputs.iter().filter(|value| wiring.width(**value) > 1).chain(outputs).copied().collect()
        }
        _ => Vec::new(),
    }
}

/// The values of the stream.
fn values(wiring: &Wiring) -> BTreeSet<ValueId> {
    let embeddings = wiring.nodes.iter().filter(|node| node.spec.op == "embedding");
    let mut values: BTreeSet<ValueId> = embeddings.flat_map(|node| node.outputs.clone()).collect();
    loop {
        let before = values.len();
        for node in &wiring.nodes {
            let carried = carries(wiring, node);
            if carried.iter().any(|value| values.contains(value)) {
                values.extend(carried);
            }
        }
        if values.len() == before {
            return values;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::{setting, testing};

    fn node(id: u32, layer: Option<u32>, op: &str, inputs: &[ValueId], weights: &[&str]) -> Node {
        let mut node = testing::node(id, op, inputs, weights, &[]);
        node.spec.layer = layer;
        node
    }

    /// All values are 4 columns wide.
    fn wiring(nodes: Vec<Node>) -> Wiring {
        let widths = nodes.iter().map(|node| (node.outputs[0], 4)).collect();
        let slots = nodes.iter().flat_map(|node| &node.spec.weights);
        let shapes = slots.map(|slot| (slot.weight.clone(), vec![4])).collect();
        Wiring { nodes, widths, shapes, ..Wiring::default() }
    }

    /// An embedding, a layer of a norm, a gated network and its residual, a norm and a head.
    fn decoder() -> Vec<Node> {
        vec![
            node(0, None, "embedding", &[1], &["weight=e"]),
            node(1, Some(0), "rms-norm", &[100], &["weight=n"]),
            node(2, Some(0), "linear", &[101], &["weight=up"]),
            node(3, Some(0), "silu", &[102], &[]),
            node(4, Some(0), "linear", &[103], &["weight=down", "bias=b"]),
            node(5, Some(0), "add", &[100, 104], &[]),
            node(6, None, "rms-norm", &[105], &["weight=m"]),
            node(7, None, "linear", &[106], &["weight=head"]),
        ]
    }

    fn norm(node: NodeId, weight: &str, offset: f64) -> Norm {
        Norm { node, weight: weight.into(), offset }
    }

    fn refusal(nodes: Vec<Node>) -> String {
        let error = Stream::find(&wiring(nodes)).unwrap_err();
        assert_eq!(error.code, "not-applicable");
        error.message
    }

    #[test]
    fn embeddings_and_residual_branches_write_and_norms_read() {
        let mut nodes = decoder();
        nodes[1].spec.attributes.push(setting("weight-offset", 1.0));
        let expected = Stream {
            width: 4,
            embeddings: vec!["e".into()],
            writers: vec![("down".into(), Some("b".into()))],
            reading_norms: vec![(norm(1, "n", 1.0), vec!["up".into()]), (norm(6, "m", 0.0), vec!["head".into()])],
            ..Stream::default()
        };
        assert_eq!(Stream::find(&wiring(nodes)).unwrap(), expected);
    }

    #[test]
    fn a_tied_embedding_stays_and_is_rotated_apart() {
        let mut nodes = decoder();
        nodes[7].spec.weights[0].weight = "e".into();
        let stream = Stream::find(&wiring(nodes)).unwrap();
        assert_eq!((stream.embeddings.len(), stream.rotated_after, stream.restored_before), (0, vec![0], vec![6]));
        assert_eq!(stream.reading_norms, [(norm(1, "n", 0.0), vec!["up".into()])]);
    }

    #[test]
    fn norms_after_blocks_write_and_matrices_may_read_without_one() {
        let mut nodes = decoder();
        nodes[2].spec.inputs = vec![100];
        nodes[1].spec.inputs = vec![104];
        nodes[5].spec.inputs = vec![100, 101];
        let stream = Stream::find(&wiring(nodes)).unwrap();
        assert_eq!((stream.writing_norms, stream.readers), (vec![norm(1, "n", 0.0)], vec!["up".to_owned()]));
        assert!(stream.writers.is_empty(), "down gives to the norm, not to the stream");
    }

    #[test]
    fn what_a_rotation_does_not_pass_is_named() {
        let mut nodes = decoder();
        nodes[1] = node(1, Some(0), "layer-norm", &[100], &["weight=n"]);
        let message = "`layer-norm.1` reads the residual stream by the op `layer-norm`, which a rotation does not pass";
        assert_eq!(refusal(nodes), message);
        let mut nodes = decoder();
        nodes[4] = node(4, Some(0), "tanh", &[103], &[]);
        let message = "`tanh.4` writes to the residual stream by the op `tanh`, which a rotation does not pass";
        assert_eq!(refusal(nodes), message);
        assert_eq!(refusal(vec![node(0, None, "tanh", &[1], &[])]), "the model has no embedding");
        let mut parts = wiring(decoder());
        parts.shapes.insert("n".into(), vec![2]);
        assert!(Stream::find(&parts).unwrap_err().message.contains("on their own"));
    }
}

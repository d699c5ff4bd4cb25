//! The residual stream as the graph shows it: what embeddings begin and additions carry on, and who writes and reads it.
//! Additions cut it into segments, each of which may have a basis of its own (SliceGPT, arXiv:2401.15024, section 3).

use super::{Error, Node, NodeId, Value, ValueId, Wiring};
use std::collections::{BTreeMap, BTreeSet};

/// The stream of a model.
#[derive(Debug, Default, PartialEq)]
pub struct Stream {
    /// Columns.
    pub width: usize,
    /// Parts that may have bases of their own, in order.
    pub segments: Vec<Segment>,
    /// Where one segment goes over into the next.
    pub edges: Vec<Edge>,
}

/// Values of the stream that have one basis, and where they meet weights.
#[derive(Debug, Default, PartialEq)]
pub struct Segment {
    /// The values that others than additions of the same segment read.
    pub read: BTreeSet<ValueId>,
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
    /// The node.
    pub node: NodeId,
    /// `[width]`
    pub weight: String,
    /// Added to the weight: 1 for Gemma's.
    pub offset: f64,
    /// Added to the mean square.
    pub epsilon: f64,
}

/// An addition that reads a value of an earlier segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// The value.
    pub value: ValueId,
    /// The addition.
    pub add: NodeId,
    /// The value's segment.
    pub from: usize,
    /// The segment of the sum.
    pub to: usize,
}

impl Stream {
    /// Of a model.
    ///
    /// # Errors
    /// not-applicable, naming the node that a rotation does not pass.
    #[inline(never)]
    pub fn find(wiring: &Wiring) -> Result<Self, Error> {
        let values = values(wiring);
        let Some(first) = values.first() else { return Err(Error::not_applicable("the model has no embedding")) };
        let mut stream = Self { width: wiring.width(*first), ..Self::default() };
        if let Some(output) = values.iter().find(|value| wiring.outputs.contains(value)) {
            return Err(Error::not_applicable(format!("{} is an output of the model", wiring.named(*output))));
        }
        let (of, edges) = segments(wiring, &values);
        stream.segments.resize_with(of.values().max().map_or(0, |last| last + 1), Segment::default);
        stream.edges = edges;
        for edge in &stream.edges {
            stream.segments[edge.from].read.insert(edge.value);
        }
        for node in wiring.nodes.iter().filter(|node| carries(wiring, node).iter().all(|value| !of.contains_key(value)))
        {
            if let Some(segment) = node.outputs.iter().find_map(|value| of.get(value)) {
                stream.segments[*segment].written_by(wiring, node, stream.width)?;
            }
            if let Some((value, segment)) = node.spec.inputs.iter().find_map(|value| of.get_key_value(value)) {
                stream.segments[*segment].read.insert(*value);
                stream.segments[*segment].read_by(wiring, node, stream.width, &values)?;
            }
        }
        Ok(stream)
    }
}

impl Segment {
    fn written_by(&mut self, wiring: &Wiring, node: &Node, width: usize) -> Result<(), Error> {
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
            "rms-norm" => self.writing_norms.push(norm(wiring, node, width)?),
            op => return Err(refused(node, &format!("writes to the residual stream by the op `{op}`"))),
        }
        Ok(())
    }

    fn read_by(&mut self, wiring: &Wiring, node: &Node, width: usize, values: &BTreeSet<ValueId>) -> Result<(), Error> {
        let own = |slot: &str| wiring.own(node, slot).map(str::to_owned);
        match node.spec.op.as_str() {
            "rms-norm" => match wiring.matrices_reading(node.outputs[0]) {
                Ok(readers) => self.reading_norms.push((norm(wiring, node, width)?, readers)),
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
}

fn norm(wiring: &Wiring, node: &Node, width: usize) -> Result<Norm, Error> {
    let weight = wiring.own(node, "weight")?.to_owned();
    if wiring.columns(&weight) != width {
        return Err(refused(node, "norms parts of the residual stream on their own"));
    }
    let real = |name: &str| node.attribute(name).and_then(Value::as_real).unwrap_or(0.0);
    Ok(Norm { node: node.id, weight, offset: real("weight-offset"), epsilon: real("epsilon") })
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

/// Where the stream begins: at an embedding, or at the matrix that alone reads it.
fn begin(wiring: &Wiring, embedding: &Node) -> ValueId {
    let value = embedding.outputs[0];
    let mut readers = wiring.readers(value);
    match (readers.next(), readers.next()) {
        (Some(only), None) if only.spec.op == "linear" => only.outputs[0],
        _ => value,
    }
}

/// The values of the stream.
fn values(wiring: &Wiring) -> BTreeSet<ValueId> {
    let embeddings = wiring.nodes.iter().filter(|node| node.spec.op == "embedding");
    let mut values: BTreeSet<ValueId> = embeddings.map(|node| begin(wiring, node)).collect();
    loop {
        let before = values.len();
        for node in &wiring.nodes {
            let mut carried = carries(wiring, node);
            // Between two bases.
            if node.spec.op == "linear" && node.spec.role == "residual" {
                carried = [&node.spec.inputs[..], &node.outputs].concat();
            }
            if carried.iter().any(|value| values.contains(value)) {
                values.extend(carried);
            }
        }
        if values.len() == before {
            return values;
        }
    }
}

/// The segment of each value, and what goes from one over into another. A sum is of the segment of its summands, but for
/// those that others than carrying nodes read: they have their basis already.
fn segments(wiring: &Wiring, values: &BTreeSet<ValueId>) -> (BTreeMap<ValueId, usize>, Vec<Edge>) {
    let mut of: BTreeMap<ValueId, usize> = values.iter().enumerate().map(|(i, value)| (*value, i)).collect();
    let join = |of: &mut BTreeMap<ValueId, usize>, a: ValueId, b: ValueId| {
        let (from, to) = (of[&a], of[&b]);
        of.values_mut().filter(|segment| **segment == from).for_each(|segment| *segment = to);
    };
    let carried = |node: &Node| carries(wiring, node).into_iter().filter(|value| values.contains(value));
    for node in wiring.nodes.iter().filter(|node| node.spec.op != "add") {
        carried(node).for_each(|value| join(&mut of, value, node.outputs[0]));
    }
    let is_read = |value: ValueId| wiring.readers(value).any(|node| carries(wiring, node).is_empty());
    let read: BTreeSet<ValueId> = values.iter().copied().filter(|value| is_read(*value)).collect();
    let mut crossings = Vec::new();
    for node in wiring.nodes.iter().filter(|node| node.spec.op == "add") {
        for value in carried(node).filter(|value| !node.outputs.contains(value)).collect::<BTreeSet<_>>() {
            match read.iter().any(|known| of[known] == of[&value]) {
                true => crossings.push((value, node)),
                false => join(&mut of, value, node.outputs[0]),
            }
        }
    }
    // Numbered in the order in which their first values are made.
    let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
    for value in wiring.nodes.iter().flat_map(|node| &node.outputs).filter_map(|value| of.get(value)) {
        let next = numbers.len();
        numbers.entry(*value).or_insert(next);
    }
    of.values_mut().for_each(|segment| *segment = numbers.get(segment).copied().unwrap_or(0));
    let edge = |(value, add): (ValueId, &Node)| Edge { value, add: add.id, from: of[&value], to: of[&add.outputs[0]] };
    let edges = crossings.into_iter().map(edge).collect();
    (of, edges)
}

#[cfg(test)]
mod tests {
    use super::super::{setting, testing};
    use super::*;

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
        Norm { node, weight: weight.into(), offset, epsilon: 0.0 }
    }

    fn refusal(nodes: Vec<Node>) -> String {
        let error = Stream::find(&wiring(nodes)).unwrap_err();
        assert_eq!(error.code, "not-applicable");
        error.message
    }

    fn reads(values: &[ValueId]) -> BTreeSet<ValueId> {
        values.iter().copied().collect()
    }

    #[test]
    fn an_addition_begins_a_segment_that_its_branch_writes_to() {
        let mut nodes = decoder();
        nodes[1].spec.attributes.extend([setting("weight-offset", 1.0), setting("epsilon", 0.5)]);
        let first = Segment {
            read: reads(&[100]),
            embeddings: vec!["e".into()],
            reading_norms: vec![(Norm { epsilon: 0.5, ..norm(1, "n", 1.0) }, vec!["up".into()])],
            ..Segment::default()
        };
        let second = Segment {
            read: reads(&[105]),
            writers: vec![("down".into(), Some("b".into()))],
            reading_norms: vec![(norm(6, "m", 0.0), vec!["head".into()])],
            ..Segment::default()
        };
        let edges = vec![Edge { value: 100, add: 5, from: 0, to: 1 }];
        assert_eq!(Stream::find(&wiring(nodes)).unwrap(), Stream { width: 4, segments: vec![first, second], edges });
    }

    #[test]
    fn sums_that_only_additions_read_are_of_the_next_segment() {
        // A second branch from the same norm, whose factor is no other basis.
        let mut nodes = decoder();
        nodes.insert(6, node(8, Some(0), "linear", &[103], &["weight=down2"]));
        nodes.insert(7, node(9, Some(0), "scale", &[108], &[]));
        nodes.insert(8, node(10, Some(0), "add", &[105, 109], &[]));
        nodes[9].spec.inputs = vec![110];
        let stream = Stream::find(&wiring(nodes)).unwrap();
        assert_eq!(stream.edges, [Edge { value: 100, add: 5, from: 0, to: 1 }]);
        let writers: Vec<&str> = stream.segments[1].writers.iter().map(|(weight, _)| weight.as_str()).collect();
        assert_eq!((stream.segments.len(), writers), (2, vec!["down", "down2"]));
        assert_eq!(stream.segments[1].read, reads(&[110]));
    }

    #[test]
    fn a_stream_that_was_cut_is_found_again() {
        // A map after the embedding, one on the residual path, and one before the last norm.
        let mut nodes = decoder();
        nodes.insert(1, node(8, None, "linear", &[100], &["weight=begin"]));
        nodes[2].spec.inputs = vec![108];
        nodes.insert(6, node(9, Some(0), "linear", &[108], &["weight=over"]));
        nodes[6].spec.role = "residual".into();
        nodes[7].spec.inputs = vec![109, 104];
        nodes.insert(8, node(10, None, "linear", &[105], &["weight=end"]));
        nodes[9].spec.inputs = vec![110];
        let stream = Stream::find(&wiring(nodes)).unwrap();
        let [first, second] = &stream.segments[..] else { panic!("{stream:?}") };
        let begin = vec![("begin".to_owned(), None)];
        assert_eq!((&first.writers, &first.embeddings, &first.readers), (&begin, &vec![], &vec!["over".to_owned()]));
        let over = ("over".to_owned(), None);
        assert!(second.writers.contains(&over) && second.writers.len() == 2 && second.readers == ["end"], "{second:?}");
        assert!(stream.edges.is_empty(), "the matrix on the residual path takes both bases");
    }

    #[test]
    fn a_tied_embedding_stays_and_is_rotated_apart() {
        let mut nodes = decoder();
        nodes[7].spec.weights[0].weight = "e".into();
        let stream = Stream::find(&wiring(nodes)).unwrap();
        let [first, second] = &stream.segments[..] else { panic!("{stream:?}") };
        assert_eq!((first.embeddings.len(), &first.rotated_after, &second.restored_before), (0, &vec![0], &vec![6]));
        assert_eq!(first.reading_norms, [(norm(1, "n", 0.0), vec!["up".into()])]);
    }

    #[test]
    fn norms_after_blocks_write_and_matrices_may_read_without_one() {
        let mut nodes = decoder();
        nodes[2].spec.inputs = vec![100];
        nodes[1].spec.inputs = vec![104];
        nodes[5].spec.inputs = vec![100, 101];
        let stream = Stream::find(&wiring(nodes)).unwrap();
        let [first, second] = &stream.segments[..] else { panic!("{stream:?}") };
        assert_eq!((&second.writing_norms, &first.readers), (&vec![norm(1, "n", 0.0)], &vec!["up".to_owned()]));
        assert!(second.writers.is_empty(), "down gives to the norm, not to the stream");
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

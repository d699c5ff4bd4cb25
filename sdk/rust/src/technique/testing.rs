//! Graphs to try decisions on natively.

use super::{Node, Slot, Spec, ValueId, Wiring, setting};
use std::collections::BTreeSet;

/// A node `id` of layer 0 that makes the value 100 + id; weights as `slot=name`. Panics on a weight without a slot.
pub fn node(id: u32, op: &str, inputs: &[ValueId], weights: &[&str], attributes: &[(&str, i64)]) -> Node {
    let slot = |words: &&str| {
        let (name, weight) = words.split_once('=').expect("a weight is written slot=name");
        Slot { name: name.into(), weight: weight.into() }
    };
    let spec = Spec {
        function: "decode".into(),
        name: format!("{op}.{id}"),
        role: "other".into(),
        layer: Some(0),
        op: op.into(),
        attributes: attributes.iter().map(|(name, value)| setting(name, *value)).collect(),
        inputs: inputs.to_vec(),
        weights: weights.iter().map(slot).collect(),
    };
    Node { id, spec, outputs: vec![100 + id] }
}

/// Nodes with the widths of values and the lengths of weights.
pub fn wiring(nodes: Vec<Node>, widths: &[(ValueId, usize)], lengths: &[(&str, u32)]) -> Wiring {
    let shapes = lengths.iter().map(|(name, length)| ((*name).to_owned(), vec![*length])).collect();
    Wiring { nodes, outputs: BTreeSet::new(), widths: widths.iter().copied().collect(), shapes }
}

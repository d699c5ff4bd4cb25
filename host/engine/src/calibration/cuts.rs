//! Where a model can be cut in two: values through which all goes that comes after them, as the residual stream between two
//! layers. With the rows of such a value kept, what comes after runs without what came before.

use crate::{EngineError, FloatType, Variant};
use aehost_graph::{Graph, NodeId, Spec, ValueId};
use candle_core::Tensor;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// The name of the weight, and of the node, that stand for what came before a cut.
const KEPT: &str = "calibration.kept";

/// Equal contents, equal numbers on equal tokens.
pub(super) type Content = [u8; 32];

/// The content of a value on so many tokens of the calibration text.
pub(super) fn on_tokens(mut content: Content, tokens: usize) -> Content {
    content.iter_mut().zip(tokens.to_le_bytes()).for_each(|(byte, count)| *byte ^= count);
    content
}

/// The nodes of `decode` in order, and what each value is made of.
pub(super) struct Contents {
    order: Vec<NodeId>,
    of: HashMap<ValueId, Content>,
}

fn input(graph: &Graph, name: &str) -> Option<ValueId> {
    graph.function("decode")?.inputs.iter().find(|port| port.name == name).map(|port| port.value)
}

impl Contents {
    /// Of all values that `decode` computes, whether its outputs need them or not.
    pub fn new(variant: &Variant) -> Result<Self, EngineError> {
        let graph = variant.graph();
        let order = graph.order("decode");
        let order = order.ok_or_else(|| EngineError::Invalid("function `decode` has a cycle, or is missing".into()))?;
        let mut of: HashMap<ValueId, Content> = HashMap::new();
        for port in graph.function("decode").iter().flat_map(|f| &f.inputs) {
            of.insert(port.value, Sha256::digest(&port.name).into());
        }
        for node in order.iter().filter_map(|id| graph.node(*id)) {
            let mut hash = Sha256::new();
            hash.update(
                serde_json::to_vec(&(&node.spec.op, &node.spec.attributes)).expect("attributes have a JSON form"),
            );
            for slot in &node.spec.weights {
                hash.update(&slot.name);
                hash.update(&variant.weight(&slot.weight)?.key);
            }
            for value in &node.spec.inputs {
                hash.update(of.get(value).copied().unwrap_or_default());
            }
            for (i, value) in node.outputs.iter().enumerate() {
                of.insert(*value, hash.clone().chain_update([i as u8]).finalize().into());
            }
        }
        Ok(Self { order, of })
    }

    /// What a value is made of; none where `decode` does not compute it.
    pub fn of(&self, value: ValueId) -> Option<Content> {
        self.of.get(&value).copied()
    }

    /// Values from each of which all `wanted` ones follow without the ids, in order.
    pub fn cuts(&self, graph: &Graph, wanted: &[ValueId]) -> Vec<ValueId> {
        let needed = crate::program::needed(graph, wanted);
        let nodes: Vec<_> =
            self.order.iter().filter(|id| needed.contains(id)).filter_map(|id| graph.node(*id)).collect();
        let positions = input(graph, "positions");
        // The last place that reads each value; what is wanted is read at the end.
        let mut last: HashMap<ValueId, usize> = HashMap::new();
        for (place, node) in nodes.iter().enumerate() {
            last.extend(node.spec.inputs.iter().map(|value| (*value, place)));
        }
        last.extend(wanted.iter().map(|value| (*value, usize::MAX)));
        let mut live: HashSet<ValueId> = input(graph, "ids").into_iter().collect();
        let mut cuts = Vec::new();
        for (place, node) in nodes.iter().enumerate() {
            live.extend(&node.outputs);
            live.retain(|value| last.get(value).is_some_and(|last| *last > place) && Some(*value) != positions);
            if let (1, Some(only)) = (live.len(), live.iter().next().filter(|only| node.outputs.contains(only))) {
                cuts.push(*only);
            }
        }
        cuts
    }
}

/// The variant from a cut on: what made the value is replaced by `rows` of it, which the ids then number. Gives back the value
/// that stands for it.
pub(super) fn continued(variant: &Variant, cut: ValueId, rows: &Tensor) -> Result<(Variant, ValueId), EngineError> {
    let mut rest = variant.clone();
    rest.put_weight(KEPT, rows, FloatType::F32)?;
    let graph = rest.graph_mut();
    let ids = input(graph, "ids").ok_or_else(|| EngineError::Invalid("function `decode` has no input `ids`".into()))?;
    let spec = Spec {
        function: "decode".into(),
        name: KEPT.into(),
        role: "embedding".into(),
        layer: None,
        op: "embedding".into(),
        attributes: Default::default(),
        inputs: vec![ids],
        weights: vec![aehost_graph::Slot { name: "weight".into(), weight: KEPT.into() }],
    };
    let value = graph.insert(spec).map_err(|e| EngineError::Invalid(e.to_string()))?.outputs[0];
    graph.replace_uses(cut, value, &[]).map_err(|e| EngineError::Invalid(e.to_string()))?;
    Ok((rest, value))
}

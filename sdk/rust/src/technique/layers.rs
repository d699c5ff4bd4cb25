//! Layers as the graph shows them: nodes of one layer number, with the one value that enters and the one that leaves.

use super::{Editor, Error, Filter, Model, Node, Tensor, ValueId, Wanted, calibration, largest};
use std::collections::{BTreeMap, BTreeSet};

/// Calibration tokens over which a cosine is averaged.
const TOKENS: u32 = 1024;

/// A layer between two states of the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its number.
    pub number: u32,
    /// The one value that enters.
    pub input: ValueId,
    /// The one value that leaves.
    pub output: ValueId,
}

/// The layers of the function `decode`, in order.
///
/// # Errors
/// not-applicable where a layer has more than one way in or out.
pub fn layers(model: &Model) -> Result<Vec<Layer>, Error> {
    let nodes = model.nodes(&Filter { function: Some("decode".into()), ..Filter::all() });
    let outputs: Vec<ValueId> = model.outputs("decode")?.iter().map(|port| port.value).collect();
    from_nodes(&nodes, &outputs)
}

/// The same from the function's nodes in topological order and its outputs.
fn from_nodes(nodes: &[Node], outputs: &[ValueId]) -> Result<Vec<Layer>, Error> {
    // Who makes a value; inputs of the function (token ids, positions) and weights are nobody's.
    let made: BTreeMap<ValueId, Option<u32>> = nodes
        .iter()
        .filter(|node| node.spec.op != "parameter")
        .flat_map(|node| node.outputs.iter().map(|value| (*value, node.spec.layer)))
        .collect();
    let mut entering: BTreeMap<u32, BTreeSet<ValueId>> = BTreeMap::new();
    let mut leaving: BTreeMap<u32, BTreeSet<ValueId>> = BTreeMap::new();
    for node in nodes {
        for value in &node.spec.inputs {
            let Some(maker) = made.get(value).filter(|maker| **maker != node.spec.layer) else { continue };
            if let Some(layer) = node.spec.layer {
                entering.entry(layer).or_default().insert(*value);
            }
            if let Some(layer) = maker {
                leaving.entry(*layer).or_default().insert(*value);
            }
        }
    }
    for value in outputs {
        if let Some(Some(layer)) = made.get(value) {
            leaving.entry(*layer).or_default().insert(*value);
        }
    }
    let numbers: BTreeSet<u32> = nodes.iter().filter_map(|node| node.spec.layer).collect();
    numbers
        .into_iter()
        .map(|number| {
            let only = |values: Option<&BTreeSet<ValueId>>, way: &str| {
                let count = values.map_or(0, BTreeSet::len);
                let value = values.and_then(|values| values.first().copied()).filter(|_| count == 1);
                let message = format!("{count} values {way} layer {number} instead of one: it cannot be dropped");
                value.ok_or_else(|| Error::not_applicable(message))
            };
            let input = only(entering.get(&number), "enter")?;
            Ok(Layer { number, input, output: only(leaving.get(&number), "leave")? })
        })
        .collect()
}

/// The `count` layers with the least influence on calibration text, in order. Block influence = 1 - mean cosine between a layer's
/// input and output (Men et al.: ShortGPT, arXiv:2403.03853, section 3).
///
/// # Errors
/// not-applicable where there are no more layers than that; those of the host.
#[inline(never)]
pub fn least_influential(model: &Editor, layers: &[Layer], count: usize) -> Result<Vec<Layer>, Error> {
    if count >= layers.len() {
        let message = format!("cannot do without {count} of {} layers", layers.len());
        return Err(Error::not_applicable(message));
    }
    let cosine = |layer: &Layer| Wanted { against: Some(layer.output), ..Wanted::of("cosine", layer.input) };
    let wanted: Vec<Wanted> = layers.iter().map(cosine).collect();
    let statistics = calibration::collect(model, &wanted, TOKENS)?;
    let cosines = statistics.values.iter().map(Tensor::scalar).collect::<Result<Vec<f64>, Error>>()?;
    Ok(largest(&cosines, count).into_iter().map(|index| layers[index].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::technique::Spec;

    fn node(id: u32, layer: Option<u32>, op: &str, inputs: &[ValueId]) -> Node {
        let spec = Spec {
            function: "decode".into(),
            name: format!("node.{id}"),
            role: "other".into(),
            layer,
            op: op.into(),
            attributes: vec![],
            inputs: inputs.to_vec(),
            weights: vec![],
        };
        Node { id, spec, outputs: vec![100 + id] }
    }

    /// ids (0) and positions (1); embedding 100; two layers of a rope and a residual; a head 105.
    fn decoder() -> Vec<Node> {
        vec![
            node(0, None, "embedding", &[0]),
            node(1, Some(0), "rope", &[100, 1]),
            node(2, Some(0), "add", &[100, 101]),
            node(3, Some(4), "rope", &[102, 1]),
            node(4, Some(4), "add", &[102, 103]),
            node(5, None, "linear", &[104]),
        ]
    }

    #[test]
    fn a_layer_runs_from_the_residual_stream_to_the_residual_stream() {
        let layers = from_nodes(&decoder(), &[105]).unwrap();
        assert_eq!(
            layers,
            [Layer { number: 0, input: 100, output: 102 }, Layer { number: 4, input: 102, output: 104 }]
        );
    }

    #[test]
    fn a_layer_that_others_reach_into_is_not_dropped() {
        let mut nodes = decoder();
        nodes[5].spec.inputs.push(101);
        let error = from_nodes(&nodes, &[105]).unwrap_err();
        assert_eq!(error.code, "not-applicable");
        assert_eq!(error.message, "2 values leave layer 0 instead of one: it cannot be dropped");
    }
}

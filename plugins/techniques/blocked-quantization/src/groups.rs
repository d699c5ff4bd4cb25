//! Which weights are quantised together, and which formats fit all of them.

use aehost_sdk::technique::{Filter, Model, Node, ValueId, Weight};
use std::collections::BTreeMap;

/// Weights that share a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Attention,
    FeedForward,
    /// With the head, where they are one weight.
    Embedding,
    Head,
}

impl Group {
    /// The name of its parameter.
    pub fn name(self) -> &'static str {
        match self {
            Group::Attention => "attention",
            Group::FeedForward => "feed-forward",
            Group::Embedding => "embedding",
            Group::Head => "head",
        }
    }

    /// The summary of its parameter.
    pub fn summary(self) -> &'static str {
        match self {
            Group::Attention => "Format of the queries', keys', values' and outputs' weights.",
            Group::FeedForward => "Format of the feed-forward networks' weights, experts' too.",
            Group::Embedding => "Format of the embedding, and of the head where it is the same weight.",
            Group::Head => "Format of the head.",
        }
    }

    fn of(role: &str) -> Option<Self> {
        match role {
            "query" | "key" | "value" | "fused-qkv" | "output" | "latent" => Some(Group::Attention),
            "gate" | "up" | "down" | "fused-gate-up" | "expert" => Some(Group::FeedForward),
            "embedding" => Some(Group::Embedding),
            "head" => Some(Group::Head),
            _ => None,
        }
    }
}

/// One weight of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub weight: String,
    /// The value that the weight's columns multiply; none where rows are looked up, or columns multiply what is no value of
    /// the graph.
    pub input: Option<ValueId>,
}

/// The groups that the model has, with their weights.
pub fn find(model: &Model) -> BTreeMap<Group, Vec<Member>> {
    let nodes: Vec<Node> = ["linear", "grouped-linear", "experts", "embedding"]
        .iter()
        .flat_map(|op| model.nodes(&Filter::op(op)))
        .collect();
    from_nodes(&nodes)
}

fn from_nodes(nodes: &[Node]) -> BTreeMap<Group, Vec<Member>> {
    // A weight with several users: its group is the embedding's where one of them is that, its input that of a linear.
    let mut weights: BTreeMap<&str, (Group, Option<ValueId>)> = BTreeMap::new();
    for node in nodes {
        let Some(group) = Group::of(&node.spec.role) else { continue };
        for slot in &node.spec.weights {
            let columns_multiply_input = match (node.spec.op.as_str(), slot.name.as_str()) {
                ("linear", "weight") | ("experts", "gate" | "up") => true,
                ("embedding" | "grouped-linear", "weight") | ("experts", "down") => false,
                _ => continue,
            };
            let input = node.spec.inputs.first().copied().filter(|_| columns_multiply_input);
            let entry = weights.entry(&slot.weight).or_insert((group, input));
            if group == Group::Embedding {
                entry.0 = group;
            }
            entry.1 = entry.1.or(input);
        }
    }
    let mut groups: BTreeMap<Group, Vec<Member>> = BTreeMap::new();
    for (weight, (group, input)) in weights {
        groups.entry(group).or_default().push(Member { weight: weight.to_owned(), input });
    }
    groups
}

/// Formats by falling size, with their bits a weight (ggml's block structures). Rows of whole 256-blocks get the
/// k-quants, which are better at the same size; Q4_0 stays for its speed.
const SUPER_BLOCKS: [(&str, f64); 7] =
    [("Q8_0", 8.5), ("Q6_K", 6.5625), ("Q5_K", 5.5), ("Q4_K", 4.5), ("Q4_0", 4.5), ("Q3_K", 3.4375), ("Q2_K", 2.625)];
/// The same for rows of whole 32-blocks.
const BLOCKS: [(&str, f64); 5] = [("Q8_0", 8.5), ("Q5_1", 6.0), ("Q5_0", 5.5), ("Q4_1", 5.0), ("Q4_0", 4.5)];

/// The formats that fit the rows of all of a group's weights and make the group smaller, the largest first.
pub fn formats(weights: &[Weight]) -> Vec<&'static str> {
    let whole = |block: u32| weights.iter().all(|w| w.shape.last().is_some_and(|row| row % block == 0));
    let known: &[(&str, f64)] = match (whole(256), whole(32)) {
        (true, _) => &SUPER_BLOCKS,
        (false, true) => &BLOCKS,
        (false, false) => &[],
    };
    let elements: f64 = weights.iter().map(|w| w.shape.iter().map(|d| f64::from(*d)).product::<f64>()).sum();
    let bits = weights.iter().map(|w| w.bytes as f64).sum::<f64>() * 8.0 / elements;
    known.iter().filter(|(_, size)| *size < bits).map(|(format, _)| *format).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::{Representation, Slot, Spec};

    fn node(op: &str, role: &str, weight: &str, input: ValueId) -> Node {
        let spec = Spec {
            function: "decode".into(),
            name: format!("{weight}.{role}"),
            role: role.into(),
            layer: None,
            op: op.into(),
            attributes: vec![],
            inputs: vec![input],
            weights: vec![Slot { name: "weight".into(), weight: weight.into() }],
        };
        Node { id: 0, spec, outputs: vec![] }
    }

    fn weight(shape: &[u32], bytes: u64) -> Weight {
        Weight { name: "w".into(), shape: shape.to_vec(), representation: Representation::dense("float16"), bytes }
    }

    #[test]
    fn a_tied_head_belongs_to_the_embedding_and_has_the_heads_input() {
        let nodes = [
            node("linear", "query", "q", 3),
            node("linear", "head", "e", 9),
            node("embedding", "embedding", "e", 0),
            node("rms-norm", "norm", "n", 2),
        ];
        let groups = from_nodes(&nodes);
        assert_eq!(groups[&Group::Embedding], [Member { weight: "e".into(), input: Some(9) }]);
        assert_eq!(groups[&Group::Attention], [Member { weight: "q".into(), input: Some(3) }]);
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn an_embedding_of_its_own_has_no_input_to_weigh() {
        let nodes = [node("linear", "head", "h", 9), node("embedding", "embedding", "e", 0)];
        let groups = from_nodes(&nodes);
        assert_eq!(groups[&Group::Embedding][0].input, None);
        assert_eq!(groups[&Group::Head][0].input, Some(9));
    }

    #[test]
    fn all_matrices_of_experts_belong_to_the_feed_forward_network() {
        let mut experts = node("experts", "expert", "g", 4);
        experts.spec.weights =
            ["gate", "up", "down"].map(|name| Slot { name: name.into(), weight: name.into() }).into();
        let groups = from_nodes(&[experts, node("linear", "router", "r", 4), node("grouped-linear", "latent", "l", 7)]);
        let members = |group| groups[&group].iter().map(|m| (m.weight.as_str(), m.input)).collect::<Vec<_>>();
        assert_eq!(members(Group::FeedForward), [("down", None), ("gate", Some(4)), ("up", Some(4))]);
        assert_eq!(members(Group::Attention), [("l", None)]);
        assert_eq!(groups.len(), 2, "routers stay as they are");
    }

    #[test]
    fn k_quants_need_every_row_of_the_group_in_blocks_of_256() {
        let wide = weight(&[576, 1536], 576 * 1536 * 2);
        let narrow = weight(&[1536, 576], 576 * 1536 * 2);
        assert_eq!(formats(std::slice::from_ref(&wide)), ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K"]);
        assert_eq!(formats(&[wide, narrow]), ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]);
        assert!(formats(&[weight(&[8, 40], 640)]).is_empty());
    }

    #[test]
    fn a_format_that_would_not_shrink_the_group_is_no_choice() {
        let q8_0 = weight(&[64, 64], 64 * 64 / 32 * 34);
        assert_eq!(formats(&[q8_0]), ["Q5_1", "Q5_0", "Q4_1", "Q4_0"]);
        let q4_0 = weight(&[64, 64], 64 * 64 / 32 * 18);
        assert!(formats(&[q4_0]).is_empty());
    }
}

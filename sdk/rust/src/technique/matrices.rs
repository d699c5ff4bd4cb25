//! The matrices that a technique may store in fewer bits or thin out: every linear map of the model and its embedding, in
//! groups that usually share a choice.

use super::{Editor, Error, Filter, Model, Node, ValueId, weights};

/// Weights that share a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Queries, keys, values and outputs.
    Attention,
    /// Feed-forward networks, experts' too.
    FeedForward,
    /// With the head, where they are one weight.
    Embedding,
    /// The head, where it is a weight of its own.
    Head,
}

impl Group {
    /// Its name, as a parameter has it.
    #[inline(never)]
    pub fn name(self) -> &'static str {
        match self {
            Group::Attention => "attention",
            Group::FeedForward => "feed-forward",
            Group::Embedding => "embedding",
            Group::Head => "head",
        }
    }

    /// Whether it belongs to the layers, and not to what stands before and after them.
    pub fn in_layers(self) -> bool {
        matches!(self, Group::Attention | Group::FeedForward)
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

/// A weight whose rows are multiplied with values of the model, or looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The weight's name.
    pub weight: String,
    /// What shares its choice.
    pub group: Group,
    /// The layer of the first node that uses it.
    pub layer: Option<u32>,
    /// The role of that node.
    pub role: String,
    /// Row-major, `[out, in]`; a stack of experts is `[experts, out, in]`.
    pub shape: Vec<u32>,
    /// Bytes in memory as it is stored now.
    pub bytes: u64,
    /// The value that its columns multiply; none where rows are looked up, or columns multiply what is no value of the graph.
    pub input: Option<ValueId>,
}

impl Matrix {
    /// Rows of all of its matrices.
    pub fn rows(&self) -> u32 {
        self.shape.iter().rev().skip(1).product()
    }

    /// Elements of a row.
    pub fn columns(&self) -> u32 {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// The matrices of a model's language part, in the order in which they are used; each weight once.
///
/// # Errors
/// Those of the host.
#[inline(never)]
pub fn matrices(model: &Model) -> Result<Vec<Matrix>, Error> {
    let uses = uses(&model.language_nodes(&Filter::all()));
    let described = uses.into_iter().map(|mut matrix| {
        let weight = weights::describe(model, &matrix.weight)?;
        (matrix.shape, matrix.bytes) = (weight.shape, weight.bytes);
        Ok(matrix)
    });
    described.collect()
}

/// The matrices of the layers of a model that is being edited: what most techniques work on.
///
/// # Errors
/// not-applicable where there are none; those of the host.
pub fn layer_matrices(model: &Editor) -> Result<Vec<Matrix>, Error> {
    let matrices: Vec<Matrix> = matrices(&model.model())?.into_iter().filter(|m| m.group.in_layers()).collect();
    if matrices.is_empty() {
        return Err(Error::not_applicable("the model has no attention and no feed-forward network"));
    }
    Ok(matrices)
}

/// What nodes say of the matrices, without shapes.
fn uses(nodes: &[Node]) -> Vec<Matrix> {
    // A weight with several users: its group is the embedding's where one of them is that, its input that of a linear.
    let mut matrices: Vec<Matrix> = Vec::new();
    for node in nodes {
        let Some(group) = Group::of(&node.spec.role) else { continue };
        for slot in &node.spec.weights {
            let columns_multiply_input = match (node.spec.op.as_str(), slot.name.as_str()) {
                ("linear", "weight") | ("experts", "gate" | "up") => true,
                ("embedding" | "grouped-linear", "weight") | ("experts", "down") => false,
                _ => continue,
            };
            let input = node.spec.inputs.first().copied().filter(|_| columns_multiply_input);
            match matrices.iter_mut().find(|m| m.weight == slot.weight) {
                Some(known) => {
                    if group == Group::Embedding {
                        known.group = group;
                    }
                    known.input = known.input.or(input);
                }
                None => matrices.push(Matrix {
                    weight: slot.weight.clone(),
                    group,
                    layer: node.spec.layer,
                    role: node.spec.role.clone(),
                    shape: vec![],
                    bytes: 0,
                    input,
                }),
            }
        }
    }
    matrices
}

#[cfg(test)]
mod tests {
    use super::super::{Slot, Spec};
    use super::*;

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

    fn found(nodes: &[Node]) -> Vec<(String, Group, Option<ValueId>)> {
        uses(nodes).into_iter().map(|m| (m.weight, m.group, m.input)).collect()
    }

    #[test]
    fn a_tied_head_belongs_to_the_embedding_and_has_the_heads_input() {
        let nodes = [
            node("embedding", "embedding", "e", 0),
            node("linear", "query", "q", 3),
            node("rms-norm", "norm", "n", 2),
            node("linear", "head", "e", 9),
        ];
        let expected = [("e".into(), Group::Embedding, Some(9)), ("q".into(), Group::Attention, Some(3))];
        assert_eq!(found(&nodes), expected);
        let reversed: Vec<Node> = nodes.into_iter().rev().collect();
        assert_eq!(found(&reversed)[0], expected[0]);
    }

    #[test]
    fn an_embedding_of_its_own_has_no_input_to_weigh() {
        let nodes = [node("embedding", "embedding", "e", 0), node("linear", "head", "h", 9)];
        assert_eq!(found(&nodes), [("e".into(), Group::Embedding, None), ("h".into(), Group::Head, Some(9))]);
    }

    #[test]
    fn all_matrices_of_experts_belong_to_the_feed_forward_network() {
        let mut experts = node("experts", "expert", "g", 4);
        experts.spec.weights =
            ["gate", "up", "down"].map(|name| Slot { name: name.into(), weight: name.into() }).into();
        let nodes = [experts, node("linear", "router", "r", 4), node("grouped-linear", "latent", "l", 7)];
        let expected = [
            ("gate".into(), Group::FeedForward, Some(4)),
            ("up".into(), Group::FeedForward, Some(4)),
            ("down".into(), Group::FeedForward, None),
            ("l".into(), Group::Attention, None),
        ];
        assert_eq!(found(&nodes), expected, "routers stay as they are");
    }

    #[test]
    fn a_stack_has_the_rows_of_all_of_its_matrices() {
        let mut stack = uses(&[node("linear", "up", "u", 1)]).remove(0);
        stack.shape = vec![4, 96, 128];
        assert_eq!((stack.rows(), stack.columns()), (384, 128));
    }
}

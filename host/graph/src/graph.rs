//! The graph and how it is read.

use aehost_common::{Fact, Settings, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// A value: an input of a function or an output of a node; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u32);

/// The shape of a value: `[tokens, dims...]`, or `[dims...]` for a weight used as a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueType {
    /// Whether the first dimension is the packed tokens of a step.
    pub tokens: bool,
    /// The fixed dimensions.
    pub dims: Vec<usize>,
    /// float32 for activations, uint32 for ids and positions.
    pub dtype: String,
}

impl ValueType {
    /// Activations `[tokens, width]`.
    pub fn activation(width: usize) -> Self {
        Self { tokens: true, dims: vec![width], dtype: "float32".into() }
    }

    /// Ids or positions `[tokens]`.
    pub fn indices() -> Self {
        Self { tokens: true, dims: vec![], dtype: "uint32".into() }
    }

    /// The last fixed dimension; 1 where there is none.
    pub fn width(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Symbolic dimensions, as the contract gives them.
    pub fn symbolic(&self) -> Vec<String> {
        let fixed = self.dims.iter().map(usize::to_string);
        self.tokens.then(|| "tokens".to_owned()).into_iter().chain(fixed).collect()
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]", self.symbolic().join(", "))
    }
}

/// A weight in a node's named slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// weight, bias, frequencies.
    pub name: String,
    /// The weight's dotted name.
    pub weight: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The function it belongs to.
    pub function: String,
    /// Dotted, unique in the function.
    pub name: String,
    /// query, key, value, ...; for people and techniques, not for execution.
    pub role: String,
    /// The layer, where it belongs to one.
    pub layer: Option<u32>,
    /// One of [`crate::ops`].
    pub op: String,
    /// The op's attributes.
    pub attributes: Settings,
    /// The values it reads.
    pub inputs: Vec<ValueId>,
    /// The weights it uses.
    pub weights: Vec<Slot>,
}

impl Spec {
    /// The weight in a slot.
    pub fn weight(&self, slot: &str) -> Option<&str> {
        self.weights.iter().find(|s| s.name == slot).map(|s| s.weight.as_str())
    }

    /// An integer attribute.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).and_then(Value::as_integer)
    }

    /// A real attribute.
    pub fn real(&self, name: &str) -> Option<f64> {
        self.attributes.get(name).and_then(Value::as_real)
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_text)
    }
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What it is.
    pub spec: Spec,
    /// The values it makes.
    pub outputs: Vec<ValueId>,
}

/// An input or output of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name (`ids`, `positions`, `logits`).
    pub name: String,
    /// The value behind it.
    pub value: ValueId,
}

/// A named entry point of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// In order of declaration.
    pub inputs: Vec<Port>,
    /// In order of declaration.
    pub outputs: Vec<Port>,
}

/// A value's shape and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ValueInfo {
    pub ty: ValueType,
    pub producer: Option<NodeId>,
}

/// Which nodes; all given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Nodes of this function.
    pub function: Option<String>,
    /// Nodes with this role.
    pub role: Option<String>,
    /// Nodes of this layer.
    pub layer: Option<u32>,
    /// Nodes with this op.
    pub op: Option<String>,
}

/// The model as data. Cloning is cheap: nodes are shared until one of the copies changes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub(crate) facts: Settings,
    pub(crate) functions: BTreeMap<String, Function>,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Names in use, by function.
    pub(crate) names: BTreeSet<(String, String)>,
    pub(crate) values: BTreeMap<ValueId, ValueInfo>,
    /// Row-major shapes of the weights there are.
    pub(crate) weights: BTreeMap<String, Vec<usize>>,
    pub(crate) next_node: u32,
    pub(crate) next_value: u32,
}

impl Graph {
    /// A fact about the model.
    pub fn fact(&self, name: &str) -> Option<&Value> {
        self.facts.get(name)
    }

    /// All facts.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    /// A function by name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// The names of the functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// A node by id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// All nodes, by id.
    pub fn all_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// The nodes that pass the filter, in topological order of their functions.
    pub fn filtered(&self, filter: &Filter) -> Vec<&Node> {
        let functions: Vec<&str> = match &filter.function {
            Some(f) => vec![f.as_str()],
            None => self.functions().collect(),
        };
        let passes = |n: &&Node| {
            filter.role.as_ref().is_none_or(|r| *r == n.spec.role)
                && filter.layer.is_none_or(|l| n.spec.layer == Some(l))
                && filter.op.as_ref().is_none_or(|o| *o == n.spec.op)
        };
        functions
            .into_iter()
            .flat_map(|f| self.order(f).unwrap_or_default())
            .filter_map(|id| self.node(id))
            .filter(passes)
            .collect()
    }

    /// The node that makes a value; none for an input of a function.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.values.get(&value).and_then(|v| v.producer)
    }

    /// The nodes that read a value.
    pub fn consumers(&self, value: ValueId) -> Vec<NodeId> {
        self.all_nodes().filter(|n| n.spec.inputs.contains(&value)).map(|n| n.id).collect()
    }

    /// The shape of a value.
    pub fn value_type(&self, value: ValueId) -> Option<&ValueType> {
        self.values.get(&value).map(|v| &v.ty)
    }

    /// The nodes that use a weight; more than one where weights are tied.
    pub fn users(&self, weight: &str) -> Vec<NodeId> {
        self.all_nodes().filter(|n| n.spec.weights.iter().any(|s| s.weight == weight)).map(|n| n.id).collect()
    }

    /// The row-major shape of a weight.
    pub fn weight_shape(&self, weight: &str) -> Option<&[usize]> {
        self.weights.get(weight).map(Vec::as_slice)
    }

    /// The names of the weights that some node uses, in order.
    pub fn used_weights(&self) -> BTreeSet<&str> {
        self.all_nodes().flat_map(|n| n.spec.weights.iter().map(|s| s.weight.as_str())).collect()
    }
}

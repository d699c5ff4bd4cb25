//! Techniques: they change a model, or how it runs, to make it cheaper or better.

mod adapter;
mod adapter_form;
mod assign;
mod attention;
mod basis;
mod between;
mod calibrated;
mod edit;
mod encoding;
mod feedback;
mod fine_tuning;
mod fold;
mod insert;
pub mod knapsack;
mod latent;
mod layers;
mod linear;
mod matrices;
mod network;
mod numbers;
mod order;
pub mod quantiser;
mod rope;
mod sequences;
mod stream;
pub mod testing;
mod wiring;

pub use adapter::{Adapter, users};
pub use adapter_form::AdapterForm;
pub use assign::balanced;
pub use attention::{AttentionBlock, Projection, attention_blocks};
pub use basis::times;
pub use between::{insert_after, insert_before, insert_between};
pub use calibrated::collect_each;
pub use edit::{change, change_rows, change_rows_at};
pub use encoding::{encode_groups, store_codes};
pub use feedback::Feedback;
pub use fine_tuning::FineTuning;
pub use fold::{Fold, Maker};
pub use insert::{Insert, Site};
pub use latent::Latent;
pub use layers::{Layer, layers, least_influential};
pub use linear::Linear;
pub use matrices::{Group, Matrix, layer_matrices, matrices};
pub use network::{Gated, Network, networks};
pub use numbers::{each_stretch, matrix_of, read};
pub use order::{descending, largest};
pub use quantiser::AffineForm;
pub use rope::{Pair, rope_pairs, turned_together};
pub use sequences::budgets;
pub use stream::{Edge, Norm, Segment, Stream};
pub use wiring::Wiring;

pub use aehost_numerics::{Affine, Codes, Grid, LANES, Lanes, Settle, as_half, settle_block};

pub use crate::bindings::imports::aehost::plugin::{
    calibration::{self, Wanted},
    graph::{Editor, Filter, Model, Node, NodeId, Slot, Spec, ValueId},
    runtime_policy,
    tensor::Tensor,
    training::{self, Trainable},
    weights::{self, Part, Representation, Span, Weight},
};
use crate::bindings::technique::exports::aehost::plugin::technique as exports;
pub use crate::{
    Error, Fact, Facts, Identity, Parameter, Setting, Settings, Stage, Value, choice, flag, identity, integer, log,
    real, setting,
};
pub use exports::Description;

/// A way to make a model cheaper or better.
pub trait Technique: 'static {
    /// Who it is, its stage, and how it combines with others.
    fn describe() -> Description;

    /// What a search may choose on this model and machine. Errors: not-applicable, saying why there is nothing to choose.
    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error>;

    /// Changes the model. On an error everything that it did is undone; not-applicable makes the configuration infeasible,
    /// any other error fails the trial.
    fn apply(model: &Editor, facts: &Facts, settings: &Settings) -> Result<(), Error>;
}

impl Description {
    /// A technique that combines with all others in any order.
    pub fn new(identity: Identity, stage: Stage) -> Self {
        Self {
            identity,
            stage,
            order: 0,
            after: Vec::new(),
            conflicts: Vec::new(),
            provides: Vec::new(),
            requires: Vec::new(),
            more: Vec::new(),
        }
    }

    /// Its place within the stage; smaller is earlier.
    #[must_use]
    pub fn order(mut self, order: i32) -> Self {
        self.order = order;
        self
    }

    /// Applies after this technique.
    #[must_use]
    pub fn after(mut self, technique: &str) -> Self {
        self.after.push(technique.into());
        self
    }

    /// Cannot be on together with this technique.
    #[must_use]
    pub fn conflicts(mut self, technique: &str) -> Self {
        self.conflicts.push(technique.into());
        self
    }

    /// A tag that holds once it has applied.
    #[must_use]
    pub fn provides(mut self, tag: &str) -> Self {
        self.provides.push(tag.into());
        self
    }

    /// A tag that must hold before it applies.
    #[must_use]
    pub fn requires(mut self, tag: &str) -> Self {
        self.requires.push(tag.into());
        self
    }
}

impl Filter {
    /// All nodes.
    pub fn all() -> Self {
        Self { function: None, role: None, layer: None, op: None }
    }

    /// Nodes with this op.
    pub fn op(op: &str) -> Self {
        Self { op: Some(op.into()), ..Self::all() }
    }

    /// Nodes with this role.
    pub fn role(role: &str) -> Self {
        Self { role: Some(role.into()), ..Self::all() }
    }
}

/// The functions that images go through.
const OF_IMAGES: [&str; 2] = ["encode-image", "project-image"];

impl Model {
    /// Those nodes that work on the tokens of text: what calibration sees and training changes. Others make rows of images.
    pub fn language_nodes(&self, filter: &Filter) -> Vec<Node> {
        let mut nodes = self.nodes(filter);
        nodes.retain(|node| !OF_IMAGES.contains(&node.spec.function.as_str()));
        nodes
    }

    /// An integer fact (`layers`, `context`, ...). Errors: not-applicable when the model does not have it.
    pub fn integer(&self, name: &str) -> Result<i64, Error> {
        self.fact(name)
            .and_then(|value| value.as_integer())
            .ok_or_else(|| Error::not_applicable(format!("the model has no integer fact `{name}`")))
    }
}

impl Node {
    /// An attribute by name.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.spec.attributes.iter().find(|a| a.name == name).map(|a| &a.value)
    }

    /// The weight in its slot `weight`.
    ///
    /// # Errors
    /// invalid-input where the slot is empty.
    pub fn matrix(&self) -> Result<&str, Error> {
        self.weight("weight").ok_or_else(|| Error::invalid(format!("node `{}` has no weight", self.spec.name)))
    }

    /// The weight in a slot.
    pub fn weight(&self, slot: &str) -> Option<&str> {
        self.spec.weights.iter().find(|s| s.name == slot).map(|s| s.weight.as_str())
    }
}

impl Representation {
    /// Blocks of ggml (`Q8_0`, `Q4_K`, ...).
    pub fn blocked(format: &str) -> Self {
        Self { kind: "blocked".into(), settings: vec![setting("format", format)] }
    }

    /// Groups of codes of equal distance: 2, 3, 4 or 8 bits, 32, 64 or 128 columns.
    pub fn affine(bits: i64, group: i64, symmetric: bool) -> Self {
        let settings = vec![setting("bits", bits), setting("group", group), setting("symmetric", symmetric)];
        Self { kind: "affine".into(), settings }
    }

    /// Groups of codes of four bits that a table of 16 ascending integers gives numbers; NF4's if there is none.
    pub fn codebook(group: i64, table: Option<[i8; 16]>) -> Self {
        let table = table.map(|table| setting("table", Value::Integers(table.map(i64::from).to_vec())));
        Self { kind: "codebook".into(), settings: std::iter::once(setting("group", group)).chain(table).collect() }
    }

    /// Two numbers of every four columns (`float32`, `float16`, `bfloat16`).
    pub fn sparse(dtype: &str) -> Self {
        Self { kind: "sparse".into(), settings: vec![setting("dtype", dtype)] }
    }

    /// The type of numbers that an edited weight keeps: its own, if it is dense, else float16.
    pub fn dtype(&self) -> &str {
        let own = self.settings.iter().find(|s| self.kind == "dense" && s.name == "dtype");
        own.and_then(|s| s.value.as_text()).unwrap_or("float16")
    }

    /// Plain numbers (`float32`, `float16`, `bfloat16`).
    pub fn dense(dtype: &str) -> Self {
        Self { kind: "dense".into(), settings: vec![setting("dtype", dtype)] }
    }
}

impl<T: Technique> exports::Guest for crate::Component<T> {
    fn describe() -> Description {
        log::forward_panics();
        T::describe()
    }

    fn parameters(model: &Model, facts: Vec<crate::Fact>) -> Result<Vec<Parameter>, Error> {
        log::forward_panics();
        T::parameters(model, &Facts(facts))
    }

    fn apply(model: &Editor, facts: Vec<crate::Fact>, settings: Vec<Setting>) -> Result<(), Error> {
        log::forward_panics();
        T::apply(model, &Facts(facts), &Settings(settings))
    }
}

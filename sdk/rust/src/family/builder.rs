//! Emits the nodes of a decoder with their names, roles and weights, so that a family reads like the model's definition.

use super::{Checkpoint, Error, Fact, Setting, Slot, Source, Spec, Target, Value, ValueId, setting};
use std::collections::{BTreeMap, BTreeSet};

/// Builds one model. Node names are relative: inside a layer `attention.query` becomes `layers.3.attention.query`; a
/// node's weights are its name with `.weight` or `.bias`.
pub struct Builder<'a> {
    target: &'a dyn Target,
    shapes: BTreeMap<String, Vec<u32>>,
    bound: BTreeSet<String>,
    function: String,
    layer: Option<u32>,
}

/// The shape of an attention op.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: i64,
    /// Elements of a head.
    pub head_dim: i64,
    /// Factor on the products of queries and keys.
    pub scale: f64,
    /// Tokens that a query sees, itself included; 0 is all.
    pub window: i64,
}

/// A node under construction.
pub struct Insert<'b, 'a> {
    builder: &'b mut Builder<'a>,
    spec: Spec,
}

impl<'a> Builder<'a> {
    /// A builder for a checkpoint's model.
    pub fn new(checkpoint: &dyn Checkpoint, target: &'a dyn Target) -> Self {
        let shapes = checkpoint.tensors().into_iter().collect();
        Self { target, shapes, bound: BTreeSet::new(), function: String::new(), layer: None }
    }

    /// Begins a function, `decode` for example.
    pub fn function(&mut self, name: &str) -> Result<(), Error> {
        self.function = name.into();
        self.target.add_function(name)
    }

    /// What follows belongs to this layer, or to none.
    pub fn layer(&mut self, layer: Option<u32>) {
        self.layer = layer;
    }

    /// An input of the function; dimensions are integers or symbols such as `tokens`.
    pub fn input(&mut self, name: &str, dtype: &str, shape: &[&str]) -> Result<ValueId, Error> {
        let shape: Vec<String> = shape.iter().map(|d| (*d).to_owned()).collect();
        self.target.add_input(&self.function, name, dtype, &shape)
    }

    /// An output of the function.
    pub fn output(&mut self, name: &str, value: ValueId) -> Result<(), Error> {
        self.target.set_output(&self.function, name, value)
    }

    /// A fact about the model.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.target.set_fact(&Fact { name: name.into(), value: value.into() })
    }

    /// Whether the checkpoint has a tensor.
    pub fn has(&self, tensor: &str) -> bool {
        self.shapes.contains_key(tensor)
    }

    /// The row-major shape of a tensor. Errors: invalid-input when the checkpoint does not have it.
    pub fn shape(&self, tensor: &str) -> Result<&[u32], Error> {
        let shape = self.shapes.get(tensor).map(Vec::as_slice);
        shape.ok_or_else(|| Error::invalid(format!("the checkpoint lacks the tensor `{tensor}`")))
    }

    /// Starts a node.
    pub fn node<'b>(&'b mut self, op: &str, name: &str, role: &str) -> Insert<'b, 'a> {
        let name = self.full(name);
        let spec = Spec {
            function: self.function.clone(),
            name,
            role: role.into(),
            layer: self.layer,
            op: op.into(),
            attributes: Vec::new(),
            inputs: Vec::new(),
            weights: Vec::new(),
        };
        Insert { builder: self, spec }
    }

    /// ids -> x; the weight is `tensor`.
    pub fn embedding(&mut self, name: &str, ids: ValueId, tensor: &str) -> Result<ValueId, Error> {
        self.node("embedding", name, "embedding").inputs([ids]).weight("weight", tensor)?.finish()
    }

    /// x -> y by `tensor`.weight, and `tensor`.bias where the checkpoint has it.
    pub fn linear(&mut self, name: &str, role: &str, x: ValueId, tensor: &str) -> Result<ValueId, Error> {
        let bias = format!("{tensor}.bias");
        let has_bias = self.has(&bias);
        let mut node = self.node("linear", name, role).inputs([x]).weight("weight", &format!("{tensor}.weight"))?;
        if has_bias {
            node = node.weight("bias", &bias)?;
        }
        node.finish()
    }

    /// A linear over the weight of another node: `head` over `embedding.weight`, where they are tied.
    pub fn tied_linear(&mut self, name: &str, role: &str, x: ValueId, weight: &str) -> Result<ValueId, Error> {
        self.node("linear", name, role).inputs([x]).tied("weight", weight).finish()
    }

    /// x -> y, scaled by the tensor.
    pub fn rms_norm(&mut self, name: &str, x: ValueId, tensor: &str, epsilon: f64) -> Result<ValueId, Error> {
        let node = self.node("rms-norm", name, "norm").inputs([x]).attribute("epsilon", epsilon);
        node.weight("weight", tensor)?.finish()
    }

    /// x -> y, rotated by position as `rope` says (the attributes of the op), with per-pair divisors where there are any.
    pub fn rope(
        &mut self,
        name: &str,
        x: ValueId,
        positions: ValueId,
        rope: &[Setting],
        divisors: Option<&str>,
    ) -> Result<ValueId, Error> {
        let mut node = self.node("rope", name, "rope").inputs([x, positions]).attributes(rope);
        if let Some(tensor) = divisors {
            // One weight for all layers.
            node = node.shared("frequencies", "rope.frequencies", tensor)?;
        }
        node.finish()
    }

    /// Keys, values and their positions -> those of every token so far, kept as float16.
    pub fn cache(&mut self, name: &str, kvp: [ValueId; 3], head_dim: i64) -> Result<[ValueId; 3], Error> {
        let node = self.node("cache", name, "cache").inputs(kvp).attribute("dtype", "float16");
        let outputs = node.attribute("head-dim", head_dim).outputs()?;
        <[ValueId; 3]>::try_from(outputs).map_err(|o| Error::new("internal", format!("cache has {} outputs", o.len())))
    }

    /// Causal attention of queries over cached keys and values -> y.
    pub fn attention(
        &mut self,
        name: &str,
        q: ValueId,
        positions: ValueId,
        [k, v, key_positions]: [ValueId; 3],
        shape: Attention,
    ) -> Result<ValueId, Error> {
        let mut node = self
            .node("attention", name, "attention")
            .inputs([q, k, v, positions, key_positions])
            .attribute("heads", shape.heads)
            .attribute("kv-heads", shape.kv_heads)
            .attribute("head-dim", shape.head_dim)
            .attribute("scale", shape.scale);
        if shape.window > 0 {
            node = node.attribute("window", shape.window);
        }
        node.finish()
    }

    /// An op without attributes or weights: add and mul (`residual`, `product`), silu (`activation`), ...
    pub fn apply<const N: usize>(
        &mut self,
        op: &str,
        name: &str,
        role: &str,
        inputs: [ValueId; N],
    ) -> Result<ValueId, Error> {
        self.node(op, name, role).inputs(inputs).finish()
    }

    fn full(&self, name: &str) -> String {
        self.layer.map_or_else(|| name.to_owned(), |layer| format!("layers.{layer}.{name}"))
    }

    fn bind(&mut self, weight: &str, tensor: &str) -> Result<(), Error> {
        self.shape(tensor)?;
        if self.bound.insert(weight.to_owned()) {
            let source = Source { tensor: tensor.into(), steps: Vec::new() };
            self.target.bind(weight, &[source], "single")?;
        }
        Ok(())
    }
}

impl Insert<'_, '_> {
    /// Its inputs, in the op's order.
    #[must_use]
    pub fn inputs<const N: usize>(mut self, inputs: [ValueId; N]) -> Self {
        self.spec.inputs = inputs.to_vec();
        self
    }

    /// One attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.spec.attributes.push(setting(name, value));
        self
    }

    /// Several attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: &[Setting]) -> Self {
        self.spec.attributes.extend_from_slice(attributes);
        self
    }

    /// A weight of its own, named after the node and the slot, from a tensor of the checkpoint.
    pub fn weight(self, slot: &str, tensor: &str) -> Result<Self, Error> {
        let weight = format!("{}.{slot}", self.spec.name);
        self.shared(slot, &weight, tensor)
    }

    /// A weight under a name that several nodes share, from a tensor of the checkpoint.
    pub fn shared(self, slot: &str, weight: &str, tensor: &str) -> Result<Self, Error> {
        self.builder.bind(weight, tensor)?;
        Ok(self.tied(slot, weight))
    }

    /// A weight that another node brought.
    #[must_use]
    pub fn tied(mut self, slot: &str, weight: &str) -> Self {
        self.spec.weights.push(Slot { name: slot.into(), weight: weight.into() });
        self
    }

    /// Adds the node; gives its only, or first, output.
    pub fn finish(self) -> Result<ValueId, Error> {
        let name = self.spec.name.clone();
        let outputs = self.outputs()?;
        outputs.first().copied().ok_or_else(|| Error::new("internal", format!("node `{name}` has no output")))
    }

    /// Adds the node; gives all of its outputs.
    pub fn outputs(self) -> Result<Vec<ValueId>, Error> {
        self.builder.target.insert(&self.spec)
    }
}

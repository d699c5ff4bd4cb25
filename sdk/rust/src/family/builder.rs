//! Emits the nodes of a decoder with their names, roles and weights, so that a family reads like the model's definition.

use super::names::Names;
use super::{Checkpoint, Error, Fact, Setting, Slot, Source, Spec, Target, Value, ValueId, setting};
use std::collections::{BTreeMap, BTreeSet};

/// Builds one model. Node names are relative: inside a layer `attention.query` becomes `layers.3.attention.query`; a
/// node's weights are its name with `.weight` or `.bias`, and come from the tensors that checkpoints usually keep under
/// the name of that part, or under those that [`Builder::name`] gives.
pub struct Builder<'a> {
    target: &'a dyn Target,
    shapes: BTreeMap<String, Vec<u32>>,
    names: Names,
    bound: BTreeSet<String>,
    function: String,
    /// Before the names of nodes and their weights.
    prefix: String,
    layer: Option<u32>,
    norm: Norm,
}

/// How a model's norms work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// `rms-norm` or `layer-norm`.
    pub op: &'static str,
    /// Added to the mean square, or to the variance.
    pub epsilon: f64,
    /// Added to the weights: 1 for Gemma's.
    pub offset: f64,
}

/// Per-pair divisors of the rope's frequencies in GGUF: of Llama 3.1 and later, and longrope's within the original context.
const DIVISORS: [&str; 2] = ["rope_freqs.weight", "rope_factors_short.weight"];

/// The shape of an attention op.
#[derive(Debug, Clone)]
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
    /// Scores are tanh(score / softcap) * softcap.
    pub softcap: Option<f64>,
    /// Queries and keys are normed before they are rotated.
    pub normed: bool,
    /// Attributes of the rope op.
    pub rope: Vec<Setting>,
}

/// A node under construction.
pub struct Insert<'b, 'a> {
    builder: &'b mut Builder<'a>,
    spec: Spec,
}

impl<'a> Builder<'a> {
    /// A builder for a checkpoint's model.
    pub fn new(checkpoint: &dyn Checkpoint, target: &'a dyn Target) -> Self {
        Self {
            target,
            shapes: checkpoint.tensors().into_iter().collect(),
            names: Names::new(&checkpoint.format()),
            bound: BTreeSet::new(),
            function: String::new(),
            prefix: String::new(),
            layer: None,
            norm: Norm { op: "rms-norm", epsilon: 1e-5, offset: 0.0 },
        }
    }

    /// A part whose tensors have other names than usual, in GGUF and in Hugging Face's models; without `.weight`, and in
    /// layers without the layer.
    pub fn name(&mut self, part: &str, gguf: &str, hugging_face: &str) {
        self.names.set(part, gguf, hugging_face);
    }

    /// What follows is a part of the model that Hugging Face's checkpoints keep under `root` instead of `model`; the names of its
    /// nodes and weights get `prefix` in front. Names given before hold no longer.
    pub fn part(&mut self, root: &str, prefix: &str) {
        self.names.root(root);
        self.prefix = prefix.into();
    }

    /// How the norms that follow work; gives back how those before did.
    pub fn norms(&mut self, norm: Norm) -> Norm {
        std::mem::replace(&mut self.norm, norm)
    }

    /// The tensor of a part's slot, `weight` or `bias`.
    pub fn tensor(&self, part: &str, slot: &str) -> Result<String, Error> {
        match self.names.tensor(part, self.layer) {
            Some(name) => Ok(format!("{name}.{slot}")),
            None => Err(Error::new("internal", format!("the family gives no tensor for its part `{part}`"))),
        }
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

    /// ids -> x, times the scale where there is one.
    pub fn embedding(&mut self, ids: ValueId, scale: Option<f64>) -> Result<ValueId, Error> {
        let tensor = self.tensor("embedding", "weight")?;
        let mut node = self.node("embedding", "embedding", "embedding").inputs([ids]).weight("weight", &tensor)?;
        if let Some(scale) = scale {
            node = node.attribute("scale", scale);
        }
        node.finish()
    }

    /// x -> y by the part's weight, and its bias where the checkpoint has one.
    pub fn linear(&mut self, name: &str, role: &str, x: ValueId) -> Result<ValueId, Error> {
        let (weight, bias) = (self.tensor(name, "weight")?, self.tensor(name, "bias")?);
        let has_bias = self.has(&bias);
        let mut node = self.node("linear", name, role).inputs([x]).weight("weight", &weight)?;
        if has_bias {
            node = node.weight("bias", &bias)?;
        }
        node.finish()
    }

    /// x -> y by the part's own weight or, where the checkpoint keeps several parts as one, by `count` rows of the part
    /// `fused` from `first` on.
    pub fn linear_part(
        &mut self,
        name: &str,
        role: &str,
        x: ValueId,
        fused: &str,
        first: i64,
        count: i64,
    ) -> Result<ValueId, Error> {
        // Not every part has a fused form.
        let Ok(weight) = self.tensor(fused, "weight") else { return self.linear(name, role, x) };
        let (own, bias) = (self.tensor(name, "weight")?, self.tensor(fused, "bias")?);
        let rows = self.shapes.get(&weight).and_then(|shape| shape.first()).copied().unwrap_or(0);
        // Some files keep several parts under the name of one: only its rows tell.
        let is_part = i64::from(rows) >= first + count && (own == weight || !self.has(&own));
        if !is_part {
            return self.linear(name, role, x);
        }
        let rows = [setting("rows", Value::Integers(vec![first, count]))];
        let has_bias = self.has(&bias);
        let mut node = self.node("linear", name, role).inputs([x]).weight_of("weight", &weight, &rows)?;
        if has_bias {
            node = node.weight_of("bias", &bias, &rows)?;
        }
        node.finish()
    }

    /// x -> y, normed as [`Builder::norms`] said: each stretch of the weight's length on its own.
    pub fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId, Error> {
        let Norm { op, epsilon, offset } = self.norm;
        let (weight, bias) = (self.tensor(name, "weight")?, self.tensor(name, "bias")?);
        let has_bias = op == "layer-norm" && self.has(&bias);
        let mut node = self.node(op, name, "norm").inputs([x]).attribute("epsilon", epsilon);
        if offset != 0.0 {
            node = node.attribute("weight-offset", offset);
        }
        node = node.weight("weight", &weight)?;
        if has_bias {
            node = node.weight("bias", &bias)?;
        }
        node.finish()
    }

    /// x -> y, rotated by position as `rope` says (the attributes of the op), with per-pair divisors where the checkpoint
    /// has them.
    pub fn rope(&mut self, name: &str, x: ValueId, positions: ValueId, rope: &[Setting]) -> Result<ValueId, Error> {
        let divisors = DIVISORS.into_iter().find(|tensor| self.has(tensor));
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
        shape: &Attention,
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
        if let Some(cap) = shape.softcap {
            node = node.attribute("softcap", cap);
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
        let prefix = &self.prefix;
        self.layer.map_or_else(|| format!("{prefix}{name}"), |layer| format!("{prefix}layers.{layer}.{name}"))
    }

    fn bind(&mut self, weight: &str, sources: &[Source], join: &str) -> Result<(), Error> {
        for source in sources {
            self.shape(&source.tensor)?;
        }
        if self.bound.insert(weight.to_owned()) {
            self.target.bind(weight, sources, join)?;
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
        self.weight_of(slot, tensor, &[])
    }

    /// A weight of its own, from a tensor of the checkpoint after some steps: `rows`, `reshape`, ...
    pub fn weight_of(self, slot: &str, tensor: &str, steps: &[Setting]) -> Result<Self, Error> {
        self.joined(slot, &[Source { tensor: tensor.into(), steps: steps.to_vec() }], "single")
    }

    /// A weight of its own, from tensors of the checkpoint joined as said: `single`, `concat` or `stack`.
    pub fn joined(self, slot: &str, sources: &[Source], join: &str) -> Result<Self, Error> {
        let weight = format!("{}.{slot}", self.spec.name);
        self.builder.bind(&weight, sources, join)?;
        Ok(self.tied(slot, &weight))
    }

    /// A weight under a name that several nodes share, from a tensor of the checkpoint.
    pub fn shared(self, slot: &str, weight: &str, tensor: &str) -> Result<Self, Error> {
        self.builder.bind(weight, &[Source { tensor: tensor.into(), steps: Vec::new() }], "single")?;
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

//! A graph made ready: its nodes in order as steps on numbered slots, with weights in memory. Both executors, that on
//! the CPU's own buffers and that on tensors, run the same program.

use crate::adapted_rows::AdaptedRows;
use crate::attention::AttentionSpec;
use crate::cache::{BLOCK, CacheSpec};
use crate::matrix::Matrix;
use crate::rope::Rope;
use crate::routing::{Grouping, RouteSpec, Score};
use crate::{EngineError, Variant};
use aehost_graph::{Graph, Node, NodeId, ValueId, ValueType, op_info};
use candle_core::{DType, Device, Tensor};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a step does; `V` is how an executor keeps vectors of weights.
pub(crate) enum Op<V> {
    Embedding {
        weight: Only,
        scale: Option<f64>,
    },
    Linear {
        weight: Only,
        bias: Option<V>,
    },
    /// Chooses experts by a router's logits.
    Route {
        spec: RouteSpec,
        routing: usize,
    },
    /// Makes the rows of each matrix neighbours.
    Take(Grouping),
    /// A product with the matrix that each row belongs to.
    GroupedLinear {
        weights: Arc<Vec<Matrix>>,
        by: Grouping,
    },
    /// Makes rows the values of tokens again.
    Give(Grouping),
    /// Columns of two values in turn, of each as many equal stretches as said.
    Concat(usize),
    RmsNorm {
        weight: V,
        epsilon: f64,
    },
    LayerNorm {
        weight: V,
        bias: Option<V>,
        epsilon: f64,
    },
    Rope(usize),
    Cache(usize),
    Attention {
        spec: AttentionSpec,
        cache: usize,
    },
    Add,
    Mul,
    Silu,
    GeluTanh,
    Gelu,
    /// activation(a) * b; made of the two where an executor does both in one pass.
    Gated(Gate),
    Tanh,
    Sigmoid,
    Relu,
    Scale(f64),
    Softmax,
    /// Sets this share of numbers to 0 in training, and enlarges the others; nothing otherwise.
    Dropout(f64),
    Parameter(V),
    /// The numbers that the step is given.
    Given,
    /// Rows of images where tokens stand for parts of them; the engine knows those rows.
    Overlay,
    /// Keeps the rows whose logits are wanted; the engine's own, before the token-wise end of the graph.
    SelectRows,
}

/// The activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Silu,
    GeluTanh,
}

impl Op<Tensor> {
    /// The same with its vectors in the CPU's memory.
    pub fn on_cpu(self) -> Result<Op<Vec<f32>>, EngineError> {
        let numbers = |tensor: Tensor| -> Result<Vec<f32>, EngineError> {
            Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        Ok(match self {
            Op::Embedding { weight, scale } => Op::Embedding { weight, scale },
            Op::Linear { weight, bias } => Op::Linear { weight, bias: bias.map(numbers).transpose()? },
            Op::Route { spec, routing } => Op::Route { spec, routing },
            Op::Take(by) => Op::Take(by),
            Op::GroupedLinear { weights, by } => Op::GroupedLinear { weights, by },
            Op::Give(by) => Op::Give(by),
            Op::Concat(groups) => Op::Concat(groups),
            Op::RmsNorm { weight, epsilon } => Op::RmsNorm { weight: numbers(weight)?, epsilon },
            Op::LayerNorm { weight, bias, epsilon } => {
                Op::LayerNorm { weight: numbers(weight)?, bias: bias.map(numbers).transpose()?, epsilon }
            }
            Op::Rope(rope) => Op::Rope(rope),
            Op::Cache(cache) => Op::Cache(cache),
            Op::Attention { spec, cache } => Op::Attention { spec, cache },
            Op::Add => Op::Add,
            Op::Mul => Op::Mul,
            Op::Silu => Op::Silu,
            Op::GeluTanh => Op::GeluTanh,
            Op::Gelu => Op::Gelu,
            Op::Gated(gate) => Op::Gated(gate),
            Op::Tanh => Op::Tanh,
            Op::Sigmoid => Op::Sigmoid,
            Op::Relu => Op::Relu,
            Op::Scale(factor) => Op::Scale(factor),
            Op::Softmax => Op::Softmax,
            Op::Dropout(rate) => Op::Dropout(rate),
            Op::Parameter(weight) => Op::Parameter(numbers(weight)?),
            Op::Given => Op::Given,
            Op::Overlay => Op::Overlay,
            Op::SelectRows => Op::SelectRows,
        })
    }
}

/// The matrix of a weight that is no stack.
#[derive(Clone)]
pub(crate) struct Only(Arc<Vec<Matrix>>);

impl std::ops::Deref for Only {
    type Target = Matrix;
    fn deref(&self) -> &Matrix {
        &self.0[0]
    }
}

/// One op on slots.
pub(crate) struct Step {
    /// The node's name.
    pub name: String,
    /// The node; none for what the engine adds of its own.
    pub node: Option<NodeId>,
    pub op: Op<Tensor>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Slots that nothing needs after this step.
    pub release: Vec<usize>,
}

/// How many rows a value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RowSpace {
    /// One for each token of the step.
    Tokens,
    /// As many for each token.
    Multiple(usize),
    /// One for each token whose logits are wanted.
    Selected,
    /// A weight's own.
    Fixed(usize),
}

/// The shape of a value: `[rows, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub rows: RowSpace,
    pub width: usize,
}

/// The slot of the token ids.
pub(crate) const IDS: usize = 0;
/// The slot of the positions.
pub(crate) const POSITIONS: usize = 1;

/// Functions whose tokens go on from step to step.
const DECODING: [&str; 2] = ["decode", "draft"];

/// The steps of one of a model's functions.
pub(crate) struct Program {
    pub steps: Vec<Step>,
    pub slots: Vec<Slot>,
    /// Values to be looked at, and their slots.
    pub wanted: Vec<(ValueId, usize)>,
    /// Where the logits, or what else the function makes, come to stand; none when only other values are wanted.
    pub output: Option<usize>,
    /// Numbers a token that the function is given; none where it is given token ids alone.
    pub given: Option<usize>,
    pub ropes: Vec<Rope>,
    pub caches: Vec<Arc<CacheSpec>>,
    /// Number of routers.
    pub routings: usize,
}

impl Program {
    /// Makes a function of the variant ready on a device: all that leads to the logits or, where other values are `wanted`, to
    /// those.
    pub fn new(variant: &Variant, name: &str, device: &Device, wanted: &[ValueId]) -> Result<Self, EngineError> {
        let graph = variant.graph();
        let missing =
            |what: &str| EngineError::Invalid(format!("the model has no {what}: its family did not finish it"));
        let function = graph.function(name).ok_or_else(|| missing(&format!("function `{name}`")))?;
        let goes_on = DECODING.contains(&name);
        let port = |ports: &[aehost_graph::Port], name: &str| ports.iter().find(|p| p.name == name).map(|p| p.value);
        for name in ["ids", "positions"].into_iter().filter(|_| goes_on) {
            port(&function.inputs, name).ok_or_else(|| missing(&format!("input `{name}`")))?;
        }
        let output = match goes_on {
            true => port(&function.outputs, "logits").ok_or_else(|| missing("output `logits`"))?,
            false => {
                let first = function.outputs.first();
                first.map(|port| port.value).ok_or_else(|| missing(&format!("output of function `{name}`")))?
            }
        };
        let order = graph.order(name).ok_or_else(|| EngineError::Invalid(format!("function `{name}` has a cycle")))?;
        let select = if wanted.is_empty() { select_rows_at(graph, output) } else { None };
        let needed = needed(graph, if wanted.is_empty() { std::slice::from_ref(&output) } else { wanted });
        let indices = Slot { rows: RowSpace::Tokens, width: 1 };
        let mut builder = Builder {
            variant,
            device,
            goes_on,
            slot_of: HashMap::new(),
            slots: vec![indices; 2],
            ropes: Vec::new(),
            caches: Vec::new(),
            observing: !wanted.is_empty(),
            cache_of: HashMap::new(),
            routings: 0,
        };
        let mut steps = Vec::with_capacity(order.len() + 1);
        let given = builder.inputs(name, &function.inputs, &mut steps)?;
        for id in order.into_iter().filter(|id| needed.contains(id)) {
            let node = graph.node(id).expect("the order lists nodes of the graph");
            builder.steps(node, &mut steps)?;
            if let Some(value) = select.filter(|v| node.outputs.contains(v)) {
                // Later readers of the value see the selected rows.
                let from = builder.slot_of[&value];
                let width = builder.slots[from].width;
                let to = builder.slot(Some(value), Slot { rows: RowSpace::Selected, width });
                steps.push(Step {
                    name: "select-rows".into(),
                    node: None,
                    op: Op::SelectRows,
                    inputs: vec![from],
                    outputs: vec![to],
                    release: vec![],
                });
            }
        }
        let output = match wanted.is_empty() {
            true => {
                let what = format!("node for the output of function `{name}`");
                Some(*builder.slot_of.get(&output).ok_or_else(|| missing(&what))?)
            }
            false => None,
        };
        let wanted = wanted
            .iter()
            .map(|value| match builder.slot_of.get(value) {
                Some(slot) if *slot > POSITIONS => Ok((*value, *slot)),
                _ => Err(EngineError::Invalid(format!("value {} is not computed by `{name}`", value.0))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        release_after_last_use(&mut steps, output);
        let Builder { slots, ropes, caches, routings, .. } = builder;
        Ok(Self { steps, slots, wanted, output, given, ropes, caches, routings })
    }
}

/// The nodes that lead to the values.
pub(crate) fn needed(graph: &Graph, values: &[ValueId]) -> HashSet<NodeId> {
    let mut open: Vec<ValueId> = values.to_vec();
    let mut nodes = HashSet::new();
    while let Some(value) = open.pop() {
        if let Some(node) = graph.producer(value).filter(|node| nodes.insert(*node)).and_then(|id| graph.node(id)) {
            open.extend(&node.spec.inputs);
        }
    }
    nodes
}

/// The value from which on every node down to the logits works token by token, so that only wanted rows need be computed.
fn select_rows_at(graph: &Graph, logits: ValueId) -> Option<ValueId> {
    let mut value = logits;
    while let Some(node) = graph.producer(value).and_then(|id| graph.node(id)) {
        let token_wise = op_info(&node.spec.op).is_some_and(|o| o.token_wise) && node.spec.inputs.len() == 1;
        let only_reader = graph.consumers(node.spec.inputs.first().copied()?).len() == 1;
        if !token_wise || !only_reader || graph.producer(node.spec.inputs[0]).is_none() {
            break;
        }
        value = node.spec.inputs[0];
    }
    Some(value)
}

fn release_after_last_use(steps: &mut [Step], output: Option<usize>) {
    let mut seen: HashSet<usize> = output.into_iter().collect();
    for step in steps.iter_mut().rev() {
        for slot in step.inputs.iter().chain(&step.outputs) {
            if seen.insert(*slot) {
                step.release.push(*slot);
            }
        }
    }
}

struct Builder<'a> {
    variant: &'a Variant,
    device: &'a Device,
    /// Whether tokens of later steps see those of earlier ones.
    goes_on: bool,
    slot_of: HashMap<ValueId, usize>,
    slots: Vec<Slot>,
    ropes: Vec<Rope>,
    caches: Vec<Arc<CacheSpec>>,
    /// Whether values are looked at, instead of making logits.
    observing: bool,
    cache_of: HashMap<NodeId, usize>,
    routings: usize,
}

impl Builder<'_> {
    /// Slots for the function's inputs; gives how many numbers a token it is given.
    fn inputs(
        &mut self,
        function: &str,
        ports: &[aehost_graph::Port],
        steps: &mut Vec<Step>,
    ) -> Result<Option<usize>, EngineError> {
        let mut given = None;
        for port in ports {
            let ty = self.variant.graph().value_type(port.value).cloned().unwrap_or_else(ValueType::indices);
            let numbers = ty.tokens && ty.dims.len() == 1 && ty.dtype == "float32";
            match port.name.as_str() {
                "ids" if !numbers => _ = self.slot_of.insert(port.value, IDS),
                "positions" if !numbers => _ = self.slot_of.insert(port.value, POSITIONS),
                // The engine places these rows itself.
                "images" if numbers && self.goes_on => {
                    self.slot(Some(port.value), Slot { rows: RowSpace::Tokens, width: ty.width() });
                }
                _ if numbers && !self.goes_on && given.is_none() => {
                    let slot = self.slot(Some(port.value), Slot { rows: RowSpace::Tokens, width: ty.width() });
                    let name = port.name.clone();
                    steps.push(Step {
                        name,
                        node: None,
                        op: Op::Given,
                        inputs: vec![],
                        outputs: vec![slot],
                        release: vec![],
                    });
                    given = Some(ty.width());
                }
                name => {
                    let takes = if self.goes_on { "images [tokens, n]" } else { "one input of numbers [tokens, n]" };
                    return Err(EngineError::Unsupported(format!(
                        "function `{function}` has an input `{name}` {ty}; it may have ids [tokens], positions [tokens] and {takes}"
                    )));
                }
            }
        }
        Ok(given)
    }

    /// The steps of a node.
    fn steps(&mut self, node: &Node, steps: &mut Vec<Step>) -> Result<(), EngineError> {
        let spec = &node.spec;
        let inputs = spec
            .inputs
            .iter()
            .map(|v| {
                self.slot_of.get(v).copied().ok_or_else(|| {
                    EngineError::Invalid(format!("node `{}` reads value {} before it is made", spec.name, v.0))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        match spec.op.as_str() {
            "experts" => self.experts(node, &inputs, steps),
            "grouped-linear" => self.grouped_linear(node, inputs[0], steps),
            op => {
                let op = match op {
                    "attention" => {
                        let cache = self.cache_of_attention(node, &inputs, steps)?;
                        self.attention(node, cache)?
                    }
                    _ => self.op(node)?,
                };
                let selected = inputs.iter().any(|slot| self.slots[*slot].rows == RowSpace::Selected);
                let outputs = node.outputs.iter().map(|value| self.slot_for(*value, selected)).collect();
                steps.push(Step { name: spec.name.clone(), node: Some(node.id), op, inputs, outputs, release: vec![] });
                Ok(())
            }
        }
    }

    /// A slot for a value of the graph.
    fn slot_for(&mut self, value: ValueId, selected: bool) -> usize {
        let ty = self.variant.graph().value_type(value).cloned().unwrap_or_else(ValueType::indices);
        let rows = match ty.tokens {
            true if selected => RowSpace::Selected,
            true => RowSpace::Tokens,
            false => RowSpace::Fixed(ty.dims.iter().rev().skip(1).product()),
        };
        self.slot(Some(value), Slot { rows, width: ty.width() })
    }

    /// A mixture of experts: each token's rows go through the experts that its router's logits choose.
    fn experts(&mut self, node: &Node, inputs: &[usize], steps: &mut Vec<Step>) -> Result<(), EngineError> {
        let spec = &node.spec;
        let integer = |name: &str, default: usize| spec.integer(name).map_or(default, |v| v as usize);
        let groups = integer("groups", 1);
        let route = RouteSpec {
            experts: self.slots[inputs[1]].width,
            top_k: integer("top-k", 1),
            score: match spec.text("score") {
                Some("sigmoid") => Score::Sigmoid,
                Some("one") => Score::One,
                _ => Score::Softmax,
            },
            normalise: spec.text("normalise") == Some("sum"),
            scale: spec.real("scale").unwrap_or(1.0) as f32,
            groups,
            top_groups: integer("top-groups", groups),
        };
        let by = Grouping::Routed(self.routings);
        let (rows, hidden) = (RowSpace::Multiple(route.top_k), self.slots[inputs[0]].width);
        let [gate, up, down] = ["gate", "up", "down"].map(|slot| self.matrices(node, slot));
        let (gate, up, down) = (gate?, up?, down?);
        let inner = gate[0].shape().0;
        let mut push = |part: &str, op: Op<Tensor>, inputs: Vec<usize>, outputs: Vec<usize>| {
            let name = format!("{}.{part}", spec.name);
            steps.push(Step { name, node: Some(node.id), op, inputs, outputs, release: vec![] });
        };
        push("route", Op::Route { spec: route, routing: self.routings }, vec![inputs[1]], vec![]);
        self.routings += 1;
        let taken = self.slot(None, Slot { rows, width: hidden });
        push("take", Op::Take(by), vec![inputs[0]], vec![taken]);
        let [gates, ups, products] = [(); 3].map(|()| self.slot(None, Slot { rows, width: inner }));
        push("gate", Op::GroupedLinear { weights: gate, by }, vec![taken], vec![gates]);
        push("up", Op::GroupedLinear { weights: up, by }, vec![taken], vec![ups]);
        let activation = if spec.text("activation") == Some("gelu") { Gate::GeluTanh } else { Gate::Silu };
        push("product", Op::Gated(activation), vec![gates, ups], vec![products]);
        let downs = self.slot(None, Slot { rows, width: hidden });
        push("down", Op::GroupedLinear { weights: down, by }, vec![products], vec![downs]);
        let output = self.slot_for(node.outputs[0], false);
        push("give", Op::Give(by), vec![downs], vec![output]);
        Ok(())
    }

    /// A matrix for each stretch of a token's columns.
    fn grouped_linear(&mut self, node: &Node, input: usize, steps: &mut Vec<Step>) -> Result<(), EngineError> {
        let weights = self.matrices(node, "weight")?;
        let groups = weights.len();
        let (out, width) = weights[0].shape();
        let by = Grouping::Stretches(groups);
        let rows = RowSpace::Multiple(groups);
        let taken = self.slot(None, Slot { rows, width });
        let made = self.slot(None, Slot { rows, width: out });
        let output = self.slot_for(node.outputs[0], false);
        for (part, op, from, to) in [
            ("take", Op::Take(by), input, taken),
            ("product", Op::GroupedLinear { weights, by }, taken, made),
            ("give", Op::Give(by), made, output),
        ] {
            let name = format!("{}.{part}", node.spec.name);
            steps.push(Step { name, node: Some(node.id), op, inputs: vec![from], outputs: vec![to], release: vec![] });
        }
        Ok(())
    }

    /// A new slot, which from now on holds the value.
    fn slot(&mut self, value: Option<ValueId>, slot: Slot) -> usize {
        self.slots.push(slot);
        let number = self.slots.len() - 1;
        if let Some(value) = value {
            self.slot_of.insert(value, number);
        }
        number
    }

    fn op(&mut self, node: &Node) -> Result<Op<Tensor>, EngineError> {
        let spec = &node.spec;
        Ok(match spec.op.as_str() {
            "embedding" => Op::Embedding { weight: self.matrix(node, "weight")?, scale: spec.real("scale") },
            "linear" => Op::Linear { weight: self.matrix(node, "weight")?, bias: self.vector(node, "bias")? },
            "rms-norm" => {
                let weight = self.required(node, "weight")?;
                let weight = match spec.real("weight-offset") {
                    Some(offset) => (weight + offset)?,
                    None => weight,
                };
                Op::RmsNorm { weight, epsilon: spec.real("epsilon").unwrap_or(1e-5) }
            }
            "layer-norm" => Op::LayerNorm {
                weight: self.required(node, "weight")?,
                bias: self.vector(node, "bias")?,
                epsilon: spec.real("epsilon").unwrap_or(1e-5),
            },
            "rope" => {
                let divisors = self
                    .vector(node, "frequencies")?
                    .map(|t| t.to_device(&Device::Cpu)?.to_vec1::<f32>())
                    .transpose()?;
                let rope = Rope::new(spec, divisors.as_deref())?;
                let known = self.ropes.iter().position(|r| *r == rope);
                Op::Rope(known.unwrap_or_else(|| {
                    self.ropes.push(rope);
                    self.ropes.len() - 1
                }))
            }
            "cache" => {
                let kept = CacheSpec::of(self.variant.graph(), node)
                    .map_err(|why| EngineError::Unsupported(format!("node `{}`: {why}", spec.name)))?;
                // What looks at values sees them as they are.
                self.caches.push(Arc::new(if self.observing { kept.lasting() } else { kept }));
                self.cache_of.insert(node.id, self.caches.len() - 1);
                Op::Cache(self.caches.len() - 1)
            }
            "add" => Op::Add,
            "mul" => Op::Mul,
            "silu" => Op::Silu,
            "gelu" if spec.text("approximate") == Some("tanh") => Op::GeluTanh,
            "gelu" => Op::Gelu,
            "tanh" => Op::Tanh,
            "sigmoid" => Op::Sigmoid,
            "relu" => Op::Relu,
            "scale" => Op::Scale(spec.real("factor").unwrap_or(1.0)),
            "softmax" => Op::Softmax,
            "concat" => Op::Concat(spec.integer("groups").map_or(1, |groups| groups as usize)),
            "dropout" => Op::Dropout(spec.real("rate").unwrap_or(0.0)),
            "overlay" => {
                if self.variant.graph().producer(spec.inputs[1]).is_some() {
                    return Err(EngineError::Unsupported(format!(
                        "node `{}`: it lays the function's input `images` over a value, and no other",
                        spec.name
                    )));
                }
                Op::Overlay
            }
            "parameter" => Op::Parameter(self.required(node, "weight")?),
            "inverse-norms" => {
                let values = AdaptedRows::of(self.variant, node)?.inverse_norms();
                let rows = values.len();
                Op::Parameter(Tensor::from_vec(values, rows, self.device)?)
            }
            other => {
                return Err(EngineError::Unsupported(format!("node `{}`: op `{other}` does not run here", spec.name)));
            }
        })
    }

    /// The cache that an attention reads; one of the step's own tokens where no cache op keeps its keys and values.
    fn cache_of_attention(
        &mut self,
        node: &Node,
        inputs: &[usize],
        steps: &mut Vec<Step>,
    ) -> Result<usize, EngineError> {
        let graph = self.variant.graph();
        let makers = [1, 2].map(|i| graph.producer(node.spec.inputs[i]).and_then(|id| graph.node(id)));
        let kept = makers.map(|maker| maker.filter(|maker| maker.spec.op == "cache").map(|maker| maker.id));
        match kept {
            [Some(keys), Some(values)] if keys == values => return Ok(self.cache_of[&keys]),
            [None, None] if !self.goes_on => {}
            _ => {
                return Err(EngineError::Unsupported(format!(
                    "node `{}`: keys and values must come from one cache op",
                    node.spec.name
                )));
            }
        }
        let (key_width, value_width) = (self.slots[inputs[1]].width, self.slots[inputs[2]].width);
        let alike = |c: &Arc<CacheSpec>| c.passing && c.key_width == key_width && c.value_width == value_width;
        // What one attention has read is of no use to the next.
        let cache = self.caches.iter().position(alike).unwrap_or_else(|| {
            self.caches.push(Arc::new(CacheSpec::passing(key_width, value_width)));
            self.caches.len() - 1
        });
        steps.push(Step {
            name: format!("{}.keys", node.spec.name),
            node: Some(node.id),
            op: Op::Cache(cache),
            inputs: vec![inputs[1], inputs[2]],
            outputs: vec![],
            release: vec![],
        });
        Ok(cache)
    }

    fn attention(&self, node: &Node, cache: usize) -> Result<Op<Tensor>, EngineError> {
        let spec = &node.spec;
        let attention = AttentionSpec::of(spec);
        let AttentionSpec { kv_heads, head_dim, value_dim, .. } = attention;
        let kept = &self.caches[cache];
        let values = match kept.values_are_keys {
            true if kv_heads == 1 => head_dim,
            _ => kv_heads * value_dim,
        };
        if kept.key_width != kv_heads * head_dim || kept.value_width != values {
            return Err(EngineError::Unsupported(format!(
                "node `{}`: its cache keeps widths {} and {}, expected {} and {values}",
                spec.name,
                kept.key_width,
                kept.value_width,
                kv_heads * head_dim
            )));
        }
        if kept.dtype.in_blocks() && !(value_dim.is_multiple_of(BLOCK) && head_dim.is_multiple_of(BLOCK)) {
            return Err(EngineError::Unsupported(format!(
                "node `{}`: a cache in few bits needs heads of a multiple of 32 elements, found {value_dim}",
                spec.name
            )));
        }
        let kept_whole = !kept.passing && kept.window == 0 && kept.eviction.is_none();
        if attention.pages.is_some() && (attention.window > 0 || !kept_whole) {
            return Err(EngineError::Unsupported(format!(
                "node `{}`: `top-pages` needs a cache that keeps all tokens, and no window",
                spec.name
            )));
        }
        Ok(Op::Attention { spec: attention, cache })
    }

    fn matrix(&self, node: &Node, slot: &str) -> Result<Only, EngineError> {
        self.matrices(node, slot).map(Only)
    }

    fn matrices(&self, node: &Node, slot: &str) -> Result<Arc<Vec<Matrix>>, EngineError> {
        let name = node.spec.weight(slot).ok_or_else(|| EngineError::NoWeight(format!("{}.{slot}", node.spec.name)))?;
        self.variant.pool.get(self.variant.weight(name)?, self.device)
    }

    fn vector(&self, node: &Node, slot: &str) -> Result<Option<Tensor>, EngineError> {
        let Some(name) = node.spec.weight(slot) else { return Ok(None) };
        let weight = self.variant.weight(name)?;
        let values = weight.floats()?;
        Ok(Some(Tensor::from_vec(values, weight.shape.clone(), self.device)?))
    }

    fn required(&self, node: &Node, slot: &str) -> Result<Tensor, EngineError> {
        self.vector(node, slot)?.ok_or_else(|| EngineError::NoWeight(format!("{}.{slot}", node.spec.name)))
    }
}

//! A variant made ready to run: its nodes in order, weights in memory, and the forward pass over packed sequences. There is
//! no padding: the tokens of all sequences of a step stand one after another, so linear layers see one matrix, and only
//! attention looks at sequences.

use crate::attention::{AttentionSpec, Queries, attention};
use crate::cache::{Cache, CacheSpec, CacheType};
use crate::rope::{Angles, Rope};
use crate::stored::Stored;
use crate::{EngineError, Variant, elementwise};
use aehost_graph::{Graph, Node, NodeId, ValueId, op_info};
use candle_core::{DType, Device, Storage, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// Of which tokens of a sequence the logits are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Of none: the step only fills the cache.
    None,
    /// Of the last token.
    Last,
    /// Of every token.
    All,
    /// Of these tokens of the step.
    These(Vec<u32>),
}

impl Rows {
    fn indices(&self, tokens: usize) -> Vec<u32> {
        match self {
            Rows::None => vec![],
            Rows::Last => vec![tokens as u32 - 1],
            Rows::All => (0..tokens as u32).collect(),
            Rows::These(rows) => rows.clone(),
        }
    }
}

/// One sequence's part of a step.
pub struct Sequence<'a> {
    /// At least one.
    pub tokens: &'a [u32],
    /// Continuations that share the trunk: a branch number (0 is the trunk) and a position for each token. None: the
    /// tokens go on where the cache ends.
    pub branches: Option<(&'a [u32], &'a [u32])>,
    /// What came before, and takes this step's keys and values.
    pub cache: &'a mut Cache,
    /// Of which tokens logits are wanted.
    pub rows: Rows,
}

/// A weight matrix on its device.
enum Matrix {
    Cpu(Arc<Stored>),
    /// Dense, `[out, in]`, on a device other than the CPU.
    Device(Tensor),
    /// Blocked, on a device other than the CPU.
    DeviceBlocked(candle_core::quantized::QMatMul, Arc<candle_core::quantized::QTensor>),
}

enum Op {
    Embedding {
        weight: Matrix,
        scale: Option<f64>,
    },
    Linear {
        weight: Matrix,
        bias: Option<Tensor>,
    },
    RmsNorm {
        weight: Tensor,
        epsilon: f64,
    },
    LayerNorm {
        weight: Tensor,
        bias: Option<Tensor>,
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
    /// silu(a) * b in one pass, where the graph has the two one after the other.
    Gated,
    Tanh,
    Sigmoid,
    Relu,
    Scale(f64),
    Softmax,
    Parameter(Tensor),
    /// Keeps the rows whose logits are wanted; the engine's own, before the token-wise end of the graph.
    SelectRows,
}

struct Step {
    name: String,
    op: Op,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// Values that nothing needs after this step.
    release: Vec<usize>,
}

/// Sees chosen values of a forward pass.
pub(crate) type Observer<'a> = dyn FnMut(ValueId, &Tensor) -> Result<(), EngineError> + 'a;

/// A runnable model.
pub struct Model {
    steps: Vec<Step>,
    slots: usize,
    slot_of: HashMap<ValueId, usize>,
    ids: usize,
    logits: usize,
    ropes: Vec<Rope>,
    caches: Vec<Arc<CacheSpec>>,
    device: Device,
    threads: rayon::ThreadPool,
    prefill_chunk: usize,
    context: Option<usize>,
    vocabulary: usize,
}

/// The numbers of a tensor in the CPU's memory.
pub(crate) fn floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R, EngineError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => {
            let values = cpu.as_slice::<f32>()?;
            Ok(f(&values[layout.start_offset()..layout.start_offset() + tensor.elem_count()]))
        }
        _ => Err(EngineError::Unsupported("this value is not in the CPU's memory".into())),
    }
}

impl Model {
    /// Prepares the variant's `decode` function; `threads` counts unless the variant's policy says otherwise.
    pub fn new(variant: &Variant, device: &Device, threads: usize) -> Result<Self, EngineError> {
        Self::observing(variant, device, threads, &[])
    }

    /// As [`Model::new`], with values that a later pass is going to look at, and so must not be released unseen.
    pub(crate) fn observing(
        variant: &Variant,
        device: &Device,
        threads: usize,
        wanted: &[ValueId],
    ) -> Result<Self, EngineError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(variant.policy().threads.unwrap_or(threads).max(1))
            .thread_name(|i| format!("engine-{i}"))
            .build()
            .map_err(|e| EngineError::Unsupported(format!("the engine's threads cannot be started: {e}")))?;
        let mut variant = variant.clone();
        // Observed values may be unused by the output; they are kept as they are.
        if wanted.is_empty() {
            variant.check()?;
        }
        let graph = variant.graph();
        let missing =
            |what: &str| EngineError::Invalid(format!("the model has no {what}: its family did not finish it"));
        let function = graph.function("decode").ok_or_else(|| missing("function `decode`"))?;
        let port = |ports: &[aehost_graph::Port], name: &str| ports.iter().find(|p| p.name == name).map(|p| p.value);
        let ids = port(&function.inputs, "ids").ok_or_else(|| missing("input `ids`"))?;
        let positions = port(&function.inputs, "positions").ok_or_else(|| missing("input `positions`"))?;
        let logits = port(&function.outputs, "logits").ok_or_else(|| missing("output `logits`"))?;
        let order =
            graph.order("decode").ok_or_else(|| EngineError::Invalid("function `decode` has a cycle".into()))?;
        let select = select_rows_at(graph, logits, wanted);

        let mut builder = Builder {
            variant: &variant,
            device,
            slot_of: HashMap::from([(ids, 0), (positions, 1)]),
            slots: 2,
            ropes: Vec::new(),
            caches: Vec::new(),
            cache_of: HashMap::new(),
        };
        let mut steps = Vec::with_capacity(order.len() + 1);
        threads.install(|| -> Result<(), EngineError> {
            for id in order {
                let node = graph.node(id).expect("the order lists nodes of the graph");
                steps.push(builder.step(node)?);
                if let Some(value) = select.filter(|v| node.outputs.contains(v)) {
                    // Later readers of the value see the selected rows.
                    let from = builder.slot_of[&value];
                    let to = builder.slots;
                    builder.slots += 1;
                    builder.slot_of.insert(value, to);
                    steps.push(Step {
                        name: "select-rows".into(),
                        op: Op::SelectRows,
                        inputs: vec![from],
                        outputs: vec![to],
                        release: vec![],
                    });
                }
            }
            Ok(())
        })?;
        let logits_slot = *builder.slot_of.get(&logits).ok_or_else(|| missing("node for its output `logits`"))?;
        if wanted.is_empty() && matches!(device, Device::Cpu) {
            fuse_gates(&mut steps);
        }
        let keep: Vec<usize> =
            wanted.iter().filter_map(|v| builder.slot_of.get(v)).copied().chain([logits_slot]).collect();
        release_after_last_use(&mut steps, &keep);
        let fact = |name: &str| graph.fact(name).and_then(aehost_common::Value::as_integer).map(|v| v as usize);
        Ok(Self {
            steps,
            slots: builder.slots,
            slot_of: builder.slot_of,
            ids: 0,
            logits: logits_slot,
            ropes: builder.ropes,
            caches: builder.caches,
            device: device.clone(),
            threads,
            prefill_chunk: variant.policy().prefill_chunk,
            context: fact("context"),
            vocabulary: graph.value_type(logits).map_or(0, |t| t.width()),
        })
    }

    /// An empty cache for one sequence.
    pub fn cache(&self) -> Cache {
        Cache::new(&self.caches)
    }

    /// The longest sequence, if the model has a limit.
    pub fn context(&self) -> Option<usize> {
        self.context
    }

    /// Tokens of a prompt that are computed in one step.
    pub fn prefill_chunk(&self) -> usize {
        self.prefill_chunk
    }

    /// Number of logits a token.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Threads of the engine.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs other work on the engine's threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    fn on_cpu(&self) -> bool {
        matches!(self.device, Device::Cpu)
    }

    /// One step over packed sequences: logits `[wanted rows, vocabulary]`, float32, in the order of the sequences.
    pub fn forward(&self, sequences: &mut [Sequence<'_>]) -> Result<Tensor, EngineError> {
        self.forward_observed(sequences, None)
    }

    pub(crate) fn forward_observed(
        &self,
        sequences: &mut [Sequence<'_>],
        observer: Option<(&[ValueId], &mut Observer<'_>)>,
    ) -> Result<Tensor, EngineError> {
        // rayon's pool wants Send; the observer stays on this thread, so observed passes run outside the pool's threads
        // but still spread their kernels over them.
        match observer {
            None => self.threads.install(|| self.run(sequences, None)),
            Some(observer) => self.run(sequences, Some(observer)),
        }
    }

    fn run(
        &self,
        sequences: &mut [Sequence<'_>],
        mut observer: Option<(&[ValueId], &mut Observer<'_>)>,
    ) -> Result<Tensor, EngineError> {
        let batch = Batch::of(sequences, self.context, self.vocabulary)?;
        let observed: Vec<(ValueId, usize)> = observer
            .as_ref()
            .map(|(wanted, _)| wanted.iter().filter_map(|v| Some((*v, *self.slot_of.get(v)?))).collect())
            .unwrap_or_default();
        let angles: Vec<Angles> = self.ropes.iter().map(|r| r.angles(&batch.positions)).collect();
        let mut values: Vec<Option<Tensor>> = vec![None; self.slots];
        values[self.ids] = Some(Tensor::from_slice(&batch.tokens, batch.tokens.len(), &self.device)?);
        values[1] = Some(Tensor::from_slice(&batch.positions, batch.positions.len(), &self.device)?);
        for (value, slot) in &observed {
            if let (Some(tensor), Some((_, see))) = (&values[*slot], observer.as_mut()) {
                see(*value, tensor)?;
            }
        }
        for step in &self.steps {
            self.execute(step, &batch, &angles, sequences, &mut values).map_err(|e| match e {
                EngineError::Tensor(why) => EngineError::Tensor(format!("node `{}`: {why}", step.name)),
                other => other,
            })?;
            if let Some((_, see)) = observer.as_mut() {
                for (value, slot) in observed.iter().filter(|(_, s)| step.outputs.contains(s)) {
                    see(*value, values[*slot].as_ref().expect("the step just made it"))?;
                }
            }
            for slot in &step.release {
                values[*slot] = None;
            }
        }
        for sequence in sequences {
            sequence.cache.seen += sequence.tokens.len();
        }
        values[self.logits].take().ok_or_else(|| EngineError::Invalid("the model makes no logits".into()))
    }

    fn execute(
        &self,
        step: &Step,
        batch: &Batch,
        angles: &[Angles],
        sequences: &mut [Sequence<'_>],
        values: &mut [Option<Tensor>],
    ) -> Result<(), EngineError> {
        let input = |i: usize| {
            values[step.inputs[i]]
                .as_ref()
                .ok_or_else(|| EngineError::Invalid(format!("node `{}` reads a value that is gone", step.name)))
        };
        let output = match &step.op {
            Op::Embedding { weight, scale } => {
                let x = embed(weight, input(0)?, &batch.tokens)?;
                match scale {
                    Some(s) => (x * *s)?,
                    None => x,
                }
            }
            Op::Linear { weight, bias } => {
                let y = linear(weight, input(0)?)?;
                match bias {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                }
            }
            Op::RmsNorm { weight, epsilon } if self.on_cpu() => {
                elementwise::rms_norm(input(0)?, weight, *epsilon as f32)?
            }
            Op::RmsNorm { weight, epsilon } => {
                let x = input(0)?;
                let n = weight.elem_count();
                let grouped = x.reshape((x.elem_count() / n, n))?;
                candle_nn::ops::rms_norm(&grouped.contiguous()?, weight, *epsilon as f32)?.reshape(x.shape())?
            }
            Op::LayerNorm { weight, bias, epsilon } => {
                let x = input(0)?.contiguous()?;
                let n = weight.elem_count();
                let grouped = x.reshape((x.elem_count() / n, n))?;
                let zero;
                let bias = match bias {
                    Some(b) => b,
                    None => {
                        zero = weight.zeros_like()?;
                        &zero
                    }
                };
                candle_nn::ops::layer_norm(&grouped, weight, bias, *epsilon as f32)?.reshape(x.shape())?
            }
            Op::Rope(index) => {
                let x = input(0)?;
                let (_, width) = x.dims2()?;
                let mut rotated = floats(&x.to_device(&Device::Cpu)?, <[f32]>::to_vec)?;
                self.ropes[*index].rotate(&mut rotated, width, &angles[*index]);
                Tensor::from_vec(rotated, x.shape(), &Device::Cpu)?.to_device(&self.device)?
            }
            Op::Cache(index) => {
                let (k, v) = (input(0)?.to_device(&Device::Cpu)?, input(1)?.to_device(&Device::Cpu)?);
                let spec = &self.caches[*index];
                floats(&k, |k| {
                    floats(&v, |v| {
                        for (sequence, part) in sequences.iter_mut().zip(&batch.parts) {
                            let rows = |x: &[f32], width: usize| -> std::ops::Range<usize> {
                                debug_assert!(part.end * width <= x.len());
                                part.start * width..part.end * width
                            };
                            sequence.cache.layers[*index].append(
                                &k[rows(k, spec.key_width)],
                                &v[rows(v, spec.value_width)],
                                &batch.positions[part.clone()],
                                &batch.branches[part.clone()],
                            );
                        }
                    })
                })??;
                // Attention reads the cache itself; its inputs only carry the order of execution.
                for (slot, from) in step.outputs.iter().zip(&step.inputs) {
                    values[*slot] = values[*from].clone();
                }
                return Ok(());
            }
            Op::Attention { spec, cache } => {
                let q = input(0)?.to_device(&Device::Cpu)?;
                let queries: Vec<Queries<'_>> = sequences
                    .iter()
                    .zip(&batch.parts)
                    .map(|(sequence, part)| Queries {
                        first: part.start,
                        positions: &batch.positions[part.clone()],
                        branches: &batch.branches[part.clone()],
                        cache: &sequence.cache.layers[*cache],
                    })
                    .collect();
                let mut out = vec![0f32; q.elem_count()];
                floats(&q, |q| attention(spec, q, &queries, &mut out))?;
                Tensor::from_vec(out, q.shape(), &Device::Cpu)?.to_device(&self.device)?
            }
            Op::Add if self.on_cpu() && input(0)?.shape() == input(1)?.shape() => {
                elementwise::sum(input(0)?, input(1)?)?
            }
            Op::Mul if self.on_cpu() && input(0)?.shape() == input(1)?.shape() => {
                elementwise::product(input(0)?, input(1)?)?
            }
            Op::Silu if self.on_cpu() => elementwise::silu_of(input(0)?)?,
            Op::Gated => elementwise::gated(input(0)?, input(1)?)?,
            Op::Add => input(0)?.broadcast_add(input(1)?)?,
            Op::Mul => input(0)?.broadcast_mul(input(1)?)?,
            Op::Silu => input(0)?.silu()?,
            Op::GeluTanh => input(0)?.gelu()?,
            Op::Gelu => input(0)?.gelu_erf()?,
            Op::Tanh => input(0)?.tanh()?,
            Op::Sigmoid => candle_nn::ops::sigmoid(input(0)?)?,
            Op::Relu => input(0)?.relu()?,
            Op::Scale(factor) => (input(0)? * *factor)?,
            Op::Softmax => candle_nn::ops::softmax_last_dim(&input(0)?.contiguous()?)?,
            Op::Parameter(tensor) => tensor.clone(),
            Op::SelectRows => {
                let x = input(0)?;
                if batch.rows.len() == batch.tokens.len() {
                    x.clone()
                } else {
                    let rows = Tensor::from_slice(&batch.rows, batch.rows.len(), &self.device)?;
                    x.index_select(&rows, 0)?
                }
            }
        };
        values[step.outputs[0]] = Some(output);
        Ok(())
    }
}

/// A step's tokens, packed.
struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    branches: Vec<u32>,
    parts: Vec<std::ops::Range<usize>>,
    rows: Vec<u32>,
}

impl Batch {
    fn of(sequences: &[Sequence<'_>], context: Option<usize>, vocabulary: usize) -> Result<Self, EngineError> {
        let mut batch = Batch { tokens: vec![], positions: vec![], branches: vec![], parts: vec![], rows: vec![] };
        for sequence in sequences {
            let (n, start, seen) = (sequence.tokens.len(), batch.tokens.len(), sequence.cache.seen);
            if n == 0 {
                return Err(EngineError::Invalid("a sequence of a step has no tokens".into()));
            }
            match sequence.branches {
                Some((branches, positions)) => {
                    if branches.len() != n || positions.len() != n {
                        return Err(EngineError::Invalid("branches and positions need one entry a token".into()));
                    }
                    batch.branches.extend_from_slice(branches);
                    batch.positions.extend_from_slice(positions);
                }
                None => {
                    batch.branches.resize(start + n, 0);
                    batch.positions.extend((seen..seen + n).map(|p| p as u32));
                }
            }
            batch.tokens.extend_from_slice(sequence.tokens);
            let length = batch.positions[start..].iter().max().map_or(0, |p| *p as usize + 1);
            if let Some(limit) = context.filter(|limit| length > *limit) {
                return Err(EngineError::Invalid(format!(
                    "a sequence of {length} tokens is longer than the model's context of {limit}"
                )));
            }
            batch.parts.push(start..start + n);
            batch.rows.extend(sequence.rows.indices(n).into_iter().map(|r| start as u32 + r));
        }
        if batch.tokens.is_empty() {
            return Err(EngineError::Invalid("a step has no sequences".into()));
        }
        if let Some(bad) = batch.tokens.iter().find(|t| **t as usize >= vocabulary) {
            return Err(EngineError::Invalid(format!("token {bad} lies outside the vocabulary of {vocabulary}")));
        }
        if batch.rows.iter().any(|r| *r as usize >= batch.tokens.len()) {
            return Err(EngineError::Invalid("a wanted row lies outside its sequence".into()));
        }
        Ok(batch)
    }
}

fn embed(weight: &Matrix, ids: &Tensor, tokens: &[u32]) -> Result<Tensor, EngineError> {
    match weight {
        Matrix::Cpu(stored) => {
            let (rows, columns) = stored.shape();
            let mut out = vec![0f32; tokens.len() * columns];
            for (token, out) in tokens.iter().zip(out.chunks_exact_mut(columns)) {
                let token = *token as usize;
                if token >= rows {
                    return Err(EngineError::Invalid(format!(
                        "token {token} lies outside the embedding of {rows} rows"
                    )));
                }
                stored.dequantize(token..token + 1, out);
            }
            Ok(Tensor::from_vec(out, (tokens.len(), columns), &Device::Cpu)?)
        }
        Matrix::Device(weight) => Ok(weight.index_select(ids, 0)?.to_dtype(DType::F32)?),
        Matrix::DeviceBlocked(_, weight) => Ok(weight.embedding(ids)?.to_dtype(DType::F32)?),
    }
}

fn linear(weight: &Matrix, x: &Tensor) -> Result<Tensor, EngineError> {
    match weight {
        Matrix::Cpu(stored) => {
            let (rows, columns) = stored.shape();
            let m = x.elem_count() / columns;
            let mut y = vec![0f32; m * rows];
            floats(x, |x| stored.linear(x, &mut y))?;
            Ok(Tensor::from_vec(y, (m, rows), &Device::Cpu)?)
        }
        Matrix::Device(weight) => Ok(x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(DType::F32)?),
        Matrix::DeviceBlocked(weight, _) => {
            use candle_core::Module;
            Ok(weight.forward(x)?)
        }
    }
}

/// The value from which on every node down to the logits works token by token, so that only wanted rows need be computed.
fn select_rows_at(graph: &Graph, logits: ValueId, wanted: &[ValueId]) -> Option<ValueId> {
    if !wanted.is_empty() {
        return None;
    }
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

fn release_after_last_use(steps: &mut [Step], keep: &[usize]) {
    let mut seen: std::collections::HashSet<usize> = keep.iter().copied().collect();
    for step in steps.iter_mut().rev() {
        for slot in step.inputs.iter().chain(&step.outputs) {
            if seen.insert(*slot) {
                step.release.push(*slot);
            }
        }
    }
}

/// Makes one step of silu followed by the only product that reads it.
fn fuse_gates(steps: &mut Vec<Step>) {
    let readers = |steps: &[Step], slot: usize| steps.iter().filter(|s| s.inputs.contains(&slot)).count();
    let mut at = 0;
    while at < steps.len() {
        let slot = steps[at].outputs.first().copied();
        let product = match (&steps[at].op, slot) {
            (Op::Silu, Some(slot)) if readers(steps, slot) == 1 => steps
                .iter()
                .position(|s| matches!(s.op, Op::Mul) && s.inputs.contains(&slot) && s.inputs[0] != s.inputs[1]),
            _ => None,
        };
        match product {
            Some(product) => {
                let silu = steps.remove(at);
                // The silu came first, so its removal moved the product up by one.
                let product = &mut steps[product - 1];
                let other =
                    *product.inputs.iter().find(|i| Some(**i) != slot).expect("a product has two different inputs");
                product.op = Op::Gated;
                product.inputs = vec![silu.inputs[0], other];
            }
            None => at += 1,
        }
    }
}

struct Builder<'a> {
    variant: &'a Variant,
    device: &'a Device,
    slot_of: HashMap<ValueId, usize>,
    slots: usize,
    ropes: Vec<Rope>,
    caches: Vec<Arc<CacheSpec>>,
    cache_of: HashMap<NodeId, usize>,
}

impl Builder<'_> {
    fn step(&mut self, node: &Node) -> Result<Step, EngineError> {
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
        let op = self.op(node)?;
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for value in &node.outputs {
            self.slot_of.insert(*value, self.slots);
            outputs.push(self.slots);
            self.slots += 1;
        }
        Ok(Step { name: spec.name.clone(), op, inputs, outputs, release: vec![] })
    }

    fn op(&mut self, node: &Node) -> Result<Op, EngineError> {
        let spec = &node.spec;
        let width = |i: usize| self.variant.graph().value_type(spec.inputs[i]).map_or(0, |t| t.width());
        let integer = |name: &str| spec.integer(name).unwrap_or(0) as usize;
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
                let dtype = spec.text("dtype").and_then(CacheType::parse).ok_or_else(|| {
                    EngineError::Unsupported(format!("node `{}`: this cache dtype does not run here", spec.name))
                })?;
                self.caches.push(Arc::new(CacheSpec {
                    dtype,
                    window: integer("window"),
                    sinks: integer("sinks"),
                    key_width: width(0),
                    value_width: width(1),
                }));
                self.cache_of.insert(node.id, self.caches.len() - 1);
                Op::Cache(self.caches.len() - 1)
            }
            "attention" => {
                let makers: Vec<_> = spec.inputs[1..3].iter().map(|v| self.variant.graph().producer(*v)).collect();
                let cache = makers[0].filter(|m| makers[1] == Some(*m)).and_then(|m| self.cache_of.get(&m)).copied();
                let cache = cache.ok_or_else(|| {
                    EngineError::Unsupported(format!(
                        "node `{}`: keys and values must come from one cache op",
                        spec.name
                    ))
                })?;
                let (kv_heads, head_dim) = (integer("kv-heads"), integer("head-dim"));
                let kept = &self.caches[cache];
                if kept.key_width != kv_heads * head_dim || kept.value_width != kv_heads * head_dim {
                    return Err(EngineError::Unsupported(format!(
                        "node `{}`: its cache keeps widths {} and {}, expected {}",
                        spec.name,
                        kept.key_width,
                        kept.value_width,
                        kv_heads * head_dim
                    )));
                }
                let attention = AttentionSpec {
                    heads: integer("heads"),
                    kv_heads,
                    head_dim,
                    scale: spec.real("scale").unwrap_or(1.0) as f32,
                    window: integer("window"),
                    softcap: spec.real("softcap").filter(|c| *c > 0.0).map(|c| c as f32),
                };
                Op::Attention { spec: attention, cache }
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
            "parameter" => Op::Parameter(self.required(node, "weight")?),
            other => {
                return Err(EngineError::Unsupported(format!("node `{}`: op `{other}` does not run here", spec.name)));
            }
        })
    }

    fn matrix(&self, node: &Node, slot: &str) -> Result<Matrix, EngineError> {
        let name = node.spec.weight(slot).ok_or_else(|| EngineError::NoWeight(format!("{}.{slot}", node.spec.name)))?;
        let weight = self.variant.weight(name)?;
        let stored = self.variant.pool.get(weight, self.variant.checkpoint())?;
        if matches!(self.device, Device::Cpu) {
            return Ok(Matrix::Cpu(stored));
        }
        use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
        let (rows, columns) = stored.shape();
        let blocked = |dtype: GgmlDType| -> Result<Matrix, EngineError> {
            let storage = QStorage::from_data(stored.raw().into(), self.device, dtype)?;
            let tensor = Arc::new(QTensor::new(storage, (rows, columns))?);
            Ok(Matrix::DeviceBlocked(QMatMul::from_arc(tensor.clone())?, tensor))
        };
        use aehost_formats::Encoding::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        match stored.encoding() {
            Q4_0 => blocked(GgmlDType::Q4_0),
            Q4_1 => blocked(GgmlDType::Q4_1),
            Q5_0 => blocked(GgmlDType::Q5_0),
            Q5_1 => blocked(GgmlDType::Q5_1),
            Q8_0 => blocked(GgmlDType::Q8_0),
            Q2K => blocked(GgmlDType::Q2K),
            Q3K => blocked(GgmlDType::Q3K),
            Q4K => blocked(GgmlDType::Q4K),
            Q5K => blocked(GgmlDType::Q5K),
            Q6K => blocked(GgmlDType::Q6K),
            encoding => {
                let dtype = match encoding {
                    F32 => DType::F32,
                    F16 => DType::F16,
                    BF16 => DType::BF16,
                    other => {
                        return Err(EngineError::Unsupported(format!("{} does not run on this device", other.name())));
                    }
                };
                Ok(Matrix::Device(Tensor::from_raw_buffer(stored.raw(), dtype, &[rows, columns], self.device)?))
            }
        }
    }

    fn vector(&self, node: &Node, slot: &str) -> Result<Option<Tensor>, EngineError> {
        let Some(name) = node.spec.weight(slot) else { return Ok(None) };
        let weight = self.variant.weight(name)?;
        let values = weight.floats(self.variant.checkpoint())?;
        Ok(Some(Tensor::from_vec(values, weight.shape.clone(), self.device)?))
    }

    fn required(&self, node: &Node, slot: &str) -> Result<Tensor, EngineError> {
        self.vector(node, slot)?.ok_or_else(|| EngineError::NoWeight(format!("{}.{slot}", node.spec.name)))
    }
}

//! A variant made ready to run: the forward pass over packed sequences. There is no padding: the tokens of all sequences
//! of a step stand one after another, so linear layers see one matrix, and only attention looks at sequences.

use crate::batch::{Batch, Sequence};
use crate::cache::{Cache, CacheSpec};
use crate::cpu::CpuModel;
use crate::decoding::PromptLookup;
use crate::program::Program;
use crate::tensors::TensorModel;
use crate::{EngineError, Variant};
use aehost_graph::{Graph, ValueId, ValueType};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Sees chosen values of a forward pass.
pub(crate) type Observer<'a> = dyn FnMut(ValueId, &Tensor) -> Result<(), EngineError> + 'a;

/// A runnable model.
pub struct Model {
    executor: Executor,
    caches: Vec<Arc<CacheSpec>>,
    threads: rayon::ThreadPool,
    prefill_chunk: usize,
    speculation: Option<PromptLookup>,
    context: Option<usize>,
    /// Token ids are smaller.
    ids: usize,
    vocabulary: usize,
}

/// What runs the model's program.
enum Executor {
    Cpu(Box<CpuModel>),
    Tensors(TensorModel),
}

impl Model {
    /// Prepares the variant's `decode` function; `threads` counts unless the variant's policy says otherwise.
    pub fn new(variant: &Variant, device: &Device, threads: usize) -> Result<Self, EngineError> {
        Self::observing(variant, device, threads, &[])
    }

    /// As [`Model::new`], on candle's tensors whatever the device: what the CPU's own executor is held to.
    pub fn on_tensors(variant: &Variant, device: &Device, threads: usize) -> Result<Self, EngineError> {
        Self::make(variant, device, threads, &[], true)
    }

    /// As [`Model::new`], for a later pass to look at some values instead of making logits.
    pub(crate) fn observing(
        variant: &Variant,
        device: &Device,
        threads: usize,
        wanted: &[ValueId],
    ) -> Result<Self, EngineError> {
        Self::make(variant, device, threads, wanted, false)
    }

    fn make(
        variant: &Variant,
        device: &Device,
        threads: usize,
        wanted: &[ValueId],
        on_tensors: bool,
    ) -> Result<Self, EngineError> {
        let team = variant.policy().threads.unwrap_or(threads).max(1);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(team)
            .thread_name(|i| format!("engine-pool-{i}"))
            .build()
            .map_err(|e| EngineError::Unsupported(format!("the engine's threads cannot be started: {e}")))?;
        let mut variant = variant.clone();
        // Observed values may be unused by the output; they are kept as they are.
        if wanted.is_empty() {
            variant.check()?;
        }
        // Weights are encoded and packed on these threads.
        let program = threads.install(|| Program::new(&variant, device, wanted))?;
        let graph = variant.graph();
        let logits = graph.function("decode").and_then(|f| f.outputs.iter().find(|port| port.name == "logits"));
        let vocabulary = logits.and_then(|port| graph.value_type(port.value)).map(ValueType::width);
        let fact = |name: &str| graph.fact(name).and_then(aehost_common::Value::as_integer).map(|v| v as usize);
        Ok(Self {
            caches: program.caches.clone(),
            ids: known_ids(graph, wanted).or(vocabulary).unwrap_or(0),
            vocabulary: vocabulary.unwrap_or(0),
            executor: match device {
                Device::Cpu if !on_tensors => Executor::Cpu(Box::new(CpuModel::new(program, team)?)),
                device => Executor::Tensors(TensorModel::new(program, device.clone())),
            },
            threads,
            prefill_chunk: variant.policy().prefill_chunk,
            speculation: variant.policy().speculation,
            context: fact("context"),
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

    /// How tokens are drafted while decoding, if they are.
    pub fn speculation(&self) -> Option<PromptLookup> {
        self.speculation
    }

    /// Number of logits a token.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Threads of the engine.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs other work on as many threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    /// One step over packed sequences: logits `[wanted rows, vocabulary]`, float32, in the order of the sequences.
    pub fn forward(&self, sequences: &mut [Sequence<'_>]) -> Result<Tensor, EngineError> {
        self.run(sequences, None)?
            .ok_or_else(|| EngineError::Invalid("this model only shows values to observers".into()))
    }

    /// One step of a model that was made for observing: shows the wanted values as they are computed.
    pub(crate) fn observe(
        &self,
        sequences: &mut [Sequence<'_>],
        observer: &mut Observer<'_>,
    ) -> Result<(), EngineError> {
        self.run(sequences, Some(observer)).map(|_| ())
    }

    fn run(
        &self,
        sequences: &mut [Sequence<'_>],
        observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        let batch = Batch::of(sequences, self.context, self.ids)?;
        let logits = match &self.executor {
            Executor::Cpu(model) => model.run(&batch, sequences, observer)?,
            Executor::Tensors(model) => model.run(&batch, sequences, observer)?,
        };
        for sequence in sequences {
            sequence.cache.seen += sequence.tokens.len();
        }
        Ok(logits)
    }
}

/// Rows of the smallest embedding that ids are looked up in on the way to what is wanted, or to the outputs.
fn known_ids(graph: &Graph, wanted: &[ValueId]) -> Option<usize> {
    let decode = graph.function("decode")?;
    let ids = decode.inputs.iter().find(|port| port.name == "ids")?.value;
    let outputs: Vec<ValueId> = decode.outputs.iter().map(|port| port.value).collect();
    let needed = crate::program::needed(graph, if wanted.is_empty() { &outputs } else { wanted });
    let embeddings = graph.consumers(ids).into_iter().filter(|id| needed.contains(id));
    let weights = embeddings.filter_map(|id| graph.node(id)?.spec.weight("weight"));
    weights.filter_map(|weight| graph.weight_shape(weight)?.first().copied()).min()
}

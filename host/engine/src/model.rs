//! A variant made ready to run: the forward pass over packed sequences. There is no padding: the tokens of all sequences
//! of a step stand one after another, so linear layers see one matrix, and only attention looks at sequences.

use crate::batch::{Batch, Known, Rows, Sequence};
use crate::cache::{Cache, CacheSpec};
use crate::cpu::{CpuModel, Team};
use crate::decoding::Speculation;
use crate::images::{ImageRows, Vision};
use crate::program::Program;
use crate::tensors::TensorModel;
use crate::{EngineError, Variant};
use aehost_graph::{Graph, ValueId, ValueType};
use candle_core::{Device, Tensor};
use std::fmt::Display;
use std::sync::Arc;

/// Sees chosen values of a forward pass.
pub(crate) type Observer<'a> = dyn FnMut(ValueId, &Tensor) -> Result<(), EngineError> + 'a;

/// A runnable model.
pub struct Model {
    executor: Executor,
    caches: Vec<Arc<CacheSpec>>,
    threads: Arc<rayon::ThreadPool>,
    prefill_chunk: usize,
    speculation: Option<Speculation>,
    /// The function `draft`, where that drafts tokens.
    drafter: Option<Box<Model>>,
    context: Option<usize>,
    /// Token ids are smaller, but for those of images.
    ids: usize,
    /// Width of its output.
    vocabulary: usize,
    /// Numbers a token that its function is given.
    given: Option<usize>,
    /// The functions `encode-image` and `project-image`.
    pub(crate) vision: Option<Box<Vision>>,
    pub(crate) images: Arc<ImageRows>,
}

/// Where a model runs.
struct Place<'a> {
    device: &'a Device,
    threads: Arc<rayon::ThreadPool>,
    /// The threads of the CPU's own executor, where that runs it.
    team: Option<Arc<Team>>,
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
        let size = variant.policy().threads.unwrap_or(threads).max(1);
        let cannot = |e: &dyn Display| EngineError::Unsupported(format!("the engine's threads cannot be started: {e}"));
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(size)
            .thread_name(|i| format!("engine-pool-{i}"))
            .build()
            .map_err(|e| cannot(&e))?;
        let mut variant = variant.clone();
        // Observed values may be unused by the output; they are kept as they are.
        if wanted.is_empty() {
            variant.check()?;
        }
        let team = match device {
            Device::Cpu if !on_tensors => Some(Arc::new(Team::new(size).map_err(|e| cannot(&e))?)),
            _ => None,
        };
        let place = Place { device, threads: Arc::new(threads), team };
        let mut model = Self::of(&variant, "decode", &place, wanted)?;
        if let Some(Speculation::DraftModel { .. }) = model.speculation.filter(|_| wanted.is_empty()) {
            let drafter = Self { images: model.images.clone(), ..Self::of(&variant, "draft", &place, &[])? };
            model.drafter = Some(Box::new(drafter));
        }
        if wanted.is_empty() && variant.graph().function("encode-image").is_some() {
            model.vision = Some(Box::new(vision(&variant, &place)?));
        }
        Ok(model)
    }

    fn of(variant: &Variant, function: &str, place: &Place<'_>, wanted: &[ValueId]) -> Result<Self, EngineError> {
        // Weights are encoded and packed on these threads.
        let program = place.threads.install(|| Program::new(variant, function, place.device, wanted))?;
        let graph = variant.graph();
        let outputs = graph.function(function).map(|f| &f.outputs[..]).unwrap_or_default();
        let output = outputs.iter().find(|port| port.name == "logits").or(outputs.first());
        let vocabulary = output.and_then(|port| graph.value_type(port.value)).map(ValueType::width);
        let ids = known_ids(graph, function, wanted).or(vocabulary).unwrap_or(0);
        // A function of another model has its own limit.
        let own = format!("{function}.context");
        let context = graph.fact(&own).or_else(|| graph.fact("context")).and_then(aehost_common::Value::as_integer);
        Ok(Self {
            caches: program.caches.clone(),
            ids,
            images: Arc::new(ImageRows::new(ids)),
            vision: None,
            given: program.given,
            vocabulary: vocabulary.unwrap_or(0),
            executor: match &place.team {
                Some(team) => Executor::Cpu(Box::new(CpuModel::new(program, team.clone())?)),
                None => Executor::Tensors(TensorModel::new(program, place.device.clone())),
            },
            threads: place.threads.clone(),
            prefill_chunk: variant.policy().prefill_chunk,
            speculation: variant.policy().speculation,
            drafter: None,
            context: context.map(|limit| limit as usize),
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
    pub fn speculation(&self) -> Option<Speculation> {
        self.speculation
    }

    /// What drafts tokens, where a function of the model does.
    pub(crate) fn drafter(&self) -> Option<&Model> {
        self.drafter.as_deref()
    }

    /// Token ids are smaller, but for those of images.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// Numbers a token that its function is given.
    pub(crate) fn given(&self) -> Option<usize> {
        self.given
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

    /// Tokens from a position on until a cache settles, which no step may cross.
    pub(crate) fn unsettled(&self, position: usize) -> usize {
        let intervals = self.caches.iter().map(|cache| cache.interval).filter(|interval| *interval > 0);
        intervals.map(|interval| interval - position % interval).min().unwrap_or(usize::MAX)
    }

    /// Whether branches of a sequence give what they would give alone: where what a token sees is settled by positions alone.
    pub(crate) fn branches_alike(&self) -> bool {
        self.caches.iter().all(|cache| cache.interval == 0 && cache.page == 0)
    }

    fn run(
        &self,
        sequences: &mut [Sequence<'_>],
        observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        let crosses = |s: &Sequence<'_>| s.tokens.len() > self.unsettled(s.cache.seen);
        match sequences.iter().any(crosses) {
            true => self.run_in_parts(sequences),
            false => self.run_whole(sequences, observer),
        }
    }

    /// Steps that end where caches settle.
    fn run_in_parts(&self, sequences: &mut [Sequence<'_>]) -> Result<Option<Tensor>, EngineError> {
        let wanted: Vec<Vec<u32>> = sequences.iter().map(|s| s.rows.indices(s.tokens.len())).collect();
        let mut done = vec![0; sequences.len()];
        let mut logits: Vec<Vec<Tensor>> = vec![vec![]; sequences.len()];
        while sequences.iter().zip(&done).any(|(s, done)| *done < s.tokens.len()) {
            let (mut parts, mut members) = (Vec::new(), Vec::new());
            for (index, (sequence, done)) in sequences.iter_mut().zip(&mut done).enumerate() {
                let start = *done;
                *done = sequence.tokens.len().min(start + self.unsettled(sequence.cache.seen));
                if start == *done {
                    continue;
                }
                let rows: Vec<u32> = wanted[index]
                    .iter()
                    .filter(|row| (start..*done).contains(&(**row as usize)))
                    .map(|row| row - start as u32)
                    .collect();
                members.push((index, rows.len()));
                parts.push(Sequence {
                    tokens: &sequence.tokens[start..*done],
                    branches: sequence.branches.map(|(b, p)| (&b[start..*done], &p[start..*done])),
                    cache: &mut *sequence.cache,
                    rows: Rows::These(rows),
                });
            }
            let Some(of_parts) = self.run_whole(&mut parts, None)? else { continue };
            let mut row = 0;
            for (index, rows) in members.into_iter().filter(|(_, rows)| *rows > 0) {
                logits[index].push(of_parts.narrow(0, row, rows)?);
                row += rows;
            }
        }
        let logits: Vec<Tensor> = logits.into_iter().flatten().collect();
        match logits.is_empty() {
            true => Ok(Some(Tensor::zeros((0, self.vocabulary), candle_core::DType::F32, &Device::Cpu)?)),
            false => Ok(Some(Tensor::cat(&logits, 0)?)),
        }
    }

    fn run_whole(
        &self,
        sequences: &mut [Sequence<'_>],
        observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        let batch = Batch::of(sequences, self.context, &Known { ids: self.ids, images: &self.images })?;
        let logits = self.execute(&batch, sequences, observer)?;
        for sequence in sequences {
            sequence.cache.seen += sequence.tokens.len();
        }
        Ok(logits)
    }

    /// One pass through the program.
    pub(crate) fn execute(
        &self,
        batch: &Batch,
        sequences: &mut [Sequence<'_>],
        observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        match &self.executor {
            Executor::Cpu(model) => model.run(batch, sequences, observer),
            Executor::Tensors(model) => model.run(batch, sequences, observer),
        }
    }
}

/// The functions for images.
fn vision(variant: &Variant, place: &Place<'_>) -> Result<Vision, EngineError> {
    let graph = variant.graph();
    let images = |port: &&aehost_graph::Port| port.name == "images";
    let port = graph.function("decode").and_then(|decode| decode.inputs.iter().find(images));
    let hidden = port.and_then(|port| graph.value_type(port.value)).map(ValueType::width).ok_or_else(|| {
        EngineError::Invalid("the model has a function `encode-image`, but `decode` has no input `images`".into())
    })?;
    let fold = graph.fact("image.fold").and_then(aehost_common::Value::as_integer).unwrap_or(1).max(1) as usize;
    let tower = Model::of(variant, "encode-image", place, &[])?;
    let projects = graph.function("project-image").is_some();
    let projector = projects.then(|| Model::of(variant, "project-image", place, &[])).transpose()?;
    Vision::new(tower, projector, fold, hidden)
}

/// Rows of the smallest embedding that ids are looked up in on the way to what is wanted, or to the outputs.
fn known_ids(graph: &Graph, function: &str, wanted: &[ValueId]) -> Option<usize> {
    let function = graph.function(function)?;
    let ids = function.inputs.iter().find(|port| port.name == "ids")?.value;
    let outputs: Vec<ValueId> = function.outputs.iter().map(|port| port.value).collect();
    let needed = crate::program::needed(graph, if wanted.is_empty() { &outputs } else { wanted });
    let embeddings = graph.consumers(ids).into_iter().filter(|id| needed.contains(id));
    let weights = embeddings.filter_map(|id| graph.node(id)?.spec.weight("weight"));
    weights.filter_map(|weight| graph.weight_shape(weight)?.first().copied()).min()
}

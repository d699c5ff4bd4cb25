//! A model after part of a configuration has been applied: a graph, its weights by name, and how to run it. Copies are
//! cheap, so every edit of a technique can be tried on a copy and thrown away.

use crate::cache::CacheSpec;
use crate::weight::{BoundTensor, Pool, Weight};
use crate::{EngineError, FloatType, Policy, Representation};
use aehost_common::Setting;
use aehost_formats::Checkpoint;
use aehost_graph::{Filter, Graph};
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// A graph with lazily bound weights and a policy.
#[derive(Clone)]
pub struct Variant {
    graph: Graph,
    weights: BTreeMap<String, Weight>,
    policy: Policy,
    checkpoint: Arc<Checkpoint>,
    reference: Option<FloatType>,
    pub(crate) pool: Arc<Pool>,
}

/// What a weight is, without its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightInfo {
    /// Its dotted name.
    pub name: String,
    /// Row-major, `[out, in]`.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub representation: Representation,
    /// In memory.
    pub bytes: u64,
}

impl Variant {
    /// An empty graph over a checkpoint, for a family to fill. Matrices bound later are kept as `reference`, or as the
    /// file stores them when it is none.
    pub fn new(checkpoint: Arc<Checkpoint>, reference: Option<FloatType>) -> Self {
        Self {
            graph: Graph::default(),
            weights: BTreeMap::new(),
            policy: Policy::default(),
            checkpoint,
            reference,
            pool: Arc::default(),
        }
    }

    /// Another variant of the same checkpoint, which shares weights in memory with this one.
    pub(crate) fn with(&self, graph: Graph, policy: Policy, weights: BTreeMap<String, Weight>) -> Self {
        Self { graph, policy, weights, ..self.clone() }
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, to be edited.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// The file that the weights come from.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// How the engine runs it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Applies settings of the runtime policy, all or none.
    pub fn set_policy(&mut self, settings: &[Setting]) -> Result<(), EngineError> {
        let mut policy = self.policy.clone();
        for setting in settings {
            policy.set(setting)?;
        }
        self.policy = policy;
        Ok(())
    }

    /// Gives tensors of the checkpoint, transformed and joined (single, concat, stack), a dotted weight name.
    pub fn bind(&mut self, weight: &str, sources: Vec<BoundTensor>, join: &str) -> Result<(), EngineError> {
        let bound = Weight::bind(&self.checkpoint, sources, join, self.reference)
            .map_err(|e| EngineError::Invalid(format!("weight `{weight}`: {e}")))?;
        self.insert(weight, bound);
        Ok(())
    }

    /// Copies a function of another model with the weights that it uses, whose names get the new name before them.
    ///
    /// # Errors
    /// `Graph` where the function is not there, or the name is taken.
    pub fn import_function(&mut self, other: &Variant, function: &str, to: &str) -> Result<(), EngineError> {
        let mut graph = self.graph.clone();
        let renamed = |weight: &str| format!("{to}.{weight}");
        graph.import_function(&other.graph, function, to, renamed)?;
        for (name, weight) in &other.weights {
            if graph.weight_shape(&renamed(name)).is_some() {
                self.weights.insert(renamed(name), weight.clone());
            }
        }
        self.graph = graph;
        Ok(())
    }

    fn insert(&mut self, name: &str, weight: Weight) {
        self.graph.declare_weight(name, &weight.shape);
        self.weights.insert(name.to_owned(), weight);
    }

    pub(crate) fn weight(&self, name: &str) -> Result<&Weight, EngineError> {
        self.weights.get(name).ok_or_else(|| EngineError::NoWeight(name.to_owned()))
    }

    /// What a weight is.
    pub fn describe_weight(&self, name: &str) -> Result<WeightInfo, EngineError> {
        let weight = self.weight(name)?;
        Ok(WeightInfo {
            name: name.into(),
            shape: weight.shape.clone(),
            representation: weight.form,
            bytes: weight.size(),
        })
    }

    /// A weight, or some of its rows, as float32 on the CPU.
    pub fn read_weight(&self, name: &str, rows: Option<Range<usize>>) -> Result<Tensor, EngineError> {
        let weight = self.weight(name)?;
        let length = weight.shape.first().copied().unwrap_or(1);
        let rows = rows.unwrap_or(0..length);
        if rows.start > rows.end || rows.end > length {
            return Err(EngineError::Invalid(format!(
                "rows {} to {} lie outside weight `{name}` of shape {:?}",
                rows.start, rows.end, weight.shape
            )));
        }
        let mut shape = weight.shape.clone();
        let numbers = if shape.len() < 2 {
            // A vector is one row.
            weight.floats()?[rows.clone()].to_vec()
        } else {
            // Rows of a stack are matrices.
            let each = shape[1..shape.len() - 1].iter().product::<usize>();
            weight.rows(rows.start * each..rows.end * each)?
        };
        shape.iter_mut().take(1).for_each(|first| *first = rows.len());
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }

    /// Replaces a weight's numbers, or makes a new weight.
    pub fn put_weight(&mut self, name: &str, value: &Tensor, ty: FloatType) -> Result<(), EngineError> {
        let weight = Weight::values(value, ty).map_err(|e| match e {
            EngineError::Diverged(why) => EngineError::Diverged(format!("weight `{name}`: {why}")),
            other => other,
        })?;
        self.insert(name, weight);
        Ok(())
    }

    /// A second weight with the same content.
    pub fn copy_weight(&mut self, name: &str, to: &str) -> Result<(), EngineError> {
        if self.weights.contains_key(to) {
            return Err(EngineError::Invalid(format!("weight `{to}` exists already")));
        }
        let weight = self.weight(name)?.clone();
        self.insert(to, weight);
        Ok(())
    }

    /// Stores a weight in another representation; `importance` weighs the error of each input column.
    pub fn encode_weight(
        &mut self,
        name: &str,
        to: Representation,
        importance: Option<Vec<f32>>,
    ) -> Result<(), EngineError> {
        let weight = self.weight(name)?;
        let recoded = weight.recoded(to, importance).map_err(|e| match e {
            EngineError::Unsupported(why) => EngineError::Unsupported(format!("weight `{name}`: {why}")),
            other => EngineError::Invalid(format!("weight `{name}`: {other}")),
        })?;
        self.insert(name, recoded);
        Ok(())
    }

    /// Takes what a plugin encoded itself: `values` (dense, of its dtype); `blocks` (blocked, uint8); `codes` (affine and
    /// codebook, uint8), `scales` (any float) and `minima` (like scales; affine that is not symmetric); or `values` and
    /// `positions` (sparse; uint8).
    pub fn store_weight(
        &mut self,
        name: &str,
        shape: &[usize],
        form: Representation,
        parts: &[(String, Tensor)],
    ) -> Result<(), EngineError> {
        let stored = Weight::parts(parts, shape.to_vec(), form)
            .map_err(|e| EngineError::Invalid(format!("weight `{name}`: {e}")))?;
        self.insert(name, stored);
        Ok(())
    }

    /// Checks shapes, drops what no output needs, and forgets weights that nothing uses.
    pub fn check(&mut self) -> Result<(), EngineError> {
        let mut graph = self.graph.clone();
        graph.check()?;
        self.weights.retain(|name, _| graph.weight_shape(name).is_some());
        self.graph = graph;
        Ok(())
    }

    /// Bytes of all weights in use.
    pub fn weight_bytes(&self) -> u64 {
        self.graph.used_weights().iter().filter_map(|name| self.weights.get(*name)).map(Weight::size).sum()
    }

    /// Adds what its weights' numbers take while no model runs, by address: variants share them.
    pub fn held(&self, bytes: &mut HashMap<usize, usize>) {
        self.weights.values().for_each(|weight| weight.held(bytes));
    }

    /// Whether all files that its weights are read from are still there.
    pub fn at_hand(&self) -> bool {
        self.weights.values().all(Weight::at_hand)
    }

    /// Bytes of the caches of `sequences` sequences of `tokens` tokens each, at their largest.
    pub fn cache_bytes(&self, sequences: u64, tokens: u64) -> u64 {
        let caches = self.graph.filtered(&Filter { op: Some("cache".into()), ..Filter::default() });
        let specs = caches.iter().filter_map(|node| CacheSpec::of(&self.graph, node).ok());
        let per_sequence: u64 = specs.map(|spec| spec.bytes(tokens as usize, self.policy.prefill_chunk)).sum();
        per_sequence * sequences
    }

    /// Equal for variants that compute the same: graph, weights and policy.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&self.graph).expect("a graph has a JSON form"));
        for (name, weight) in &self.weights {
            hash.update(name);
            hash.update(&weight.key);
        }
        hash.update(format!("{:?}", self.policy));
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

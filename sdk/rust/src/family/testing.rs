//! A checkpoint from a list and a graph that only records, so that families unit-test natively.

use super::{Error, Fact, Source, Spec, Target, Value, ValueId};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A checkpoint made of metadata and tensor shapes.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// `gguf` or `safetensors`.
    pub format: String,
    /// Metadata by key.
    pub facts: BTreeMap<String, Value>,
    /// Names and row-major shapes.
    pub tensors: Vec<(String, Vec<u32>)>,
}

impl Checkpoint {
    /// An empty checkpoint of a format.
    pub fn new(format: &str) -> Self {
        Self { format: format.into(), ..Self::default() }
    }

    /// Adds or replaces one key of the metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.into(), value.into());
        self
    }

    /// Removes one key of the metadata.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.facts.remove(key);
        self
    }

    /// Adds a tensor.
    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[u32]) -> Self {
        self.tensors.push((name.into(), shape.to_vec()));
        self
    }
}

impl super::Checkpoint for Checkpoint {
    fn format(&self) -> String {
        self.format.clone()
    }
    fn fact(&self, name: &str) -> Option<Value> {
        self.facts.get(name).cloned()
    }
    fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        self.tensors.clone()
    }
}

/// Records what a family builds.
#[derive(Debug, Default)]
pub struct Recorder(RefCell<Recorded>);

/// What was built.
#[derive(Debug, Default, Clone)]
pub struct Recorded {
    /// Nodes in order, each with its outputs.
    pub nodes: Vec<(Spec, Vec<ValueId>)>,
    /// Facts by name.
    pub facts: BTreeMap<String, Value>,
    /// The first tensor bound to each weight.
    pub weights: BTreeMap<String, String>,
    /// Function outputs by name.
    pub outputs: BTreeMap<String, ValueId>,
    next: ValueId,
}

impl Recorder {
    /// What was built so far.
    pub fn recorded(&self) -> Recorded {
        self.0.borrow().clone()
    }
}

impl Recorded {
    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Spec> {
        self.nodes.iter().map(|(spec, _)| spec).find(|spec| spec.name == name)
    }

    /// An attribute of a node.
    pub fn attribute(&self, node: &str, name: &str) -> Option<Value> {
        self.node(node)?.attributes.iter().find(|a| a.name == name).map(|a| a.value.clone())
    }

    fn take(&mut self, count: u32) -> Vec<ValueId> {
        let first = self.next;
        self.next += count;
        (first..self.next).collect()
    }
}

impl Target for Recorder {
    fn add_function(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    fn add_input(&self, _: &str, _: &str, _: &str, _: &[String]) -> Result<ValueId, Error> {
        Ok(self.0.borrow_mut().take(1)[0])
    }
    fn insert(&self, spec: &Spec) -> Result<Vec<ValueId>, Error> {
        let mut recorded = self.0.borrow_mut();
        if recorded.node(&spec.name).is_some() {
            return Err(Error::invalid(format!("node `{}` is there already", spec.name)));
        }
        if let Some(input) = spec.inputs.iter().find(|input| **input >= recorded.next) {
            return Err(Error::invalid(format!("node `{}` uses value {input}, which nothing makes", spec.name)));
        }
        let outputs = recorded.take(if spec.op == "cache" { 3 } else { 1 });
        recorded.nodes.push((spec.clone(), outputs.clone()));
        Ok(outputs)
    }
    fn set_output(&self, _: &str, name: &str, value: ValueId) -> Result<(), Error> {
        self.0.borrow_mut().outputs.insert(name.into(), value);
        Ok(())
    }
    fn set_fact(&self, fact: &Fact) -> Result<(), Error> {
        self.0.borrow_mut().facts.insert(fact.name.clone(), fact.value.clone());
        Ok(())
    }
    fn bind(&self, weight: &str, sources: &[Source], _: &str) -> Result<(), Error> {
        self.0.borrow_mut().weights.insert(weight.into(), sources[0].tensor.clone());
        Ok(())
    }
}

//! The interface `checkpoint`.

use super::graph::Editor;
use crate::bindings::shared::checkpoint as wit;
use crate::bindings::shared::checkpoint::{Host, HostCheckpoint};
use crate::bindings::shared::common::{Fact, Value};
use crate::convert;
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use aehost_engine::BoundTensor;
use std::sync::Arc;
use wasmtime::component::Resource;

/// A checkpoint that a family reads.
pub struct Checkpoint(pub Arc<aehost_formats::Checkpoint>);

impl Host for HostCall<'_> {
    fn bind(&mut self, model: Resource<Editor>, weight: String, sources: Vec<wit::Source>, join: String) -> Answer<()> {
        let source = |s: wit::Source| Ok(BoundTensor { tensor: s.tensor, steps: convert::settings_in(s.steps)?.0 });
        let sources = sources.into_iter().map(source).collect::<Result<Vec<_>, Fault>>()?;
        Ok(self.editor(&model)?.bind(&weight, sources, &join)?)
    }
}

impl HostCheckpoint for HostCall<'_> {
    fn format(&mut self, this: Resource<Checkpoint>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.0.format().as_str().to_owned())
    }

    fn facts(&mut self, this: Resource<Checkpoint>) -> wasmtime::Result<Vec<Fact>> {
        Ok(self.table.get(&this)?.0.facts().iter().map(convert::fact_out).collect())
    }

    fn fact(&mut self, this: Resource<Checkpoint>, name: String) -> wasmtime::Result<Option<Value>> {
        Ok(self.table.get(&this)?.0.fact(&name).map(convert::value_out))
    }

    fn tensors(&mut self, this: Resource<Checkpoint>) -> wasmtime::Result<Vec<(String, Vec<u32>)>> {
        let tensors = self.table.get(&this)?.0.tensors();
        Ok(tensors.iter().map(|t| (t.name.clone(), t.shape.iter().map(|d| *d as u32).collect())).collect())
    }

    fn drop(&mut self, this: Resource<Checkpoint>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

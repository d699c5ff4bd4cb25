//! The interface `dataset`.

use crate::bindings::shared::dataset::{Host, HostDataset};
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use std::sync::Arc;
use wasmtime::component::Resource;

/// A data set that an evaluator reads.
pub struct Dataset(pub Arc<aehost_formats::Dataset>);

impl Host for HostCall<'_> {}

impl HostDataset for HostCall<'_> {
    fn name(&mut self, this: Resource<Dataset>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.0.name().to_owned())
    }

    fn length(&mut self, this: Resource<Dataset>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.table.get(&this)?.0.len()).unwrap_or(u32::MAX))
    }

    fn rows(&mut self, this: Resource<Dataset>, indices: Vec<u32>) -> Answer<Vec<String>> {
        let data = &self.table.get(&this)?.0;
        let row = |index: u32| {
            if (index as usize) < data.len() {
                return Ok(data.row(index as usize).to_owned());
            }
            Err(Fault::invalid(format!("data set `{}` has {} rows, and no row {index}", data.name(), data.len())))
        };
        Ok(indices.into_iter().map(row).collect::<Result<_, Fault>>()?)
    }

    fn drop(&mut self, this: Resource<Dataset>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

//! The interface `runtime-policy`.

use super::graph::Editor;
use crate::bindings::shared::{common::Setting, runtime_policy};
use crate::convert;
use crate::state::{Answer, HostCall};
use wasmtime::component::Resource;

impl runtime_policy::Host for HostCall<'_> {
    fn set(&mut self, model: Resource<Editor>, policy: Vec<Setting>) -> Answer<()> {
        let policy = convert::settings_in(policy)?;
        Ok(self.editor(&model)?.set_policy(&policy.0)?)
    }
}

//! Families, adapted: which architectures they build, and the graph they make of a checkpoint.

use crate::bindings::family::{FamilyPlugin, FamilyPluginPre};
use crate::convert;
use crate::host::checkpoint::Checkpoint;
use crate::host::graph::Editor;
use crate::plugin::{Name, Plugin};
use crate::state::{Services, State};
use aehost_common::{FamilyDescription, Fault};
use aehost_engine::Variant;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::Resource;

/// A loaded family; cheap to clone.
#[derive(Clone)]
pub struct Family(Arc<Inner>);

struct Inner {
    plugin: Plugin,
    description: FamilyDescription,
}

fn start(plugin: &Plugin, function: &str) -> Result<(Store<State>, FamilyPlugin), Fault> {
    plugin.start(Services::default(), function, |code, store| FamilyPluginPre::new(code)?.instantiate(store))
}

/// Its own words.
fn told(plugin: &Plugin) -> Result<crate::bindings::family::exports::aehost::plugin::family::Description, Fault> {
    let (mut store, guest) = start(plugin, "describe")?;
    plugin.call(&mut store, "describe", |store| guest.aehost_plugin_family().call_describe(store))
}

impl Family {
    pub(crate) fn new(plugin: Plugin, description: FamilyDescription) -> Self {
        Self(Arc::new(Inner { plugin, description }))
    }

    /// Who it is.
    pub fn name(&self) -> &Name {
        &self.0.plugin.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &FamilyDescription {
        &self.0.description
    }

    /// Asks a plugin what it says of itself.
    pub(crate) fn ask(plugin: &Plugin) -> Result<FamilyDescription, Fault> {
        let told = told(plugin)?;
        Ok(FamilyDescription {
            identity: convert::identity_in(told.identity).map_err(|f| plugin.broken("describe", f.full()))?,
            architectures: told.architectures.into_iter().map(convert::text).collect(),
        })
    }

    /// Its very words, asked anew for the conformance check.
    pub(crate) fn describe_again(&self) -> Result<String, Fault> {
        Ok(format!("{:?}", told(&self.0.plugin)?))
    }

    /// Builds the graph of a checkpoint in an empty variant of it, which changes only on success.
    ///
    /// # Errors
    /// What the plugin finds wrong with the checkpoint; internal where the plugin fails or leaves an invalid graph.
    pub fn build(&self, checkpoint: &Arc<aehost_formats::Checkpoint>, variant: &mut Variant) -> Result<(), Fault> {
        let plugin = &self.0.plugin;
        let (mut store, guest) = start(plugin, "build")?;
        let (source, editor) = plugin.call(&mut store, "build", |store| {
            let source = store.data_mut().hand_out(Checkpoint(checkpoint.clone()))?;
            Ok((source, store.data_mut().hand_out(Editor(variant.clone()))?))
        })?;
        let lent = Resource::new_borrow(editor.rep());
        let done =
            plugin.call(&mut store, "build", |store| guest.aehost_plugin_family().call_build(store, source, lent))?;
        done.map_err(|e| plugin.own(e))?;
        let Editor(mut built) =
            plugin.call(&mut store, "build", |store| Ok(store.data_mut().table.delete(editor)?))?;
        built.check().map_err(|e| plugin.broken("build", format_args!("the model it leaves is not valid: {e}")))?;
        *variant = built;
        Ok(())
    }
}

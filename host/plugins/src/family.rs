//! Families, adapted: which architectures they build, and the graph they make of a checkpoint.

use crate::bindings::family::{FamilyPlugin, FamilyPluginPre};
use crate::convert;
use crate::host::checkpoint::Checkpoint;
use crate::host::graph::{Editor, Model};
use crate::plugin::{Name, Plugin};
use crate::state::{Services, State};
use aehost_common::{FamilyDescription, Fault};
use aehost_engine::{ImageLayout, ImageStep, Variant};
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

    /// What an image of this width and height is to the model.
    ///
    /// # Errors
    /// not-applicable where the family takes no images; what it does not take about this one; internal where the plugin fails.
    pub fn layout(&self, variant: &Variant, width: u32, height: u32) -> Result<ImageLayout, Fault> {
        let plugin = &self.0.plugin;
        let (mut store, guest) = start(plugin, "lay-out")?;
        let model = plugin.call(&mut store, "lay-out", |store| store.data_mut().hand_out(Model(variant.clone())))?;
        let answer = plugin.call(&mut store, "lay-out", |store| {
            guest.aehost_plugin_family().call_lay_out(store, model, width, height)
        })?;
        let layout = answer.map_err(|e| plugin.own(e))?;
        let views = layout.views.into_iter().map(|view| {
            let steps = convert::settings_in(view.steps)?;
            steps.iter().map(step).collect::<Result<Vec<_>, Fault>>()
        });
        let views = views.collect::<Result<Vec<_>, Fault>>().map_err(|f| plugin.broken("lay-out", f.full()))?;
        Ok(ImageLayout { views, text: convert::text(layout.text) })
    }
}

/// A step on an image, as the contract says it.
fn step(setting: &aehost_common::Setting) -> Result<ImageStep, Fault> {
    let numbers = setting.value.as_integers().unwrap_or_default();
    let numbers: Option<Vec<u32>> = numbers.iter().map(|n| u32::try_from(*n).ok()).collect();
    match (setting.name.as_str(), numbers.as_deref()) {
        ("resize", Some(&[width, height])) => Ok(ImageStep::Resize { width, height }),
        ("crop", Some(&[x, y, width, height])) => Ok(ImageStep::Crop { x, y, width, height }),
        _ => Err(Fault::invalid(format!(
            "the step `{}` = {} is not resize (width, height) or crop (x, y, width, height)",
            setting.name, setting.value
        ))),
    }
}

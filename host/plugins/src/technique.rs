//! Techniques, adapted: what they say of themselves, what may be chosen on a model, and their effect on a variant.

use crate::bindings::technique::{TechniquePlugin, TechniquePluginPre};
use crate::convert;
use crate::host::graph::{Editor, Model};
use crate::plugin::{Name, Plugin};
use crate::state::{Services, State};
use aehost_common::{Fault, Parameter, Settings, TechniqueDescription};
use aehost_engine::{Calibration, Device, Trainer, Variant};
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::Store;

/// Models beside the one that is edited, with the same vocabulary, by name.
pub type Companions = BTreeMap<String, Variant>;

/// The share of the calibration tokens and of the training steps asked for that a technique gets, in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fidelity(pub f64);

impl Default for Fidelity {
    fn default() -> Self {
        Self(1.0)
    }
}

/// What techniques work with besides the model.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Where the model will run; the CPU when none.
    pub device: Option<Device>,
    /// Text to collect statistics on.
    pub calibration: Option<Arc<Calibration>>,
    /// What trains.
    pub trainer: Option<Arc<Trainer>>,
    /// Of the trial.
    pub fidelity: Fidelity,
    /// Models that functions may be taken from.
    pub companions: Arc<Companions>,
    /// About model, hardware and scenario.
    pub facts: Settings,
}

/// A loaded technique; cheap to clone.
#[derive(Clone)]
pub struct Technique(Arc<Inner>);

struct Inner {
    plugin: Plugin,
    description: TechniqueDescription,
}

fn start(plugin: &Plugin, function: &str, services: Services) -> Result<(Store<State>, TechniquePlugin), Fault> {
    plugin.start(services, function, |code, store| TechniquePluginPre::new(code)?.instantiate(store))
}

/// Its own words.
fn told(plugin: &Plugin) -> Result<crate::bindings::technique::exports::aehost::plugin::technique::Description, Fault> {
    let (mut store, guest) = start(plugin, "describe", Services::default())?;
    plugin.call(&mut store, "describe", |store| guest.aehost_plugin_technique().call_describe(store))
}

impl Technique {
    pub(crate) fn new(plugin: Plugin, description: TechniqueDescription) -> Self {
        Self(Arc::new(Inner { plugin, description }))
    }

    /// Who it is.
    pub fn name(&self) -> &Name {
        &self.0.plugin.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &TechniqueDescription {
        &self.0.description
    }

    /// Asks a plugin what it says of itself.
    pub(crate) fn ask(plugin: &Plugin) -> Result<TechniqueDescription, Fault> {
        let told = told(plugin)?;
        let broken = |fault: Fault| plugin.broken("describe", fault.full());
        Ok(TechniqueDescription {
            stage: convert::stage_in(told.stage),
            order: told.order,
            after: told.after,
            conflicts: told.conflicts,
            provides: told.provides,
            requires: told.requires,
            more: convert::settings_in(told.more).map_err(broken)?,
            identity: convert::identity_in(told.identity).map_err(broken)?,
        })
    }

    /// Its very words, asked anew for the conformance check.
    pub(crate) fn describe_again(&self) -> Result<String, Fault> {
        Ok(format!("{:?}", told(&self.0.plugin)?))
    }

    /// What may be chosen on this model and hardware.
    ///
    /// # Errors
    /// not-applicable where the technique has no use; internal where the plugin fails or breaks its contract.
    pub fn parameters(&self, variant: &Variant, facts: &Settings) -> Result<Vec<Parameter>, Fault> {
        let plugin = &self.0.plugin;
        let (mut store, guest) = start(plugin, "parameters", Services::default())?;
        let facts = convert::facts_out(facts);
        let told = plugin.call(&mut store, "parameters", |store| {
            let model = store.data_mut().hand_out(Model(variant.clone()))?;
            guest.aehost_plugin_technique().call_parameters(store, model, &facts)
        })?;
        let told = told.map_err(|e| plugin.own(e))?;
        convert::parameters_in(told).map_err(|f| plugin.broken("parameters", f.full()))
    }

    /// Applies it with all of its active settings. The variant changes only on success.
    ///
    /// # Errors
    /// not-applicable after what earlier techniques did; what the plugin met (out-of-memory, diverged, ...); internal
    /// where the plugin fails.
    pub fn apply(&self, variant: &mut Variant, surroundings: &Surroundings, settings: &Settings) -> Result<(), Fault> {
        let plugin = &self.0.plugin;
        let Surroundings { device, calibration, trainer, fidelity, companions, facts } = surroundings.clone();
        let services = Services { device, calibration, trainer, fidelity, companions, ..Services::default() };
        let (mut store, guest) = start(plugin, "apply", services)?;
        let (facts, settings) = (convert::facts_out(&facts), convert::settings_out(settings));
        let editor = plugin.call(&mut store, "apply", |store| store.data_mut().hand_out(Editor(variant.clone())))?;
        let lent = wasmtime::component::Resource::new_borrow(editor.rep());
        let done = plugin.call(&mut store, "apply", |store| {
            guest.aehost_plugin_technique().call_apply(store, lent, &facts, &settings)
        })?;
        done.map_err(|e| plugin.own(e))?;
        let Editor(mut edited) =
            plugin.call(&mut store, "apply", |store| Ok(store.data_mut().table.delete(editor)?))?;
        edited.check().map_err(|e| plugin.broken("apply", format_args!("the model it leaves is not valid: {e}")))?;
        *variant = edited;
        Ok(())
    }
}

//! What the host keeps for one instance of a plugin: the handles it holds, the limits it runs under, what it logs, and
//! the services that this kind of call offers. Host functions are methods of [`HostCall`], which stops the plugin's clock
//! for as long as it lives.

use crate::bindings::shared::common;
use crate::convert;
use crate::host::feasibility::Feasibility;
use crate::host::log::LogBook;
use crate::limits::{Clock, Limits, Memory, Stopped, bytes};
use crate::plugin::{Name, Observer};
use crate::technique::{Companions, Fidelity};
use aehost_common::{Code, Fault};
use aehost_engine::{Calibration, Device, EngineError, Trainer};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};

/// How a host function ends when it does not succeed.
pub enum Failure {
    /// The plugin is told.
    Fault(Fault),
    /// The plugin is stopped.
    Trap(wasmtime::Error),
}

/// What host functions return.
pub(crate) type Answer<T> = Result<T, Failure>;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Fault(fault)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Fault(error.into())
    }
}

impl From<aehost_graph::EditError> for Failure {
    fn from(error: aehost_graph::EditError) -> Self {
        Failure::Fault(Fault::invalid(error.to_string()))
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Failure::Trap(error.into())
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Failure::Trap(error)
    }
}

/// What a call offers beyond the handles that it is given.
#[derive(Clone, Default)]
pub(crate) struct Services {
    /// Where tensors live; the CPU unless given.
    pub device: Option<Device>,
    /// Calibration text, for techniques.
    pub calibration: Option<Arc<Calibration>>,
    /// What trains, for techniques.
    pub trainer: Option<Arc<Trainer>>,
    /// What techniques get of calibration tokens and training steps.
    pub fidelity: Fidelity,
    /// Models that techniques may take functions from.
    pub companions: Arc<Companions>,
    /// Whether a configuration is allowed, for strategies.
    pub feasibility: Option<Arc<Feasibility>>,
}

/// The data of a store.
pub(crate) struct State {
    pub table: ResourceTable,
    /// Bytes of the tensors in the table.
    pub tensor_bytes: u64,
    pub limits: Limits,
    pub memory: Memory,
    pub clock: Clock,
    pub log: LogBook,
    pub device: Device,
    pub services: Services,
    pub wasi: Option<crate::wasi::Wasi>,
}

impl State {
    pub fn new(name: Arc<Name>, limits: Limits, observer: Observer, services: Services) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            table,
            tensor_bytes: 0,
            memory: Memory::new(limits.memory_bytes),
            clock: Clock::default(),
            log: LogBook::new(name, observer),
            device: services.device.clone().unwrap_or(Device::Cpu),
            services,
            limits,
            wasi: None,
        }
    }

    /// Gives the plugin a handle.
    pub fn hand_out<T: Send + 'static>(&mut self, value: T) -> wasmtime::Result<Resource<T>> {
        self.table.push(value).map_err(|error| match error {
            ResourceTableError::Full => Stopped::Handles { limit: self.limits.handles }.into(),
            other => wasmtime::Error::from(other),
        })
    }

    /// Accounts for a new tensor before it is handed out.
    pub fn reserve(&mut self, size: u64) -> Answer<()> {
        let total = self.tensor_bytes.saturating_add(size);
        if total > self.limits.tensor_bytes {
            return Err(Failure::Fault(Fault::new(
                Code::OutOfMemory,
                format!(
                    "the plugin holds tensors of {} and asks for {} more; its limit is {}",
                    bytes(self.tensor_bytes),
                    bytes(size),
                    bytes(self.limits.tensor_bytes)
                ),
            )));
        }
        self.tensor_bytes = total;
        Ok(())
    }
}

/// A host function at work.
pub(crate) struct HostCall<'a>(&'a mut State);

impl<'a> HostCall<'a> {
    pub fn enter(state: &'a mut State) -> Self {
        state.clock.pause();
        Self(state)
    }
}

impl Drop for HostCall<'_> {
    fn drop(&mut self) {
        self.0.clock.resume();
    }
}

impl Deref for HostCall<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        self.0
    }
}

impl DerefMut for HostCall<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.0
    }
}

/// Tells the linker that host functions see the state through [`HostCall`].
pub(crate) struct ThroughHostCall;

impl HasData for ThroughHostCall {
    type Data<'a> = HostCall<'a>;
}

impl common::Host for HostCall<'_> {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<common::Error> {
        match failure {
            Failure::Fault(fault) => Ok(convert::fault_out(fault)),
            Failure::Trap(error) => Err(error),
        }
    }
}

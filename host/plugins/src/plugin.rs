//! One loaded plugin: who it is, its compiled code, and how it is called. Every call gets a clock, a log book and an
//! interruptible guest; whatever ends a call early becomes a fault that names plugin, version and function.

use crate::bindings::imports::Imports;
use crate::cache::Cache;
use crate::convert;
use crate::install::digest;
use crate::limits::{Limits, Stopped, Ticker, bytes};
use crate::state::{HostCall, Services, State, ThroughHostCall};
use crate::{PluginError, wasi};
use aehost_common::{Fault, Identity, Metric, Parameter, PluginKind, Stage};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, Trap, UpdateDeadline, bail};

/// Who speaks: `technique `depth-pruning` 0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Name {
    /// What it is.
    pub kind: PluginKind,
    /// Its id; the file's name until it has said who it is.
    pub id: String,
    /// Its version; empty until it has said who it is.
    pub version: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let space = if self.version.is_empty() { "" } else { " " };
        write!(f, "{} `{}`{space}{}", self.kind, self.id, self.version)
    }
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// For the user who wants to know more.
    Info,
    /// For every user.
    Warn,
}

/// What a plugin says while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A message; without control characters.
    Log {
        /// How much it matters.
        level: Level,
        /// The text.
        message: String,
    },
    /// How far it is.
    Progress {
        /// In [0, 1].
        done: f64,
        /// What it is doing.
        what: String,
    },
}

/// Hears what plugins say.
pub type Observer = Arc<dyn Fn(&Name, Event) + Send + Sync>;

/// What `aehost plugins list` and `inspect` show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginInfo {
    /// Its id, unique among plugins of its kind.
    pub id: String,
    /// What it is.
    pub kind: PluginKind,
    /// Its version.
    pub version: String,
    /// When it applies, for a technique.
    pub stage: Option<Stage>,
    /// Interfaces that it imports.
    pub permissions: Vec<String>,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The component.
    pub path: PathBuf,
    /// One sentence.
    pub summary: String,
    /// The paper or specification that it follows.
    pub reference: String,
    /// What its user may set; a technique's depend on the model, and are not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<Parameter>>,
    /// What an evaluator measures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// What a family builds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
}

/// wasmtime, configured once for a catalog.
pub(crate) struct Runtime {
    pub engine: Engine,
    pub linker: Linker<State>,
    ticker: Ticker,
}

impl Runtime {
    pub fn start() -> Result<Self, PluginError> {
        let begin = || -> wasmtime::Result<Self> {
            let mut config = Config::new();
            config.epoch_interruption(true);
            // Replaying a strategy must give the same bits.
            config.cranelift_nan_canonicalization(true);
            let engine = Engine::new(&config)?;
            let mut linker = Linker::new(&engine);
            Imports::add_to_linker::<State, ThroughHostCall>(&mut linker, |state| HostCall::enter(state))?;
            wasi::link(&mut linker)?;
            let ticker = Ticker::start(&engine)?;
            Ok(Self { engine, linker, ticker })
        };
        begin().map_err(|e: wasmtime::Error| PluginError::Runtime(format!("{e:#}")))
    }
}

/// Where a component's code comes from, and the code itself once something was called: most commands call few of the plugins
/// that there are.
pub(crate) struct Code {
    pub runtime: Arc<Runtime>,
    pub cache: Option<Arc<Cache>>,
    pub path: PathBuf,
    pub digest: String,
    pub ready: OnceLock<InstancePre<State>>,
}

impl Code {
    /// Reads or compiles it, the first time.
    pub fn get(&self) -> wasmtime::Result<InstancePre<State>> {
        if let Some(code) = self.ready.get() {
            return Ok(code.clone());
        }
        let engine = &self.runtime.engine;
        let component = match self.cache.as_ref().and_then(|cache| cache.component(engine, &self.digest)) {
            Some(component) => component,
            None => {
                let bytes = std::fs::read(&self.path)?;
                if digest(&bytes) != self.digest {
                    bail!("{} is not the file any more that it was", self.path.display());
                }
                let component = Component::from_binary(engine, &bytes)?;
                if let Some(cache) = &self.cache {
                    cache.keep_component(&component, &self.digest);
                }
                component
            }
        };
        let code = self.runtime.linker.instantiate_pre(&component)?;
        Ok(self.ready.get_or_init(|| code).clone())
    }
}

/// A component that can be instantiated.
#[derive(Clone)]
pub(crate) struct Plugin {
    pub name: Arc<Name>,
    pub code: Arc<Code>,
    pub limits: Limits,
    pub observer: Observer,
}

impl Plugin {
    /// The same plugin, once it has said who it is.
    pub fn named(&self, identity: &Identity) -> Self {
        let name = Name { kind: self.name.kind, id: identity.id.clone(), version: identity.version.clone() };
        Self { name: Arc::new(name), ..self.clone() }
    }

    /// An instance in a store of its own, for `function` to be called.
    pub fn start<G>(
        &self,
        services: Services,
        function: &str,
        instantiate: impl FnOnce(InstancePre<State>, &mut Store<State>) -> wasmtime::Result<G>,
    ) -> Result<(Store<State>, G), Fault> {
        let code = self.code.get().map_err(|error| self.fault(format_args!("cannot be loaded: {error:#}")))?;
        let mut store = self.store(services);
        let guest = self.call(&mut store, function, |store| instantiate(code, store))?;
        Ok((store, guest))
    }

    /// A store of its own for one call, or for the life of a strategy.
    fn store(&self, services: Services) -> Store<State> {
        let state = State::new(self.name.clone(), self.limits, self.observer.clone(), services);
        let mut store = Store::new(&self.code.runtime.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.host_call_bytes);
        store.epoch_deadline_callback(|store| {
            store.data().clock.check()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }

    /// Runs the guest's `function`. After a fault the store must not be used again.
    pub fn call<R>(
        &self,
        store: &mut Store<State>,
        function: &str,
        body: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let ticking = self.code.runtime.ticker.enter();
        let state = store.data_mut();
        state.log.start();
        state.memory.refused = false;
        state.clock.start(self.limits.time(function), self.limits.call_time);
        store.set_epoch_deadline(1);
        let result = body(store);
        store.data_mut().clock.pause();
        drop(ticking);
        result.map_err(|error| self.explain(store.data(), function, &error))
    }

    /// A fault that begins with the plugin's name.
    pub fn fault(&self, told: impl std::fmt::Display) -> Fault {
        Fault::internal(format!("{} {told}", self.name))
    }

    /// A plugin's own error: its words stay, its name comes first.
    pub fn own(&self, error: crate::bindings::shared::common::Error) -> Fault {
        let mut fault = convert::fault_in(error);
        fault.message = format!("{}: {}", self.name, fault.message);
        fault
    }

    /// What came from the plugin and does not hold: `function` answered, but with something that breaks its contract.
    pub fn broken(&self, function: &str, why: impl std::fmt::Display) -> Fault {
        self.fault(format_args!("broke its contract in {function}: {why}"))
    }

    fn explain(&self, state: &State, function: &str, error: &wasmtime::Error) -> Fault {
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            return self.fault(stopped.tell(function));
        }
        if state.memory.refused {
            let limit = bytes(self.limits.memory_bytes as u64);
            return self.fault(format_args!("needed more than {limit} of memory in {function}"));
        }
        if let Some(words) = &state.log.last_words {
            return self.fault(format_args!("trapped in {function}: {words}"));
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => self.fault(format_args!("trapped in {function}: {trap}")),
            None => self.fault(format_args!("failed in {function}: {}", convert::text(error.root_cause().to_string()))),
        }
    }
}

//! The wasmtime embedding: loads plugins, runs them under limits, and adapts them to what the study and the engine
//! expect. No type of wasmtime leaves this crate, and no other crate reads `wit/`.

mod binary;
mod bindings;
mod cache;
mod catalog;
mod conformance;
mod convert;
mod error;
mod evaluator;
mod family;
mod host;
mod install;
mod limits;
mod plugin;
mod state;
mod strategy;
mod technique;
mod wasi;

pub use catalog::{Catalog, Options};
pub use conformance::{Check, Conformance, conformance, strategy_promises};
pub use error::PluginError;
pub use evaluator::{Baseline, Evaluator, EvaluatorMeasurement};
pub use family::Family;
pub use host::feasibility::Feasibility;
pub use install::{LOCK, Lock, Locked, cache_folder, install, installed_folder, remove};
pub use limits::Limits;
pub use plugin::{Event, Level, Name, Observer, PluginInfo};
pub use strategy::LoadedStrategy;
pub use technique::{Companions, Fidelity, Surroundings, Technique};

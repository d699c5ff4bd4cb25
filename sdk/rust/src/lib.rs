//! Write plugins for aehost: techniques, evaluators, strategies and model families.
//!
//! A plugin is a type that implements one of [`Technique`], [`Evaluator`], [`Strategy`] or [`Family`], and one line that
//! exports it. Everything else (the component's exports, panics and logs that reach the host) is done here.
//!
//! ```
//! use aehost_sdk::technique::*;
//!
//! struct Threads;
//!
//! impl Technique for Threads {
//!     fn describe() -> Description {
//!         Description::new(identity!("threads", "Chooses the number of threads."), Stage::Inference)
//!     }
//!     fn parameters(_: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
//!         let cores = facts.integer("hardware.cpu_logical_cores")?;
//!         Ok(vec![integer("threads", "Worker threads.", 1..=cores).default(cores).into()])
//!     }
//!     fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
//!         runtime_policy::set(model, &[setting("threads", settings.integer("threads")?)])
//!     }
//! }
//!
//! aehost_sdk::technique!(Threads);
//! ```
//!
//! A component imports only the interfaces that its code reaches, and its imports are the permissions that a user grants;
//! so call only what is needed. Imports exist only inside the host: decide in plain functions and call the host at the
//! edge, and the decisions unit-test natively.

// The generated code names this crate by its own name, so that it also compiles inside plugins.
extern crate self as aehost_sdk;

#[doc(hidden)]
pub use wit_bindgen;

#[doc(hidden)]
pub mod bindings;
mod error;
mod export;
pub mod log;
mod parameter;
mod value;

pub mod evaluator;
pub mod family;
pub mod space;
pub mod strategy;
pub mod technique;

pub use aehost_search::Random;
pub use bindings::imports::aehost::plugin::common::{
    Condition, Direction, Domain, Error, Fact, Identity, Parameter, Setting, Stage, Value,
};
pub use evaluator::Evaluator;
#[doc(hidden)]
pub use export::Component;
pub use family::Family;
pub use parameter::{Builder as ParameterBuilder, choice, flag, integer, real};
pub use strategy::Strategy;
pub use technique::Technique;
pub use value::{Facts, Settings, setting};

/// The [`Identity`] of a plugin: its id, one sentence about it and, when there is one, the paper or specification that it
/// follows. The version is the crate's own.
#[macro_export]
macro_rules! identity {
    ($id:expr, $summary:expr) => {
        $crate::identity!($id, $summary, "")
    };
    ($id:expr, $summary:expr, $reference:expr) => {
        $crate::Identity {
            id: $id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            summary: $summary.to_string(),
            reference: $reference.to_string(),
        }
    };
}

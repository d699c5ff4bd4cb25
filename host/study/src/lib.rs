//! The study: what may be chosen, what was measured, what follows from it, and the loop that goes from one to the next.
//! It sees strategies and workers only as traits, knows no model and no plugin, and survives being killed at any moment.

mod constraint;
mod event;
#[cfg(test)]
mod fixtures;
pub mod metrics;
mod model;
mod sample;
mod space;
mod stats;
mod store;
mod student;
mod timings;
mod traits;

pub use constraint::{Constraint, ConstraintError};
pub use event::{Asked, Event};
pub use model::*;
pub use sample::subset;
pub use space::{Space, SpaceError};
pub use stats::{
    Comparison, Drop, Estimate, accuracy_drop, compare, median, median_estimate, percentile, transformed_mean,
    weighted_mean,
};
pub use store::{RunLock, Store, StoreError, StudySummary};
pub use timings::TimingsSummary;
pub use traits::*;

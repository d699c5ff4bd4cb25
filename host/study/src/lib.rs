//! The study: what may be chosen, what was measured, what follows from it, and the loop that goes from one to the next.
//! It sees strategies and workers only as traits, knows no model and no plugin, and survives being killed at any moment.

mod constraint;
pub mod metrics;
mod model;
mod sample;
mod traits;

pub use constraint::{Constraint, ConstraintError};
pub use model::*;
pub use sample::subset;
pub use traits::*;

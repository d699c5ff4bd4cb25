//! What search strategies compute: who beats whom, what a front is worth, and what is to be expected of configurations that
//! were not measured. Plain numbers in and out; nothing here knows of techniques or of the host. It is compiled for speed,
//! the rest of a plugin for size.

pub mod boosting;
pub mod boxes;
pub mod cholesky;
pub mod gaussian;
pub mod hypervolume;
pub mod improvement;
pub mod niching;
pub mod normal;
pub mod pareto;
mod random;
pub mod rows;
pub mod sobol;

pub use random::Random;

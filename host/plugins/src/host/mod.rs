//! The host's side of every interface that a plugin may import: one module an interface, each a thin translation to the
//! engine's own functions.

pub(crate) mod calibration;
pub(crate) mod checkpoint;
pub(crate) mod dataset;
pub(crate) mod feasibility;
pub(crate) mod graph;
pub(crate) mod log;
pub(crate) mod policy;
pub(crate) mod session;
pub(crate) mod tensor;
pub(crate) mod training;
pub(crate) mod weights;

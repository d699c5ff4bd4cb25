//! Executes a graph. A [`Variant`] is a graph with lazily bound weights, cheap to copy and to edit; a [`Model`] is a
//! variant made ready to run on a device. On the CPU linear layers and attention run in kernels of this crate, straight on
//! the stored representation; all else, and every other device, runs on candle's tensors.

mod attention;
mod blocks;
mod cache;
mod calibration;
mod device;
mod elementwise;
mod error;
mod importance;
mod kernels;
mod language_model;
mod model;
pub mod numeric;
mod policy;
mod representation;
mod rope;
mod sampling;
mod saved;
mod scoring;
mod shelf;
mod stored;
mod variant;
mod weight;

pub use aehost_formats::Message;
pub use cache::Cache;
pub use calibration::{Calibration, Statistics, Wanted};
pub use candle_core::{D, DType, Device, Tensor};
pub use device::device;
pub use error::EngineError;
pub use language_model::{LanguageModel, Prompt};
pub use model::{Model, Rows, Sequence};
pub use policy::Policy;
pub use representation::{FloatType, Representation};
pub use sampling::{Generated, GenerationRequest};
pub use saved::SavedVariant;
pub use scoring::{Distance, Rolling, Score, ScoreRequest};
pub use shelf::Shelf;
pub use variant::{Variant, WeightInfo};
pub use weight::BoundTensor;

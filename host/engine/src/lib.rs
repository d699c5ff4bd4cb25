//! Executes a graph. A [`Variant`] is a graph with lazily bound weights, cheap to copy and to edit; a [`Model`] is a
//! variant made ready to run on a device. Its program, the graph's nodes in order, runs on the CPU in buffers and
//! kernels of this crate, straight on the stored representation, and on every other device on candle's tensors.

mod adapted_rows;
mod adapter_file;
mod attention;
mod batch;
mod cache;
mod calibration;
mod codec;
mod cpu;
mod decoding;
mod dense;
mod device;
mod error;
mod images;
mod importance;
mod kernels;
mod lanes;
mod language_model;
mod matrix;
mod model;
pub mod numeric;
mod packed;
mod policy;
mod program;
mod representation;
mod rope;
mod routing;
mod sampling;
mod saved;
mod scoring;
mod shelf;
mod tensors;
mod threads;
mod token_work;
mod training;
mod variant;
mod weight;

pub use aehost_formats::Message;
pub use aehost_images::Image;
pub use batch::{Rows, Sequence};
pub use cache::Cache;
pub use calibration::{Calibration, Statistics, Wanted};
pub use candle_core::{D, DType, Device, Tensor};
pub use decoding::{Choose, Continuation, Part, Speculation, greedy};
pub use device::device;
pub use error::EngineError;
pub use images::{EncodedPrompt, EncodedViews, ImageLayout, ImageStep, Layouts, MARK as IMAGE_MARK, View};
pub use language_model::{LanguageModel, Prompt};
pub use model::Model;
pub use policy::Policy;
pub use representation::{Affine, Codebook, FloatType, Representation};
pub use sampling::{Generated, GenerationRequest};
pub use saved::SavedVariant;
pub use scoring::{Distance, Rolling, Score, ScoreRequest};
pub use shelf::Shelf;
pub use token_work::TokenWork;
pub use training::{
    Example, Objective, Schedule, Trainable, Trained, Trainer, Training, TrainingData, TrainingOptions,
};
pub use variant::{Variant, WeightInfo};
pub use weight::BoundTensor;

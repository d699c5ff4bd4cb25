//! Everything that is read from or written to files about a model: checkpoints (GGUF, safetensors), the tokenizer and
//! chat template they carry, and data sets. Nothing is executed here. Weights stay memory-mapped; every size in a file is
//! checked against the file before anything is allocated or sliced by it.

mod chat;
mod checkpoint;
mod dataset;
mod encoding;
mod error;
pub mod gguf;
mod safetensors;
mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, Format, TensorInfo};
pub use dataset::Dataset;
pub use encoding::Encoding;
pub use error::FormatError;
pub use tokenizer::{StreamDecoder, Tokenizer};

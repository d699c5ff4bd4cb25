//! What can go wrong while a model is built or run.

use aehost_common::{Code, Fault};
use aehost_graph::EditError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A weight that does not exist.
    #[error("there is no weight `{0}`")]
    NoWeight(String),
    /// Input that does not fit.
    #[error("{0}")]
    Invalid(String),
    /// Something this host or device cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// A graph that does not hold together.
    #[error(transparent)]
    Graph(#[from] EditError),
    /// A checkpoint that cannot be read.
    #[error(transparent)]
    Format(#[from] aehost_formats::FormatError),
    /// Not enough memory on the device.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// Numbers that are no longer numbers.
    #[error("{0}")]
    Diverged(String),
    /// A weight that cannot be kept on disk, or read from there.
    #[error("{0}")]
    Disk(String),
    /// An error of the tensor library.
    #[error("{0}")]
    Tensor(String),
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        if text.contains("out of memory") || text.contains("OUT_OF_MEMORY") {
            EngineError::OutOfMemory(text)
        } else {
            EngineError::Tensor(text)
        }
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::NoWeight(_) | EngineError::Invalid(_) | EngineError::Graph(_) | EngineError::Format(_) => {
                Code::InvalidInput
            }
            EngineError::Unsupported(_) => Code::Unsupported,
            EngineError::OutOfMemory(_) => Code::OutOfMemory,
            EngineError::Diverged(_) => Code::Diverged,
            EngineError::Disk(_) | EngineError::Tensor(_) => Code::Internal,
        };
        Fault::new(code, error.to_string())
    }
}

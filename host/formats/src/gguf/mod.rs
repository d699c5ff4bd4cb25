//! GGUF, versions 2 and 3, little-endian: a zero-copy reader and a writer
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

mod read;
mod value;
mod write;

pub(crate) use read::Header;
pub use value::{Kind, Value};
pub use write::Writer;

/// Tensor data is aligned to this many bytes where the file does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;

const MAGIC: &[u8; 4] = b"GGUF";
/// ggml's limit on the dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

//! Loops over every weight of a model. They are compiled for speed, and the rest of a plugin for size; what runs long is
//! never inlined into code that is compiled for size, where it would not become vectors.

mod bytes;
mod grid;
mod search;
mod settle;

pub use bytes::{from_bytes, to_bytes};
pub use grid::{Affine, Codes, GROUPS, Grid, as_half};
pub use settle::{LANES, Lanes, Settle, settle_block};

//! Model files and tokenizers through the whole crate. One binary, so that what it links is linked once: a file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gguf;
mod models;
mod safetensors;
mod tokenizer;

//! What users see of a study. One binary, so that what it links is linked once: a file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod html;
mod study;
mod svg;
mod terminal;

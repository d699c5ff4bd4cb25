//! End-to-end tests of the built program. One binary, so that what it links is linked once: a file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod killed;
mod main_job;
mod memory;

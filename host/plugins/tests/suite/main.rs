//! Plugins through the whole crate. One binary, so that what it links is linked once: a file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calibration;
mod conformance;
mod families;
mod fine_tuning;
mod gradients;
mod loading;
mod misbehaviour;
mod real_model;
mod refusals;
mod scoring;
mod speculation;
mod support;
mod techniques;
mod unusual_models;
mod vision;

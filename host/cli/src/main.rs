//! The `aehost` binary.
fn main() {}

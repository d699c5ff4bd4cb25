//! Formatting and lints: what must hold before a commit, besides the tests.

use crate::root;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs both, and fails with the first that does.
pub fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--release", "--quiet", "--", "-D", "warnings"])
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(arguments).current_dir(root()).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

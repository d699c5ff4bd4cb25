//! Build steps that cargo has no word for: `cargo xtask plugins` and `cargo xtask check`.

mod check;
mod plugins;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

const HELP: &str = "\
Usage: cargo xtask plugins [--set built-in|examples|faults] [--only NAME] [--out DIR] [--quiet]
       cargo xtask check

plugins  builds the plugins of a set to components (first run about two minutes, later runs seconds):
           built-in  plugins/<kind>/<id>, to plugins/dist (the default)
           examples  examples/plugins/<id>, to target/example-plugins
           faults    tests/plugins/<id>, which misbehave on purpose, to target/fault-plugins
check    cargo fmt --check and clippy with warnings as errors, for the whole workspace";

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("plugins") => plugins::build(&plugins::Options::parse(words)?),
        Some("check") => check::check(),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("unknown task `{other}`\n\n{HELP}"),
    }
}

/// The root of the workspace, where every task runs.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_path_buf()
}

//! `aehost delete`: removes a study for good.

use crate::ending::{Ending, usage};
use crate::home::StoreArguments;
use crate::output::Output;
use anyhow::Result;
use serde_json::json;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// Do it; there is no way back
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let mut store = arguments.store.open()?;
    let name = &arguments.name;
    let trials = store.study(name).and_then(|_| store.trials(name))?.len();
    if !arguments.yes {
        return Err(usage(format!(
            "this removes study `{name}` with its {trials} trials for good: repeat it with --yes, or keep a copy first \
             with `aehost export-json {name} --output FILE`"
        )));
    }
    store.delete(name)?;
    output.result(&json!({"deleted": name, "trials": trials}), || {
        format!("Removed study {name} with {trials} trials.\n")
    })?;
    Ok(Ending::Done)
}

//! `aehost export-json`: everything that is stored of a study.

use crate::ending::Ending;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::results;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Version of the exported form; it grows when a field changes its meaning.
const VERSION: u32 = 1;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let store = arguments.store.open()?;
    let name = &arguments.name;
    let study = json!({
        "format": "aehost-study",
        "version": VERSION,
        "study": store.study(name)?,
        "trials": store.trials(name)?,
        "events": store.events(name)?,
    });
    let text = serde_json::to_string_pretty(&study)? + "\n";
    match &arguments.output {
        Some(path) => {
            results::write(path, &text)?;
            output.say(&format!("Wrote {}", path.display()));
        }
        None => output.write(&text)?,
    }
    Ok(Ending::Done)
}

//! `aehost export-json`: everything that is stored of a study.

use crate::ending::Ending;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::results;
use aehost_study::EarlierStudy;
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
    /// Only what strategies of other studies are told of it
    #[arg(long)]
    pub told: bool,
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
    let (record, trials) = (store.study(name)?, store.trials(name)?);
    let study = match arguments.told {
        true => serde_json::to_value(EarlierStudy::new(&record, &trials))?,
        false => json!({
            "format": "aehost-study",
            "version": VERSION,
            "study": record,
            "trials": trials,
            "events": store.events(name)?,
        }),
    };
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

//! `aehost model` and `aehost data`: what can be fetched by name.

use crate::ending::{Ending, usage};
use crate::fetch;
use crate::output::Output;
use aehost_hub::{Entry, Kind, catalog};
use anyhow::Result;
use indicatif::BinaryBytes;
use serde_json::json;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the names that can be fetched
    List,
    /// Fetch by name, unless it is there already; checks the SHA-256
    Pull {
        /// Names; `all` for everything
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Runs it.
pub fn run(command: &Command, kind: Kind, output: &Output) -> Result<Ending> {
    let entries: Vec<&Entry> = catalog().iter().filter(|entry| entry.kind == kind).collect();
    match command {
        Command::List => list(&entries, output)?,
        Command::Pull { names } => pull(&entries, names, output)?,
    }
    Ok(Ending::Done)
}

fn list(entries: &[&Entry], output: &Output) -> Result<()> {
    let rows: Vec<_> = entries
        .iter()
        .map(|e| {
            json!({
                "name": e.name, "summary": e.summary, "license": e.license, "bytes": e.bytes, "sha256": e.sha256,
                "path": aehost_hub::path_if_present(e.name),
            })
        })
        .collect();
    output.result(&rows, || {
        let mut text = String::new();
        for entry in entries {
            let state = aehost_hub::path_if_present(entry.name)
                .map_or_else(|| format!("{} to fetch", BinaryBytes(entry.bytes)), |path| path.display().to_string());
            text += &format!("{}\n  {}\n  licence: {}\n  {state}\n", entry.name, entry.summary, entry.license);
        }
        text
    })
}

fn pull(entries: &[&Entry], names: &[String], output: &Output) -> Result<()> {
    let known = || entries.iter().map(|e| e.name).collect::<Vec<_>>().join(", ");
    let mut wanted: Vec<&Entry> = Vec::new();
    for name in names {
        match entries.iter().find(|entry| entry.name == name) {
            Some(entry) => wanted.push(entry),
            None if name == "all" => wanted.extend(entries),
            None => return Err(usage(format!("there is no `{name}` to fetch; there are: {}", known()))),
        }
    }
    let mut rows = Vec::new();
    for entry in wanted {
        let path = fetch::pull(entry, output)?;
        rows.push(json!({"name": entry.name, "path": path}));
    }
    output.result(&rows, || {
        rows.iter().filter_map(|row| row["path"].as_str()).fold(String::new(), |text, path| text + path + "\n")
    })
}

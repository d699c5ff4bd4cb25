//! `aehost report`: the HTML page and pictures of the front.

use crate::ending::Ending;
use crate::home::{self, StoreArguments};
use crate::output::Output;
use crate::results::{self, Results};
use aehost_report::Fidelity;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str = "\
Examples:
  aehost report NAME --html report.html
  aehost report NAME --svg front.svg --x memory.peak --y accuracy";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// Where to write the page, one file that needs no network [default: beside the store]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Where to write a picture of the front
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Metric of the picture's horizontal axis
    #[arg(long, value_name = "METRIC", requires = "svg")]
    pub x: Option<String>,
    /// Metric of the picture's vertical axis
    #[arg(long, value_name = "METRIC", requires = "svg")]
    pub y: Option<String>,
    /// Draw the confirmed figures, which only the baseline and a few trials have
    #[arg(long, requires = "svg")]
    pub confirmed: bool,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let store = arguments.store.open()?;
    let results = Results::read(&store, &arguments.name)?;
    let mut written = serde_json::Map::new();
    if let Some(path) = &arguments.svg {
        let fidelity = if arguments.confirmed { Fidelity::Confirmed } else { Fidelity::Screening };
        results::write(path, &results.svg(arguments.x.as_deref(), arguments.y.as_deref(), fidelity)?)?;
        written.insert("svg".into(), json!(path));
    }
    if arguments.html.is_some() || arguments.svg.is_none() {
        let path = arguments.html.clone().unwrap_or_else(|| home::report(store.path(), &arguments.name, "html"));
        results::write(&path, &results.html())?;
        written.insert("html".into(), json!(path));
    }
    output.result(&written, || {
        written
            .values()
            .filter_map(|path| path.as_str())
            .fold(String::new(), |text, path| text + "Wrote " + path + "\n")
    })?;
    Ok(Ending::Done)
}

//! `aehost resume`: goes on where a study was stopped.

use crate::ending::Ending;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::plugins::PluginArguments;
use crate::session;
use aehost_study::{Limits, TimeLimit};
use anyhow::Result;

const AFTER: &str = "\
Examples:
  aehost resume NAME
  aehost resume NAME --trials 60 --time none    give a study a larger budget

No finished trial is lost or measured again, and the proposals are those of an
uninterrupted study.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// Trials at most from now on, those that were run included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Time at most from now on, that of earlier runs included; `none` for no limit
    #[arg(long, value_name = "TIME")]
    pub time: Option<TimeLimit>,
    #[command(flatten)]
    pub plugins: PluginArguments,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// What replaces the study's budget for this run.
pub fn limits(trials: Option<u32>, time: Option<TimeLimit>) -> Limits {
    Limits { trials, seconds: time.map(|limit| limit.0.unwrap_or(f64::INFINITY)) }
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let mut store = arguments.store.open()?;
    let limits = limits(arguments.trials, arguments.time);
    session::resume(&mut store, &arguments.name, &arguments.plugins, limits, &arguments.store.flag(), output)
}

//! `aehost pareto`: the front of a study.

use crate::ending::Ending;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::results::Results;
use anyhow::Result;

const AFTER: &str = "\
Under --json: {study, baseline, front: [{trial, configuration, metrics,
efficiency_score, accuracy_drop, feasible, ...}], recommended, hardware, ...}.
Metrics carry their units in their names; accuracy_drop is in percent of the
baseline's accuracy. Exit code 3: no trial satisfies all constraints.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The study
    pub name: String,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let results = Results::read(&arguments.store.open()?, &arguments.name)?;
    output.result(&results.json(), || results.front())?;
    Ok(results.ending())
}

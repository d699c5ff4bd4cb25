//! `aehost list`: the studies of the store.

use crate::ending::Ending;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::results::terminal;
use anyhow::Result;
use serde_json::json;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let studies = arguments.store.open()?.list()?;
    let rows: Vec<_> = studies
        .iter()
        .map(|s| {
            json!({
                "name": s.name, "model": s.model, "strategy": s.strategy, "created_at": s.created_at,
                "trials": s.trials, "budget_trials": s.budget_trials, "ended": s.ended,
            })
        })
        .collect();
    output.result(&rows, || aehost_report::list_table(&studies, terminal()))?;
    Ok(Ending::Done)
}

//! `aehost plugins drive`: a strategy without a study, for programs that have something else to search, or strategies to compare.

use crate::output::Output;
use crate::plugins::{self, PluginArguments};
use aehost_common::{Fault, Parameter};
use aehost_plugins::{Catalog, LoadedStrategy};
use aehost_study::{Observation, Problem, Space, Strategy, StrategyFactory};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// What a line asks for.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Start(Box<Problem>),
    Ask(u32),
    Tell(Vec<Observation>),
    Outlook,
}

/// Answers each line of standard input with a line, until there are no more. What cannot be done is answered with an `error`.
pub fn run(strategy: &str, arguments: &PluginArguments, output: &Output) -> Result<()> {
    let options = arguments.options();
    let catalog = match Path::new(strategy).extension() {
        Some(_) => Catalog::single(Path::new(strategy), &options)?,
        None => plugins::load(&plugins::folders(&arguments.plugins)?, &options, output)?,
    };
    let id = match Path::new(strategy).extension() {
        Some(_) => catalog.plugins().next().map(|plugin| plugin.id.clone()).unwrap_or_default(),
        None => strategy.to_owned(),
    };
    let factory = catalog.strategy(&id)?;
    let mut running = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = answer(&line, factory, &mut running).unwrap_or_else(|why| json!({ "error": why }));
        writeln!(out, "{answer}").and_then(|()| out.flush()).context("cannot write to standard output")?;
    }
    Ok(())
}

fn answer(line: &str, factory: &LoadedStrategy, running: &mut Option<Box<dyn Strategy>>) -> Result<Value, String> {
    let full = |fault: Fault| fault.full();
    let request: Request = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if let Request::Start(mut problem) = request {
        Space::new(&problem.space).map_err(|e| e.to_string())?;
        problem.settings = Parameter::complete(&factory.description().parameters, &problem.settings)
            .map_err(|e| format!("the strategy's settings: {e}"))?;
        *running = Some(factory.start(&problem).map_err(full)?);
        return Ok(json!({ "started": true }));
    }
    let strategy = running.as_mut().ok_or("nothing is started: the first line must have `start`")?;
    let start = Instant::now();
    let mut answer = match request {
        Request::Ask(count) => json!({ "proposals": strategy.ask(count).map_err(full)? }),
        Request::Tell(observations) => {
            strategy.tell(&observations).map_err(full)?;
            json!({ "told": observations.len() })
        }
        Request::Outlook | Request::Start(_) => json!({ "outlook": strategy.outlook() }),
    };
    answer["seconds"] = start.elapsed().as_secs_f64().into();
    Ok(answer)
}

//! `aehost resolve`: other limits, aims or weights for a study, answered from what it measured.

use crate::ending::{Ending, fault, usage};
use crate::home::StoreArguments;
use crate::output::Output;
use crate::plugins::{self, PluginArguments};
use crate::results::Results;
use crate::session::recorded_folders;
use aehost_study::{
    Analysis, Constraint, Objective, Proposal, StrategyFactory, StudyRecord, Trial, Weight, history, problem,
};
use anyhow::Result;

const AFTER: &str = "\
Examples:
  aehost resolve NAME --constraint 'memory.peak <= 120 MiB'
  aehost resolve NAME --constraint 'accuracy drop <= 5 %' --objective accuracy --objective memory.peak
  aehost resolve NAME --weight latency.e2e=3 --weight memory.peak=1

Nothing is measured and nothing stored. The front and the recommendation are those
of the trials that were measured; below them stands what the study's strategy
would measure next under these limits, and what it predicts of it.

Under --json: as `pareto`, with predicted: [{configuration, why}].";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// A hard limit, in place of the study's; repeatable
    #[arg(long, value_name = "METRIC <= BOUND")]
    pub constraint: Vec<Constraint>,
    /// What to improve, in place of the study's; repeatable
    #[arg(long, value_name = "METRIC")]
    pub objective: Vec<String>,
    /// What counts in the efficiency score, and how much, in place of the study's; repeatable
    #[arg(long, value_name = "METRIC=WEIGHT")]
    pub weight: Vec<String>,
    /// Configurations that the strategy predicts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub predictions: u32,
    #[command(flatten)]
    pub plugins: PluginArguments,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let Results { mut record, trials, .. } = Results::read(&arguments.store.open()?, &arguments.name)?;
    if !arguments.constraint.is_empty() {
        arguments.constraint.iter().try_for_each(|c| c.check(&record.metrics)).map_err(|e| usage(e.to_string()))?;
        record.constraints.clone_from(&arguments.constraint);
    }
    if !arguments.objective.is_empty() {
        let resolved = |words: &String| Objective::resolve(words, &record.accuracy_metric, &record.metrics);
        let objectives = arguments.objective.iter().map(resolved).collect::<Result<_, _>>();
        record.objectives = objectives.map_err(|e| usage(e.to_string()))?;
    }
    if !arguments.weight.is_empty() {
        let resolved = |text: &String| Weight::resolve(text, &record.accuracy_metric, &record.metrics);
        let weights = arguments.weight.iter().map(resolved).collect::<Result<_, _>>();
        record.weights = weights.map_err(|e| usage(e.to_string()))?;
    }
    let predicted = match arguments.predictions {
        0 => Vec::new(),
        count => predictions(&record, &trials, count, &arguments.plugins, output)?,
    };
    let analysis = Analysis::of(&record, &trials);
    let results = Results { record, trials, analysis };
    let mut json = results.json();
    json["predicted"] = predicted
        .iter()
        .map(|Proposal { configuration, why, .. }| serde_json::json!({ "configuration": configuration, "why": why }))
        .collect();
    output.result(&json, || {
        let mut text = results.front();
        if !predicted.is_empty() {
            text += &format!("\nNot measured; what {} would measure next:\n", results.record.strategy);
        }
        predicted.iter().fold(text, |text, p| text + &format!("  {}\n    {}\n", p.configuration, p.why))
    })?;
    Ok(results.ending())
}

/// What the study's strategy proposes when it is told all trials under other limits.
fn predictions(
    record: &StudyRecord,
    trials: &[Trial],
    count: u32,
    given: &PluginArguments,
    output: &Output,
) -> Result<Vec<Proposal>> {
    let catalog = plugins::load(&recorded_folders(record, &given.plugins)?, &given.options(), output)?;
    // However large the budget was: what is asked for comes after its end.
    let budget = record.budget_trials.max(trials.len() as u32) + count;
    let problem = aehost_study::Problem { budget, ..problem(record) };
    let mut strategy = catalog.strategy(&record.strategy)?.start(&problem).map_err(fault)?;
    strategy.tell(&history(record, trials)).map_err(fault)?;
    strategy.ask(count).map_err(fault)
}

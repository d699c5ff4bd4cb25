//! `aehost show`: a study, one trial in full, or where the time went.

use crate::ending::{Ending, usage};
use crate::hardware;
use crate::home::StoreArguments;
use crate::output::Output;
use crate::results::{Results, terminal};
use aehost_study::{TimingsSummary, TrialId};
use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use std::fmt::Write;

const AFTER: &str = "\
Examples:
  aehost show NAME               what it was run on and with, and its trials
  aehost show NAME --trial 7     one configuration with all its figures
  aehost show NAME --timings     seconds of each phase";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The study
    pub name: String,
    /// One trial in full
    #[arg(long, value_name = "N", conflicts_with = "timings")]
    pub trial: Option<u64>,
    /// Where the time went
    #[arg(long)]
    pub timings: bool,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let results = Results::read(&arguments.store.open()?, &arguments.name)?;
    if let Some(id) = arguments.trial.map(TrialId) {
        trial(&results, id, output)?;
    } else if arguments.timings {
        let summary = TimingsSummary::of(&results.trials);
        output.result(&summary, || aehost_report::timings_table(&results.trials, terminal()))?;
    } else {
        let json = json!({"study": results.record, "trials": results.trials, "analysis": results.analysis});
        output.result(&json, || overview(&results))?;
    }
    Ok(Ending::Done)
}

fn trial(results: &Results, id: TrialId, output: &Output) -> Result<()> {
    let Results { record, trials, analysis } = results;
    let text = aehost_report::trial_view(record, trials, analysis, id, terminal());
    let (Some(text), Some(trial)) = (text, trials.iter().find(|t| t.id == id)) else {
        return Err(usage(format!("study `{0}` has no trial {id}: `aehost show {0}` lists them", record.name)));
    };
    let json = json!({"trial": trial, "analysis": analysis.trial(trial.confirms.unwrap_or(id))});
    output.result(&json, || text)
}

/// What the study was run on and with, then a line a trial.
fn overview(results: &Results) -> String {
    let record = &results.record;
    let scenario = &record.scenario;
    let mut lines = vec![
        ("study", record.name.clone()),
        ("model", format!("{} ({})", record.model, record.reference)),
        ("machine", hardware::stored(&record.hardware).unwrap_or_default()),
        ("device", format!("{}, threads: {}", record.device, record.threads)),
        (
            "scenario",
            format!(
                "{} prompt tokens, {} output tokens, batch {}",
                scenario.prompt_tokens, scenario.output_tokens, scenario.batch
            ),
        ),
    ];
    for evaluator in &record.evaluators {
        let words = format!(
            "{} on {}, {} items, {} to confirm",
            evaluator.label, evaluator.data, evaluator.items, evaluator.confirm_items
        );
        lines.push(("evaluator", words));
    }
    lines.push(("objectives", record.objectives.iter().map(|o| o.metric.as_str()).collect::<Vec<_>>().join(", ")));
    lines.extend(record.constraints.iter().map(|c| ("constraint", c.text.clone())));
    lines.extend(record.weights.iter().map(|w| ("weight", format!("{} for {}", w.weight, w.metric))));
    lines.push(("strategy", format!("{}, seed {}", record.strategy, record.seed)));
    lines.extend(record.plugins.iter().map(|p| ("plugin", format!("{} {} {}", p.kind, p.id, p.version))));
    let mut text = String::new();
    for (name, words) in lines {
        let _ = writeln!(text, "{name:<11} {words}");
    }
    text + "\n" + &trials(results)
}

fn trials(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(terminal().width);
    table.set_header(["trial", "outcome", "score ×", "drop %", "configuration"]);
    for trial in &results.trials {
        let analysed = results.analysis.trial(trial.confirms.unwrap_or(trial.id));
        let figures =
            analysed.and_then(|a| if trial.confirms.is_some() { a.confirmed.as_ref() } else { a.screening.as_ref() });
        // Adding 0 turns -0 into 0.
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{:.2}", v + 0.0));
        let configuration = match trial.confirms {
            Some(id) => format!("confirms {id}"),
            None if trial.configuration.0.is_empty() => "baseline".to_owned(),
            None => trial.configuration.to_string(),
        };
        table.add_row([
            trial.id.to_string(),
            trial.outcome.word().to_owned(),
            number(figures.and_then(|f| f.score())),
            number(figures.and_then(|f| f.accuracy_drop.as_ref()).map(|d| d.percent.value)),
            configuration,
        ]);
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

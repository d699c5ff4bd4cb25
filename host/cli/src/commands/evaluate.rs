//! `aehost evaluate`: the quality of one configuration.

use crate::ending::{Ending, fault};
use crate::output::Output;
use crate::plan;
use crate::subject::{Subject, SubjectArguments};
use aehost_study::{Items, Overrides, StudyFile};
use anyhow::Result;
use serde_json::{Map, Value, json};

const AFTER: &str = "\
Examples:
  aehost evaluate --evaluator multiple-choice:piqa --items 200
  aehost evaluate --study NAME --trial 7 --evaluator perplexity:book.txt --json

Under --json: {model, study, trial, configuration,
metrics: {NAME: {value, standard_error, unit, direction, items, samples}}};
samples are the values of single items, in the same order for the same --seed.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// What measures quality, and on which data (path or name); repeatable [default: the study's, else those of a default study]
    #[arg(long, value_name = "ID[:DATA]")]
    pub evaluator: Vec<String>,
    /// Items of each data set, drawn by --seed [default: as many as a study confirms with]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub items: Option<u32>,
    /// Seed of the draw [default: the study's, else 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub subject: SubjectArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let mut subject = Subject::of(&arguments.subject)?;
    if subject.record.is_none() || !arguments.evaluator.is_empty() {
        let flags = Overrides { evaluators: arguments.evaluator.clone(), ..Overrides::default() };
        let file = StudyFile::default().resolve(&flags)?;
        subject.plan.evaluators = plan::evaluators(&file.evaluator, &subject.catalog(output)?)?;
    }
    let seed = arguments.seed.or(subject.record.as_ref().map(|record| record.seed)).unwrap_or_default();
    let items: Vec<Items> = subject
        .plan
        .evaluators
        .iter()
        .map(|e| Items { evaluator: e.label.clone(), count: arguments.items.unwrap_or(e.confirm_items), seed })
        .collect();
    output.say(&format!("Evaluating {}", subject.words()));
    let bar = output.spinner(String::new());
    let mut workbench = subject.open(&bar, output)?;
    let measurements = workbench.evaluate_configuration(&subject.configuration, &items).map_err(fault)?;
    bar.finish_and_clear();
    let metrics: Map<String, Value> = measurements
        .metrics
        .iter()
        .map(|(name, m)| {
            let json = json!({
                "value": m.value, "standard_error": m.standard_error, "unit": m.unit, "direction": m.direction,
                "items": m.samples.len(), "samples": m.samples,
            });
            (name.clone(), json)
        })
        .collect();
    let json = json!({
        "model": subject.plan.model,
        "study": subject.record.as_ref().map(|record| &record.name),
        "trial": subject.trial,
        "configuration": subject.configuration,
        "metrics": metrics,
    });
    output.result(&json, || {
        measurements.metrics.iter().fold(String::new(), |text, (name, m)| {
            text + &format!(
                "{name:<36} {:>10.4} ± {:<8.4} {} ({} items)\n",
                m.value,
                m.standard_error,
                m.unit,
                m.samples.len()
            )
        })
    })?;
    Ok(Ending::Done)
}

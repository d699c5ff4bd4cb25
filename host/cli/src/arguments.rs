//! The command line as a whole; each command's own flags stand in its module.

use crate::commands::{
    bench, catalog_data, delete, evaluate, export_json, finetune, generate, hardware, list, pareto, plugins, report,
    resolve, resume, run, show,
};
use clap::{Parser, Subcommand};

const ABOUT: &str = "Finds the efficiency configurations of a model that nothing else beats: \
accuracy against latency, memory and energy, measured on this machine";

const AFTER: &str = "\
Examples:
  aehost run --plugins plugins        search the default model, report the front
  aehost run study.toml --time 1h     a study of one's own, with a larger budget
  aehost resume NAME                  go on with an interrupted study
  aehost generate --study NAME \"Why is the sky blue?\"

Exit codes:
  0    done
  1    something failed; the message says what, and what to do
  2    the command line, the study file, or a name in them is wrong
  3    the study is complete, and no trial satisfies all constraints
  130  stopped by Ctrl-C; an interrupted study says how to resume it

Under --json, standard output is JSON alone, and an error is one line on
standard error: {\"error\": {\"code\": ..., \"message\": ..., \"causes\": [...]}}

Studies, plugins, models and data lie in $AEHOST_HOME, or else in the user's
data and cache folders.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "aehost", version, about = ABOUT, after_help = AFTER, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// Print nothing but JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Search configurations of a model, confirm the front, and write the report
    Run(Box<run::Arguments>),
    /// Go on with an interrupted study, or give a finished one a larger budget
    Resume(resume::Arguments),
    /// List the studies of the store
    List(list::Arguments),
    /// Show a study, one of its trials, or where its time went
    Show(show::Arguments),
    /// Show the front of a study and what it recommends
    Pareto(pareto::Arguments),
    /// Answer other limits or aims from what a study measured, without measuring
    Resolve(resolve::Arguments),
    /// Write a study's HTML report, and pictures of its front
    Report(report::Arguments),
    /// Write a study with all its trials and its log as JSON
    ExportJson(export_json::Arguments),
    /// Remove a study from the store
    Delete(delete::Arguments),
    /// Let a configuration answer a prompt
    Generate(generate::Arguments),
    /// Measure the quality of a configuration
    Evaluate(evaluate::Arguments),
    /// Measure the speed and memory of a configuration
    Bench(bench::Arguments),
    /// Train a model on data by techniques of the fine-tuning stage
    Finetune(finetune::Arguments),
    /// List, inspect, install, remove and test plugins
    #[command(subcommand)]
    Plugins(plugins::Command),
    /// List and fetch models
    #[command(subcommand)]
    Model(catalog_data::Command),
    /// List and fetch data sets
    #[command(subcommand)]
    Data(catalog_data::Command),
    /// Describe this machine as studies record it
    Hardware(hardware::Arguments),
    /// Run trials for a parent process (internal)
    #[command(hide = true)]
    Worker,
}

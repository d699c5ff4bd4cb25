//! One module a command.

pub mod bench;
pub mod catalog_data;
pub mod delete;
pub mod drive;
pub mod evaluate;
pub mod export_json;
pub mod finetune;
pub mod generate;
pub mod hardware;
pub mod list;
pub mod pareto;
pub mod plugins;
pub mod report;
pub mod resolve;
pub mod resume;
pub mod run;
pub mod show;

use crate::arguments::Command;
use crate::ending::Ending;
use crate::output::Output;
use aehost_hub::Kind;
use anyhow::Result;

/// Runs a command.
pub fn run(command: Command, output: &Output) -> Result<Ending> {
    match command {
        Command::Run(arguments) => run::run(&arguments, output),
        Command::Resolve(arguments) => resolve::run(&arguments, output),
        Command::Resume(arguments) => resume::run(&arguments, output),
        Command::List(arguments) => list::run(&arguments, output),
        Command::Show(arguments) => show::run(&arguments, output),
        Command::Pareto(arguments) => pareto::run(&arguments, output),
        Command::Report(arguments) => report::run(&arguments, output),
        Command::ExportJson(arguments) => export_json::run(&arguments, output),
        Command::Delete(arguments) => delete::run(&arguments, output),
        Command::Generate(arguments) => generate::run(&arguments, output),
        Command::Evaluate(arguments) => evaluate::run(&arguments, output),
        Command::Bench(arguments) => bench::run(&arguments, output),
        Command::Finetune(arguments) => finetune::run(&arguments, output),
        Command::Plugins(command) => plugins::run(&command, output),
        Command::Model(command) => catalog_data::run(&command, Kind::Model, output),
        Command::Data(command) => catalog_data::run(&command, Kind::Data, output),
        Command::Hardware(_) => hardware::run(output),
        Command::Worker => {
            std::process::exit(if aehost_worker::serve() == std::process::ExitCode::SUCCESS { 0 } else { 1 })
        }
    }
}

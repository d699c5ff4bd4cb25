//! The `aehost` binary: reads the command line, hands it to the module of the command, and turns what comes back into
//! output and an exit code. What a command does beyond reading flags and printing belongs to the other crates.

mod arguments;
mod commands;
mod ending;
mod feasibility;
mod fetch;
mod hardware;
mod home;
mod interrupt;
mod output;
mod plan;
mod plugins;
mod progress;
mod results;
mod session;
mod subject;
#[cfg(test)]
mod tests;

use arguments::Cli;
use clap::Parser;
use ending::Ending;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let output = Output::new(cli.json);
    let ending = commands::run(cli.command, &output).unwrap_or_else(|error| {
        ending::print(&error, &output);
        ending::of(&error)
    });
    ending.into()
}

/// Help and version are no errors; anything else that clap says is a mistake in the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe (`aehost --help | head`) is the reader's choice.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|word| word == "--json") {
        let message = error.render().to_string();
        ending::print(&ending::usage(message.trim_start_matches("error: ").trim_end()), &Output::new(true));
    } else {
        let _ = error.print();
    }
    Ending::Usage.into()
}

//! Where a command writes: JSON alone on standard output under `--json`, text for people otherwise. What is said while
//! something runs, and warnings, go to standard error.

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// What the caller wants to see.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Nothing but JSON on standard output, and no progress.
    pub json: bool,
}

impl Output {
    /// Of `--json`.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether progress may redraw a line.
    pub fn animated(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Writes the result, in the form that was asked for.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.write(&(serde_json::to_string_pretty(value)? + "\n")) } else { self.write(&text()) }
    }

    /// Writes to standard output; colours only on a terminal. A reader that closed the pipe has seen enough.
    pub fn write(&self, text: &str) -> Result<()> {
        let mut stdout = anstream::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written.context("cannot write to standard output"),
        }
    }

    /// A spinner beside `what`, until it is dropped or finished; nothing where lines are not redrawn.
    pub fn spinner(&self, what: String) -> ProgressBar {
        if !self.animated() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg}").expect("the template is valid");
        let spinner =
            ProgressBar::new_spinner().with_style(style).with_message(what).with_finish(ProgressFinish::AndClear);
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    /// A line for people on standard error.
    pub fn say(&self, line: &str) {
        if !self.json {
            anstream::eprintln!("{line}");
        }
    }

    /// Something that a person should look into.
    pub fn warn(&self, message: &str) {
        let yellow = clap::builder::styling::AnsiColor::Yellow.on_default().bold();
        self.say(&format!("{yellow}warning:{yellow:#} {message}"));
    }
}

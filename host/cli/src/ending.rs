//! How the program ends: the five exit codes, which error leads to which, and how an error is told to people and machines.

use crate::output::Output;
use aehost_common::{DomainError, Fault};
use aehost_hub::HubError;
use aehost_plugins::PluginError;
use aehost_report::SvgError;
use aehost_study::metrics::UnknownObjective;
use aehost_study::{ConfigError, ConstraintError, RunError, StoreError};
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The exit codes, documented in `aehost --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// 0
    Done,
    /// 1: something failed.
    Failed,
    /// 2: the command line, the study file, or a name in them is wrong.
    Usage,
    /// 3: the study is complete, and no trial satisfies all constraints.
    NothingFeasible,
    /// 130: stopped by Ctrl-C; the study can be resumed.
    Interrupted,
}

impl Ending {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::Usage => 2,
            Ending::NothingFeasible => 3,
            Ending::Interrupted => 130,
        }
    }

    /// The word in JSON errors.
    fn word(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Failed => "failed",
            Ending::Usage => "usage",
            Ending::NothingFeasible => "nothing-feasible",
            Ending::Interrupted => "interrupted",
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        ending.code().into()
    }
}

/// A mistake of the caller's, in words that say how to mend it.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// A mistake of the caller's.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// A fault with its causes as a chain.
pub fn fault(fault: Fault) -> anyhow::Error {
    let mut words = fault.causes.into_iter().rev().chain([fault.message]);
    let innermost = anyhow::Error::msg(words.next().expect("a fault has a message"));
    words.fold(innermost, anyhow::Error::context)
}

/// The exit code of an error: the one place that decides.
pub fn of(error: &anyhow::Error) -> Ending {
    if error.chain().any(is_usage) { Ending::Usage } else { Ending::Failed }
}

fn is_usage(error: &(dyn Error + 'static)) -> bool {
    let store =
        |e: &StoreError| matches!(e, StoreError::Missing { .. } | StoreError::Exists { .. } | StoreError::Name(_));
    error.is::<Usage>()
        || error.is::<ConfigError>()
        || error.is::<ConstraintError>()
        || error.is::<UnknownObjective>()
        || error.is::<DomainError>()
        || error.downcast_ref::<StoreError>().is_some_and(store)
        || error.downcast_ref::<RunError>().is_some_and(|e| match e {
            RunError::Store(e) => store(e),
            RunError::Unavailable { .. } => true,
            _ => false,
        })
        || matches!(error.downcast_ref(), Some(SvgError::Metric { .. }))
        || matches!(error.downcast_ref(), Some(HubError::Unknown { .. }))
        || matches!(error.downcast_ref(), Some(PluginError::Unknown { .. } | PluginError::NotThere { .. }))
}

/// The message, then the causes that add something to what stands before them.
fn messages(error: &anyhow::Error) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if told.last().is_none_or(|before| !before.contains(&text)) {
            told.push(text);
        }
    }
    told
}

/// Tells an error on standard error, as a person or, under `--json`, a program reads it.
pub fn print(error: &anyhow::Error, output: &Output) {
    let mut told = messages(error).into_iter();
    let message = told.next().unwrap_or_default();
    if output.json {
        let causes: Vec<String> = told.collect();
        let code = of(error).word();
        eprintln!("{}", serde_json::json!({"error": {"code": code, "message": message, "causes": causes}}));
        return;
    }
    let red = clap::builder::styling::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error:{red:#} {message}");
    for cause in told {
        anstream::eprintln!("  cause: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::path::PathBuf;

    #[test]
    fn names_that_do_not_exist_are_mistakes_of_the_caller_and_broken_files_are_not() {
        let path = PathBuf::from("s.db");
        let missing = StoreError::Missing { path: path.clone(), name: "x".into(), known: "none".into() };
        assert_eq!(of(&missing.into()), Ending::Usage);
        let running = StoreError::Running { name: "x".into(), process: "7".into() };
        assert_eq!(of(&RunError::Store(running).into()), Ending::Failed);
        let full: anyhow::Result<()> = Err(StoreError::Full { path }.into());
        assert_eq!(of(&full.context("storing").unwrap_err()), Ending::Failed);
        assert_eq!(of(&usage("no").context("reading flags")), Ending::Usage);
        assert_eq!(of(&fault(Fault::invalid("model.gguf: wrong magic"))), Ending::Failed);
    }

    #[test]
    fn causes_that_repeat_the_message_are_left_out() {
        let told = messages(&fault(Fault::internal("inner").within("middle").within("outer: middle")));
        assert_eq!(told, ["outer: middle", "inner"]);
    }
}

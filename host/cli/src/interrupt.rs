//! Ctrl-C: the first asks the study to stop, which loses the trial at work and nothing else; the second ends the program.

use crate::ending::Ending;
use aehost_study::Stop;
use anyhow::{Context, Result};

/// Sets `stop` at the first signal (after `say` has told the user), and exits at the second.
pub fn watch(stop: &Stop, say: impl Fn(&str) + Send + 'static) -> Result<()> {
    let stop = stop.clone();
    let handler = move || {
        if stop.is_set() {
            std::process::exit(Ending::Interrupted.code().into());
        }
        say("stopping; press Ctrl-C again to end at once (nothing that was stored is lost)");
        stop.set();
    };
    ctrlc::set_handler(handler).context("cannot watch for Ctrl-C")
}

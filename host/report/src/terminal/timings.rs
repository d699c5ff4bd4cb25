//! Where the time of a study went.

use super::{Terminal, Tone, align_right, finish, tone};
use crate::time::{Phase, phases, summary};
use aehost_study::Trial;
use comfy_table::Cell;

/// One line a phase with its time and share, and the share that is neither applying, measuring nor evaluating.
pub fn timings_table(trials: &[Trial], terminal: Terminal) -> String {
    let mut table = terminal.table(&["phase", "time", "share"]);
    for Phase { name, time, share, productive, .. } in phases(trials) {
        let kind = if productive { Tone::Plain } else { Tone::Dim };
        table.add_row([name, time, share].map(|text| tone(Cell::new(text), kind)));
    }
    align_right(&mut table, [1, 2]);
    finish(&table) + &terminal.wrap(&summary(trials), 0)
}

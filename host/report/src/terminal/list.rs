//! All studies of a store.

use super::{Terminal, Tone, align_right, finish, tone};
use crate::units::{clean, date};
use aehost_study::StudySummary;
use comfy_table::Cell;

/// One line a study: name, model, strategy, trials (confirmations and rejected ones included), when it was made, and whether it can be resumed.
pub fn list_table(studies: &[StudySummary], terminal: Terminal) -> String {
    if studies.is_empty() {
        return "No studies yet: start one with `aehost run`.\n".into();
    }
    let mut table = terminal.table(&["study", "model", "strategy", "trials", "budget", "made", "state"]);
    for study in studies {
        let state = match &study.ended {
            Some(reason) => Cell::new(format!("ended: {}", clean(reason))),
            None => tone(Cell::new(format!("unfinished: aehost resume {}", clean(&study.name))), Tone::Bad),
        };
        table.add_row([
            tone(Cell::new(clean(&study.name)), Tone::Bold),
            Cell::new(clean(&study.model)),
            Cell::new(clean(&study.strategy)),
            Cell::new(study.trials),
            Cell::new(study.budget_trials),
            Cell::new(date(study.created_at)),
            state,
        ]);
    }
    align_right(&mut table, [3, 4]);
    finish(&table)
}

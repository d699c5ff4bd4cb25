//! What the terminal views say, at the widths of ordinary terminals.
mod study;

use aehost_report::{Terminal, front_table, timings_table, trial_view};
use aehost_study::{Analysis, TrialId};

#[test]
fn look() {
    let record = study::record();
    let mut trials = study::search(false);
    let a = Analysis::of(&record, &trials);
    println!("{:?}", a.recommended);
    let r = a.recommended.unwrap().trial;
    for id in [TrialId(0), r, a.front[1], a.front[2]] { let c = study::confirm(&trials, id, false); trials.push(c); }
    let a = Analysis::of(&record, &trials);
    for width in [80, 100, 170] {
        println!("{}", front_table(&record, &trials, &a, Terminal { width, color: width == 100 }));
    }
    println!("{}", timings_table(&trials, Terminal { width: 80, color: false }));
    for id in [0, r.0, 9, 14, 24] { println!("{}", trial_view(&record, &trials, &a, TrialId(id), Terminal { width: 80, color: false }).unwrap()); }
}

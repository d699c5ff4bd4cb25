//! The HTML report: it loads nothing, and nothing in a name can become part of it.
mod study;

use aehost_report::html;
use aehost_study::{Analysis, TrialId};

#[test]
fn look() {
    let record = study::record();
    for (name, energy, confirmed) in [("confirmed", false, true), ("screening", true, false)] {
        let mut trials = study::search(energy);
        let analysis = Analysis::of(&record, &trials);
        if confirmed {
            let first = analysis.recommended.unwrap().trial;
            let neighbours = analysis.front.iter().copied().filter(|id| *id != first && id.0 > 0).take(2);
            for id in [TrialId(0), first].into_iter().chain(neighbours) { let c = study::confirm(&trials, id, energy); trials.push(c); }
        }
        let page = html(&record, &trials, &Analysis::of(&record, &trials));
        for (i,(x,y)) in [("latency.e2e","accuracy"),("memory.peak","accuracy drop")].into_iter().enumerate() { for (j,f) in [aehost_report::Fidelity::Screening, aehost_report::Fidelity::Confirmed].into_iter().enumerate() {
          match aehost_report::front_svg(&record, &trials, &Analysis::of(&record, &trials), x, y, f) { Ok(s) => std::fs::write(format!("{}/{name}{i}{j}.svg", env!("CARGO_TARGET_TMPDIR")), s).unwrap(), Err(e) => println!("{e}") }
        }}
        std::fs::write(format!("{}/{name}.html", env!("CARGO_TARGET_TMPDIR")), page).unwrap();
    }
}

//! The peak memory of a configuration is its own: it does not depend on which trials its worker ran before. Confirmations
//! measure configurations again after all the others, in the same worker, which is just the comparison that is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_tests::{Bed, model};
use serde_json::Value;

/// Share by which two measurements of one configuration may differ.
const TOLERANCE: f64 = 0.1;

fn peak(trial: &Value) -> f64 {
    trial["outcome"]["measurements"]["metrics"]["memory.peak_bytes"]["value"].as_f64().unwrap()
}

#[test]
fn peak_memory_does_not_depend_on_the_trials_before() {
    let bed = Bed::of(model::WEIGHTY);
    bed.study(&[("tokens = 256", "tokens = 64")]);
    let mut compared = 0;
    for seed in ["1", "2"] {
        bed.json(&["run", "study.toml", "--study", seed, "--seed", seed, "--confirm"]);
        let show = bed.json(&["show", seed]);
        let trials = show["trials"].as_array().unwrap();
        for later in trials.iter().filter(|trial| !trial["confirms"].is_null()) {
            let first = trials.iter().find(|trial| trial["id"] == later["confirms"]).unwrap();
            let (before, after) = (peak(first), peak(later));
            println!(
                "seed {seed}, trial {}: {:.1} MiB, later {:.1} MiB",
                first["id"],
                before / 1048576.0,
                after / 1048576.0
            );
            assert!(
                (after / before - 1.0).abs() <= TOLERANCE,
                "trial {} of seed {seed} peaked at {before} bytes, and at {after} when it was measured again",
                first["id"]
            );
            compared += 1;
        }
    }
    assert!(compared >= 4, "only {compared} configurations were measured twice");
}

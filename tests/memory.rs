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
#[ignore = "fails about every other run: what glibc keeps of earlier trials adds up to 9 MiB; see MALLOC_MMAP_THRESHOLD_"]
fn peak_memory_does_not_depend_on_the_trials_before() {
    let bed = Bed::of(model::WEIGHTY);
    bed.study(&[("tokens = 256", "tokens = 64")]);
    bed.json(&["run", "study.toml", "--study", "s", "--seed", "1", "--confirm"]);
    let show = bed.json(&["show", "s"]);
    let trials = show["trials"].as_array().unwrap();
    let confirmations = trials.iter().filter(|trial| !trial["confirms"].is_null());
    for later in confirmations.clone() {
        let first = trials.iter().find(|trial| trial["id"] == later["confirms"]).unwrap();
        let (before, after) = (peak(first), peak(later));
        assert!(
            (after / before - 1.0).abs() <= TOLERANCE,
            "trial {} peaked at {before} bytes, and at {after} when it was measured again",
            first["id"]
        );
    }
    assert!(confirmations.count() >= 2, "too few configurations were measured twice");
}

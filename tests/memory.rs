//! The peak memory of a configuration is its own: it depends neither on the trials before it, nor on what making it took.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_tests::{Bed, model};
use serde_json::Value;

/// Share by which two measurements of one configuration may differ.
const SAME: f64 = 0.02;
/// Share of a peak that weights and caches need not explain.
const EXPLAINED: f64 = 0.05;
/// What may come and go besides. Repeats were seen to differ by 2.4 MiB; why is not known.
const MEBIBYTES: f64 = 3.0 * 1_048_576.0;

fn metric(trial: &Value, name: &str) -> f64 {
    trial["outcome"]["measurements"]["metrics"][name]["value"].as_f64().unwrap_or_else(|| panic!("{trial}"))
}

fn peak(trial: &Value) -> f64 {
    metric(trial, "memory.peak_bytes")
}

/// Bytes of the peak that are neither weights nor caches.
fn rest(trial: &Value) -> f64 {
    peak(trial) - metric(trial, "memory.weights_bytes") - metric(trial, "memory.cache_bytes")
}

/// Trials of a study on a model whose weights outweigh what the program itself needs.
fn trials(changes: &[(&str, &str)], words: &[&str]) -> Vec<Value> {
    let bed = Bed::of(model::WEIGHTY);
    bed.study(changes);
    bed.json(&[&["run", "study.toml", "--study", "s"], words].concat());
    let mut show = bed.json(&["show", "s"]);
    show["trials"].as_array_mut().map(std::mem::take).unwrap()
}

/// Confirmations measure configurations again after all the others, which is just the comparison that is needed.
#[test]
fn peak_memory_does_not_depend_on_the_trials_before() {
    let trials = trials(&[("tokens = 256", "tokens = 64")], &["--seed", "1", "--confirm"]);
    let confirmations = trials.iter().filter(|trial| !trial["confirms"].is_null());
    for later in confirmations.clone() {
        let first = trials.iter().find(|trial| trial["id"] == later["confirms"]).unwrap();
        let (before, after) = (peak(first), peak(later));
        assert!(
            (after - before).abs() <= (SAME * before).max(MEBIBYTES),
            "trial {} peaked at {before} bytes, and at {after} when it was measured again",
            first["id"]
        );
    }
    assert!(confirmations.count() >= 2, "too few configurations were measured twice");
}

#[test]
fn peak_memory_is_explained_by_weights_and_caches_however_the_configuration_was_made() {
    let trials = trials(&[("trials = 6", "trials = 10")], &["--seed", "3"]);
    let baseline = rest(&trials[0]);
    let (mut calibrated, mut weighed) = (0, 0);
    for trial in trials[1..].iter().filter(|trial| trial["outcome"]["kind"] == "ok") {
        let configuration = trial["configuration"].to_string();
        calibrated += u32::from(configuration.contains("depth-pruning"));
        weighed += u32::from(configuration.contains(r#""importance":true"#));
        let unexplained = rest(trial) - baseline;
        println!(
            "{:.1} MiB of {:.1} MiB unexplained: {configuration}",
            unexplained / 1048576.0,
            peak(trial) / 1048576.0
        );
        assert!(
            unexplained <= (EXPLAINED * peak(trial)).max(MEBIBYTES),
            "{unexplained} bytes of a peak of {} are neither weights nor caches nor what the baseline needs: {configuration}",
            peak(trial)
        );
    }
    assert!(calibrated >= 2 && weighed >= 2, "{calibrated} trials dropped layers, {weighed} weighed their errors");
}

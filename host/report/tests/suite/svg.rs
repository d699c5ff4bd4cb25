//! The picture of the front: what it shows, and what it answers to metrics that it cannot show.

use crate::study;
use aehost_report::{Fidelity, front_svg};
use aehost_study::Analysis;

fn picture(x: &str, y: &str, fidelity: Fidelity) -> Result<String, String> {
    let record = study::record();
    let trials = study::confirmed(false);
    front_svg(&record, &trials, &Analysis::of(&record, &trials), x, y, fidelity).map_err(|error| error.to_string())
}

#[test]
fn axes_have_units_and_all_kinds_of_points_are_explained() {
    let svg = picture("latency.e2e", "accuracy", Fidelity::Screening).unwrap();
    std::fs::write(format!("{}/front.svg", env!("CARGO_TARGET_TMPDIR")), &svg).unwrap();
    for text in [
        "end-to-end latency (ms), less is better",
        "multiple-choice.acc (%), more is better",
        "recommended",
        "front",
        "baseline",
        "beaten",
        "breaks a constraint",
        "bars: standard error",
    ] {
        assert!(svg.contains(&format!("\n{text}\n")), "{text}");
    }
    assert!(svg.starts_with("<svg width=\"840\" height=\"560\"") && svg.trim_end().ends_with("</svg>"));
}

#[test]
fn trials_of_the_front_carry_their_numbers() {
    let trials = study::confirmed(false);
    let analysis = Analysis::of(&study::record(), &trials);
    let svg = picture("memory.peak", "efficiency score", Fidelity::Screening).unwrap();
    for id in analysis.front.iter().filter(|id| id.0 > 0) {
        assert!(svg.contains(&format!("\n{id}\n")), "trial {id}");
    }
}

#[test]
fn confirmed_figures_are_not_mixed_with_those_of_the_screening() {
    let marks = |fidelity| picture("latency.e2e", "accuracy drop", fidelity).unwrap().matches("<polygon").count();
    // 21 measured trials and 5 marks in the key; 4 confirmed trials and at least 3 marks.
    assert_eq!(marks(Fidelity::Screening), 26);
    assert!((7..=9).contains(&marks(Fidelity::Confirmed)));
}

#[test]
fn metrics_without_figures_are_refused() {
    assert_eq!(
        picture("energy", "accuracy", Fidelity::Screening).unwrap_err(),
        "`energy` was not measured in this study; it has figures for: multiple-choice.acc, latency.e2e_ms, \
         memory.peak_bytes, accuracy.drop, efficiency.score, latency.ttft_ms, latency.tpot_ms, \
         throughput.prefill_tokens_per_s, throughput.decode_tokens_per_s, memory.weights_bytes, memory.cache_bytes, \
         perplexity.token"
    );
    let record = study::record();
    let trials = study::search(false);
    let error =
        front_svg(&record, &trials, &Analysis::of(&record, &trials), "memory.peak", "accuracy", Fidelity::Confirmed);
    assert_eq!(
        error.unwrap_err().to_string(),
        "no trial has confirmed figures for both memory.peak_bytes and multiple-choice.acc"
    );
}

//! Tells a person when the machine was too noisy for a figure to be trusted, and what to do about it (after hyperfine).

use serde::{Deserialize, Serialize};

use crate::statistics::Summary;

/// Runs that differ by more than this share of the median are noisy.
const NOISY_SHARE: f64 = 0.05;
/// A run this many robust deviations from the median is an outlier (hyperfine's threshold).
const OUTLIER_DEVIATIONS: f64 = 10.0;
/// What other programs may use without being noticed.
const BUSY_PROCESSORS: f64 = 0.1;

/// What is doubtful about a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `few-runs`, `noisy`, `outliers`, `slow-first-run`, `busy-machine`.
    pub code: String,
    /// What was seen, and what to do.
    pub message: String,
}

impl Warning {
    fn new(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message }
    }
}

/// What is doubtful about the samples of a quantity that is better when smaller, called `name` in the messages.
pub fn warnings(name: &str, summary: &Summary) -> Vec<Warning> {
    let count = summary.samples.len();
    let mut warnings = Vec::new();
    if count < 3 {
        let message =
            format!("{name} was measured {count} time(s), too few to know its spread: raise the repeats to 5");
        return vec![Warning::new("few-runs", message)];
    }
    let spread = summary.robust_deviation();
    let share = spread / summary.median.abs();
    if share > NOISY_SHARE {
        let message = format!(
            "{name} differs by {:.0} % between runs: close other programs, or raise the repeats",
            100.0 * share
        );
        warnings.push(Warning::new("noisy", message));
    }
    let outlies = |x: f64, deviations: f64| {
        let distance = (x - summary.median).abs();
        distance > deviations * spread && distance > NOISY_SHARE * summary.median.abs()
    };
    let first = summary.samples[0];
    let slow_first = first >= summary.max && first > summary.median && outlies(first, 3.0);
    if slow_first {
        let message = format!(
            "the first run was the slowest ({name} {first:.4}, median {:.4}): raise the warm-up runs",
            summary.median
        );
        warnings.push(Warning::new("slow-first-run", message));
    }
    let others = if slow_first { &summary.samples[1..] } else { &summary.samples[..] };
    let outliers = others.iter().filter(|x| outlies(**x, OUTLIER_DEVIATIONS)).count();
    if outliers > 0 {
        let message = format!(
            "{outliers} of {count} runs of {name} lie far from the others: something else used the machine; \
             measure again when it is quiet"
        );
        warnings.push(Warning::new("outliers", message));
    }
    warnings
}

/// How the message of a busy machine begins.
pub const BUSY: &str = "other programs took";

/// Warns when other programs used so many processors, in the mean, that latencies come out too long.
pub fn busy_machine(processors: f64) -> Option<Warning> {
    (processors > BUSY_PROCESSORS).then(|| {
        let message = format!(
            "{BUSY} {processors:.1} processors while it was measured, so latencies come out too long: measure again when the \
             machine is quiet"
        );
        Warning::new("busy-machine", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(samples: &[f64]) -> Vec<String> {
        warnings("latency", &Summary::of(samples.to_vec()).unwrap()).into_iter().map(|w| w.code).collect()
    }

    #[test]
    fn quiet_runs_raise_no_warning() {
        assert_eq!(codes(&[10.0, 10.1, 9.9, 10.05, 9.95]), [""; 0]);
    }

    #[test]
    fn runs_that_differ_are_called_noisy_with_advice() {
        let summary = Summary::of(vec![10.0, 12.0, 8.0, 11.0, 9.0]).unwrap();
        let found = warnings("latency", &summary);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message,
            "latency differs by 15 % between runs: close other programs, or raise the repeats"
        );
    }

    #[test]
    fn a_slow_first_run_asks_for_warm_up_and_is_no_outlier_besides() {
        assert_eq!(codes(&[20.0, 10.0, 10.1, 9.9, 10.0]), ["slow-first-run"]);
    }

    #[test]
    fn a_run_far_from_the_others_is_an_outlier() {
        assert_eq!(codes(&[10.0, 10.1, 30.0, 9.9, 10.0]), ["outliers"]);
    }

    #[test]
    fn two_runs_are_too_few_to_judge() {
        assert_eq!(codes(&[10.0, 30.0]), ["few-runs"]);
    }

    #[test]
    fn a_busy_machine_is_told_from_a_quiet_one() {
        assert_eq!(busy_machine(0.05), None);
        let warning = busy_machine(0.82).unwrap();
        assert!(warning.code == "busy-machine" && warning.message.starts_with("other programs took 0.8 processors"));
    }
}

use super::*;
use crate::Random;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Row> {
    value.as_array().unwrap().iter().map(|row| numbers(row).into_iter().enumerate().collect()).collect()
}

/// Two scales with a length each, one choice of three levels, one indicator.
fn groups() -> Groups {
    let features = vec![(0, 1.0), (1, 1.0), (2, 0.5), (2, 0.5), (2, 0.5), (3, 1.0)];
    Groups::new(features, vec![true, true, false, false])
}

#[test]
fn predictions_evidence_and_errors_are_those_of_the_reference() {
    let reference = reference();
    let hyper = Hyper { logarithms: numbers(&reference["logarithms"]) };
    let (train, target) = (rows(&reference["rows"]), numbers(&reference["target"]));
    let process = Process::new(&groups(), &train, &target, &numbers(&reference["variances"]), &hyper);
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6 * (1.0 + b.abs());
    assert!(close(process.evidence(), reference["evidence"].as_f64().unwrap()), "{}", process.evidence());
    assert!(close(process.error(), reference["left_out"].as_f64().unwrap()), "{}", process.error());
    let (means, deviations) = (numbers(&reference["means"]), numbers(&reference["deviations"]));
    for (i, row) in rows(&reference["at"]).iter().enumerate() {
        let (mean, deviation) = process.predict(&dense(row, 6));
        assert!(close(mean, means[i]) && close(deviation, deviations[i]), "{i}: {mean} {deviation}");
    }
}

#[test]
fn the_gradient_is_that_of_small_differences() {
    let reference = reference();
    let (train, target) = (rows(&reference["rows"]), numbers(&reference["target"]));
    let data = Data::new(&groups(), &train, &target, &numbers(&reference["variances"]));
    let prior = Hyper::prior(&groups());
    let hyper = Hyper { logarithms: numbers(&reference["logarithms"]) };
    let (_, gradient) = fit::objective(&data, &hyper, &prior);
    for (i, slope) in gradient.iter().enumerate() {
        let at = |away: f64| {
            let mut moved = hyper.clone();
            moved.logarithms[i] += away;
            fit::objective(&data, &moved, &prior).0
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((slope - numeric).abs() < 1e-5 * (1.0 + numeric.abs()), "{i}: {slope} {numeric}");
    }
}

#[test]
fn fitting_finds_what_matters_and_more_likely_hyperparameters() {
    let mut random = Random::new(3);
    let train: Vec<Row> = (0..40).map(|_| (0..2).map(|f| (f, random.unit() - 0.5)).collect()).collect();
    let target: Vec<f64> = train.iter().map(|row| (6.0 * row[0].1).sin() + 0.01 * random.normal()).collect();
    let groups = Groups::new(vec![(0, 1.0), (1, 1.0)], vec![true, true]);
    let prior = Hyper::prior(&groups);
    let before = Process::new(&groups, &train, &target, &vec![0.0; 40], &prior);
    let after = fit(&groups, &train, &target, &vec![0.0; 40], &prior, &Options { steps: 60 });
    assert!(
        after.evidence() > before.evidence() + 5.0 && after.error() < 0.05,
        "{} {}",
        after.evidence(),
        after.error()
    );
    assert!(after.hyper().logarithms[1] > after.hyper().logarithms[0] + 1.0, "{:?}", after.hyper());
}

#[test]
fn rows_that_repeat_and_targets_that_do_not_vary_are_no_trouble() {
    let row: Row = vec![(0, 0.25)];
    let groups = Groups::new(vec![(0, 1.0)], vec![true]);
    let prior = Hyper::prior(&groups);
    let process =
        fit(&groups, &vec![row; 5], &[2.0, 2.0, f64::NAN, 2.0, 2.0], &[0.0; 5], &prior, &Options { steps: 20 });
    let (mean, deviation) = process.predict(&[0.25]);
    assert!((mean - 2.0).abs() < 1e-9 && deviation.is_finite());
    let nothing = fit(&groups, &[], &[], &[], &prior, &Options { steps: 3 });
    assert!(nothing.predict(&[0.0]).1 > 0.9);
}

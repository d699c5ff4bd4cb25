use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1e-12), "{a} is not {b}");
}

fn share(samples: Vec<f64>) -> Measurement {
    Measurement::of_items(samples, vec![], "identity", "share", Direction::Maximize).unwrap()
}

#[test]
fn equal_weights_give_the_textbook_mean_and_error() {
    let estimate = weighted_mean(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], &[]).unwrap();
    assert_eq!(estimate.value, 5.0);
    close(estimate.standard_error, (32.0 / 7.0 / 8.0f64).sqrt(), 1e-12);
    let weighted = weighted_mean(&[2.0, 4.0, 9.0], &[3.0, 3.0, 3.0]).unwrap();
    close(weighted.standard_error, weighted_mean(&[2.0, 4.0, 9.0], &[]).unwrap().standard_error, 1e-12);
    assert_eq!(weighted_mean(&[1.0, 4.0], &[3.0, 1.0]).unwrap().value, 1.75);
    assert_eq!(weighted_mean(&[], &[]), None);
    assert_eq!(weighted_mean(&[1.0], &[1.0, 2.0]), None);
}

#[test]
fn percentiles_interpolate() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    close(percentile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.9).unwrap(), 4.6, 1e-12);
    assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
    assert_eq!(median(&[]), None);
}

/// The spread of an estimator over many draws of items, which its standard error should predict.
fn spread(draws: usize, mut estimator: impl FnMut(&mut StdRng) -> (f64, f64)) -> (f64, f64) {
    let mut random = StdRng::seed_from_u64(5);
    let results: Vec<(f64, f64)> = (0..draws).map(|_| estimator(&mut random)).collect();
    let mean = results.iter().map(|r| r.0).sum::<f64>() / draws as f64;
    let variance = results.iter().map(|r| (r.0 - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
    (variance.sqrt(), results.iter().map(|r| r.1).sum::<f64>() / draws as f64)
}

#[test]
fn standard_errors_predict_the_spread_of_repeated_draws() {
    let perplexity = |random: &mut StdRng| {
        let weights: Vec<f64> = (0..60).map(|_| random.random_range(100..600) as f64).collect();
        let base: Vec<f64> = (0..60).map(|_| 3.0 + random.random_range(-0.8..0.8)).collect();
        let trial = base.iter().map(|b| b + 0.05 + random.random_range(-0.1..0.1)).collect();
        let of = |s| Measurement::of_items(s, weights.clone(), "exp", "", Direction::Minimize).unwrap();
        (of(base), of(trial))
    };
    let (observed, predicted) = spread(4000, |random| {
        let m = perplexity(random).0;
        (m.value, m.standard_error)
    });
    close(predicted, observed, 0.05);
    let (observed, predicted) = spread(4000, |random| {
        let (b, x) = perplexity(random);
        let drop = accuracy_drop(&b, &x).unwrap().percent;
        (drop.value, drop.standard_error)
    });
    close(predicted, observed, 0.05);
    let accuracy = |random: &mut StdRng| {
        let base: Vec<f64> = (0..200).map(|_| f64::from(random.random_bool(0.4))).collect();
        let trial = base.iter().map(|b| if random.random_bool(0.1) { 1.0 - b } else { *b }).collect();
        (share(base), share(trial))
    };
    for metric in [0, 1] {
        let (observed, predicted) = spread(4000, |random| {
            let (b, x) = accuracy(random);
            let c = compare(&b, &x).unwrap();
            let e = if metric == 0 { c.ratio } else { c.difference };
            (e.value, e.standard_error)
        });
        close(predicted, observed, 0.05);
    }
}

#[test]
fn a_drop_is_relative_to_the_baseline_and_knows_the_direction() {
    let (base, trial) = (share(vec![1.0, 1.0, 1.0, 1.0, 0.0]), share(vec![1.0, 1.0, 1.0, 0.0, 0.0]));
    let drop = accuracy_drop(&base, &trial).unwrap();
    close(drop.percent.value, 25.0, 1e-12);
    assert!(drop.paired && drop.interval[0] < 25.0 && drop.interval[1] > 25.0);
    assert_eq!(drop.items, 5);
    let of = |s| Measurement::of_items(s, vec![], "exp", "", Direction::Minimize).unwrap();
    let worse = accuracy_drop(&of(vec![1.0, 2.0]), &of(vec![1.0, 2.2])).unwrap();
    close(worse.percent.value, 100.0 * (0.1f64.exp() - 1.0), 1e-9);
    assert_eq!(
        accuracy_drop(&base, &base).unwrap().percent,
        Estimate { value: 0.0, standard_error: 0.0, degrees: 4.0 }
    );
}

#[test]
fn no_loss_is_zero_without_a_sign() {
    for samples in [vec![1.0, 0.0, 1.0], vec![1.0, 1.0, 1.0]] {
        let drop = accuracy_drop(&share(samples.clone()), &share(samples)).unwrap();
        assert_eq!(serde_json::to_value(drop).unwrap()["percent"]["value"].to_string(), "0.0");
    }
}

#[test]
fn a_smaller_run_is_paired_with_the_first_items_of_a_larger_one() {
    let base = share(vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let drop = accuracy_drop(&base, &share(vec![1.0, 0.0, 0.0])).unwrap();
    close(drop.percent.value, 50.0, 1e-12);
    assert_eq!((drop.items, drop.paired), (3, true));
}

#[test]
fn a_baseline_of_zero_has_no_drop() {
    assert_eq!(accuracy_drop(&share(vec![0.0, 0.0]), &share(vec![1.0, 0.0])), None);
}

#[test]
fn values_without_samples_are_compared_as_independent() {
    let mut base = Measurement::exact(10.0, "", Direction::Minimize);
    base.standard_error = 0.3;
    let mut trial = Measurement::exact(12.0, "", Direction::Minimize);
    trial.standard_error = 0.4;
    let c = compare(&base, &trial).unwrap();
    assert!(!c.paired);
    close(c.difference.standard_error, 0.5, 1e-12);
    close(c.ratio.standard_error, (0.036f64.powi(2) + 0.04f64.powi(2)).sqrt(), 1e-9);
}

#[test]
fn probabilities_follow_from_the_error() {
    let estimate = Estimate { value: 1.0, standard_error: 1.0, degrees: 1.0 };
    close(estimate.probability_at_most(2.0), 0.75, 1e-9);
    let exact = Estimate { standard_error: 0.0, ..estimate };
    assert_eq!((exact.probability_at_most(1.0), exact.probability_at_most(0.9)), (1.0, 0.0));
}

#[test]
fn results_that_are_not_finite_are_no_measurement() {
    assert_eq!(Measurement::of_items(vec![f64::NAN], vec![], "identity", "", Direction::Minimize), None);
    assert_eq!(Measurement::of_items(vec![1e4, 1e4], vec![], "exp", "", Direction::Minimize), None);
}

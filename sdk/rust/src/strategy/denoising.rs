//! Noisy metrics, estimated with the help of metrics that are told beside them: what an accuracy on a few questions says badly, a
//! divergence or a perplexity of the same trial often says well.
//!
//! Each value is moved towards a regression on the best of those, the further the noisier it is and the better the regression
//! fits (Fay, Herriot: Estimates of Income for Small Places, JASA 1979).

use super::MetricValue;

/// Fewer trials tell nothing about how metrics go together.
const LEAST: usize = 6;
/// A regression must err less than the mean does, by this factor of the mean squares, or nothing is changed.
const BETTER: f64 = 0.8;
/// A metric is no help whose own noise is more than this share of its variance.
const CLEAN: f64 = 0.05;
/// What a regression misses is at least this share of what it is seen to miss: noise that trials share hides the rest.
const MISSED: f64 = 0.1;

/// A value and its standard error; the value is not a number where it is missing.
pub type Told = (f64, f64);

/// What was not told.
pub const MISSING: Told = (f64::NAN, 0.0);

/// What a trial's values say of a metric.
pub fn told(values: &[MetricValue], metric: &str) -> Option<Told> {
    let found = values.iter().find(|v| v.metric == metric && v.value.is_finite())?;
    Some((found.value, if found.standard_error.is_finite() { found.standard_error.max(0.0) } else { 0.0 }))
}

/// Whether a metric is one of quality, and may help others: what the host measures of a configuration at work has little to do
/// with how well it answers.
pub fn of_quality(metric: &str) -> bool {
    !["latency.", "memory.", "energy.", "throughput."].iter().any(|family| metric.starts_with(family))
}

/// A metric's values with less noise, and what their standard errors are then; as they are where nothing helps. `others` are metrics
/// of the same trials, the baseline first.
pub fn denoise(values: &[Told], others: &[Vec<Told>]) -> Vec<Told> {
    let known: Vec<usize> = (0..values.len()).filter(|i| values[*i].0.is_finite()).collect();
    let noise = mean(known.iter().map(|i| values[*i].1.powi(2)));
    if known.len() < LEAST || noise <= 0.0 {
        return values.to_vec();
    }
    let target: Vec<f64> = known.iter().map(|i| values[*i].0).collect();
    let at_hand = |other: &&Vec<Told>| known.iter().all(|i| other[*i].0.is_finite());
    let fits = others.iter().filter(at_hand).flat_map(|other| {
        let told: Vec<Told> = known.iter().map(|i| other[*i]).collect();
        forms(&told).into_iter().filter_map(|form| Line::fit(&form, &target))
    });
    let Some(best) = fits.min_by(|a, b| a.missed().total_cmp(&b.missed())) else { return values.to_vec() };
    // Without the regression each value would be predicted by the mean of the others.
    let count = target.len() as f64;
    let center = mean(target.iter().copied());
    let spread = mean(target.iter().map(|y| ((y - center) * count / (count - 1.0)).powi(2)));
    if best.missed() > BETTER * spread {
        return values.to_vec();
    }
    let missed = (best.missed() - noise).max(MISSED * best.missed());
    let mut estimates = values.to_vec();
    for (i, fitted) in known.into_iter().zip(&best.fitted) {
        let (value, error) = values[i];
        let own = missed / (missed + error * error);
        estimates[i] = (fitted + own * (value - fitted), error * own.sqrt());
    }
    estimates
}

/// The forms in which a metric may go together with another in a line: as it is, the root of its distance from the baseline, and
/// its rank. None where it is too noisy itself, or always the same.
fn forms(told: &[Told]) -> Vec<Vec<f64>> {
    let plain: Vec<f64> = told.iter().map(|(value, _)| *value).collect();
    let center = mean(plain.iter().copied());
    let variance = mean(plain.iter().map(|x| (x - center).powi(2)));
    if variance <= 0.0 || mean(told.iter().map(|(_, error)| error * error)) > CLEAN * variance {
        return Vec::new();
    }
    let root = plain.iter().map(|x| (x - plain[0]).abs().sqrt().copysign(x - plain[0])).collect();
    let rank = |x: &f64| {
        plain
            .iter()
            .map(|y| {
                if y < x {
                    1.0
                } else if y == x {
                    0.5
                } else {
                    0.0
                }
            })
            .sum()
    };
    let ranks = plain.iter().map(rank).collect();
    vec![plain, root, ranks]
}

/// A line through points.
struct Line {
    fitted: Vec<f64>,
    /// Of each point how far a line through all others misses it.
    left_out: Vec<f64>,
}

impl Line {
    fn fit(x: &[f64], y: &[f64]) -> Option<Self> {
        let count = x.len() as f64;
        let (x_mean, y_mean) = (mean(x.iter().copied()), mean(y.iter().copied()));
        let squares: f64 = x.iter().map(|x| (x - x_mean).powi(2)).sum();
        if squares <= 0.0 || !squares.is_finite() {
            return None;
        }
        let slope = x.iter().zip(y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / squares;
        let fitted: Vec<f64> = x.iter().map(|x| y_mean + slope * (x - x_mean)).collect();
        let leverage = |x: &f64| 1.0 / count + (x - x_mean).powi(2) / squares;
        let left_out = x.iter().zip(y).zip(&fitted).map(|((x, y), fit)| (y - fit) / (1.0 - leverage(x)).max(1e-6));
        Some(Self { left_out: left_out.collect(), fitted })
    }

    /// Mean square of what is missed of points left out.
    fn missed(&self) -> f64 {
        mean(self.left_out.iter().map(|error| error * error))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / f64::max(count, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Trials whose true accuracy falls with the root of a divergence, measured with an error of 3 points, with the divergence and
    /// something that has nothing to do with it.
    fn trials(random: &mut Random, count: usize) -> (Vec<f64>, Vec<Told>, Vec<Told>, Vec<Told>) {
        let divergence: Vec<f64> =
            (0..count).map(|i| if i == 0 { 0.0 } else { 1e-3 * 1e3f64.powf(random.unit()) }).collect();
        let truth: Vec<f64> = divergence.iter().map(|kl| 32.0 - 8.0 * kl.sqrt() + 0.3 * random.normal()).collect();
        let measured = truth.iter().map(|accuracy| (accuracy + 3.0 * random.normal(), 3.0)).collect();
        let clean = divergence.iter().map(|kl| (*kl, 0.02 * kl)).collect();
        let apart = (0..count).map(|_| (random.normal(), 0.0)).collect();
        (truth, measured, clean, apart)
    }

    fn error(of: &[Told], truth: &[f64]) -> f64 {
        mean(of.iter().zip(truth).map(|((value, _), truth)| (value - truth).powi(2)))
    }

    #[test]
    fn a_clean_metric_takes_the_noise_from_one_that_follows_it() {
        let mut random = Random::new(3);
        let (mut raw, mut helped, mut alone) = (0.0, 0.0, 0.0);
        for _ in 0..200 {
            let (truth, measured, clean, apart) = trials(&mut random, 16);
            raw += error(&measured, &truth) / 200.0;
            helped += error(&denoise(&measured, &[apart.clone(), clean]), &truth) / 200.0;
            alone += error(&denoise(&measured, &[apart]), &truth) / 200.0;
        }
        assert!(helped < 0.6 * raw, "mean square {helped} instead of {raw}");
        assert!(alone < 1.02 * raw, "what has nothing to do with it does harm: {alone} instead of {raw}");
    }

    #[test]
    fn what_is_exact_noisy_itself_missing_or_too_little_changes_nothing() {
        let mut random = Random::new(4);
        let (_, measured, clean, _) = trials(&mut random, 16);
        let exact: Vec<Told> = measured.iter().map(|(value, _)| (*value, 0.0)).collect();
        assert_eq!(denoise(&exact, std::slice::from_ref(&clean)), exact);
        let noisy: Vec<Told> = clean.iter().map(|(value, _)| (*value, 1.0)).collect();
        assert_eq!(denoise(&measured, &[noisy]), measured);
        let mut lacking = clean.clone();
        lacking[3].0 = f64::NAN;
        assert_eq!(denoise(&measured, &[lacking]), measured);
        assert_eq!(denoise(&measured[..5], &[clean[..5].to_vec()]), measured[..5]);
        let same = vec![(1.0, 0.0); 16];
        assert_eq!(denoise(&measured, &[same]), measured);
    }
}

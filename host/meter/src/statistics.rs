//! Statistics of repeated measurements: order statistics, because run times have a floor and a long tail. The raw samples
//! stay in the result.

use serde::{Deserialize, Serialize};

/// Makes the median absolute deviation of normal data equal to its standard deviation.
const NORMAL_MAD: f64 = 1.482_602_218_505_602;

/// Repeats of one quantity; the unit is in the name of the field that holds the summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// One figure a run, in the order of the runs.
    pub samples: Vec<f64>,
    /// The middle of the samples; the figure to compare.
    pub median: f64,
    /// Sum over count.
    pub mean: f64,
    /// Half of the events took at most this. Events are the samples, unless the quantity has finer ones (see
    /// [`Summary::with_events`]).
    pub p50: f64,
    /// Nine tenths of the events took at most this.
    pub p90: f64,
    /// 99 in 100 events took at most this.
    pub p99: f64,
    /// The smallest sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
    /// Of the samples, with n - 1; none with fewer than two.
    pub standard_deviation: Option<f64>,
    /// Of the median, without assuming a distribution: see [`standard_error_of_median`]. None with fewer than two samples.
    pub standard_error: Option<f64>,
}

impl Summary {
    /// Summarises samples; none when there are none, or when one is not finite.
    pub fn of(samples: Vec<f64>) -> Option<Self> {
        Self::build(samples, None)
    }

    /// Summarises samples whose p50, p90 and p99 come from finer `events`: the time per token of a run is one sample, and
    /// the gaps between its tokens are the events.
    pub fn with_events(samples: Vec<f64>, events: Vec<f64>) -> Option<Self> {
        Self::build(samples, Some(events))
    }

    fn build(samples: Vec<f64>, events: Option<Vec<f64>>) -> Option<Self> {
        let sorted = sorted(samples.clone())?;
        let events = match events {
            Some(events) => self::sorted(events)?,
            None => sorted.clone(),
        };
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let standard_deviation =
            (sorted.len() > 1).then(|| (sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt());
        Some(Self {
            median: quantile(&sorted, 0.5),
            mean,
            p50: quantile(&events, 0.5),
            p90: quantile(&events, 0.9),
            p99: quantile(&events, 0.99),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            standard_deviation,
            standard_error: standard_error_of_median(&sorted),
            samples,
        })
    }

    /// The median absolute deviation from the median, scaled to the standard deviation of normal data: the usual distance
    /// of a run from the median, whatever the outliers do.
    pub fn robust_deviation(&self) -> f64 {
        let distances = self.samples.iter().map(|x| (x - self.median).abs()).collect();
        NORMAL_MAD * quantile(&sorted(distances).expect("a summary has finite samples"), 0.5)
    }

    /// Standard error of the median as a share of the median.
    pub fn relative_error(&self) -> Option<f64> {
        self.standard_error.filter(|_| self.median != 0.0).map(|error| error / self.median.abs())
    }
}

fn sorted(mut samples: Vec<f64>) -> Option<Vec<f64>> {
    if samples.is_empty() || samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    samples.sort_by(f64::total_cmp);
    Some(samples)
}

/// Quantile of sorted samples, linear between neighbours (Hyndman and Fan, type 7; the default of NumPy and R).
///
/// # Panics
/// When `sorted` is empty.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Standard error of the median of sorted samples, from the width of a distribution-free confidence interval: the
/// interval between the c-th smallest and c-th largest sample covers the median with a probability that the binomial
/// distribution gives exactly; c is chosen for about 95 %. (Price and Bonett, "Estimating the variance of the sample
/// median", Journal of Statistical Computation and Simulation 68, 2001.) With few samples it errs towards too much, by up to
/// a quarter. None with fewer than two samples.
pub fn standard_error_of_median(sorted: &[f64]) -> Option<f64> {
    let count = sorted.len();
    if count < 2 {
        return None;
    }
    let n = count as f64;
    let c = ((n + 1.0) / 2.0 - n.sqrt()).round().max(1.0) as usize;
    // P(fewer than c of n samples fall below the median), summed in logarithms because 0.5^n underflows.
    let mut term = -n * std::f64::consts::LN_2;
    let mut outside = term.exp();
    for i in 1..c {
        term += ((n - i as f64 + 1.0) / i as f64).ln();
        outside += term.exp();
    }
    Some((sorted[count - c] - sorted[c - 1]) / (2.0 * -normal_quantile(outside)))
}

/// Inverse of the standard normal distribution for 0 < p <= 0.5, to 4.5e-4 (Abramowitz and Stegun, 26.2.23).
fn normal_quantile(p: f64) -> f64 {
    let t = (-2.0 * p.ln()).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    numerator / denominator - t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers in [0, 1) (splitmix64).
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(state: &mut u64) -> f64 {
        let radius = (-2.0 * (1.0 - uniform(state)).ln()).sqrt();
        radius * (std::f64::consts::TAU * uniform(state)).cos()
    }

    #[test]
    fn a_summary_of_known_numbers_is_what_numpy_gives() {
        let summary = Summary::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(summary.samples, [4.0, 1.0, 3.0, 2.0]);
        assert_eq!((summary.median, summary.mean, summary.min, summary.max), (2.5, 2.5, 1.0, 4.0));
        assert!((summary.p90 - 3.7).abs() < 1e-12);
        assert!((summary.p99 - 3.97).abs() < 1e-12);
        assert!((summary.standard_deviation.unwrap() - 1.290_994_448_735_805_6).abs() < 1e-12);
        assert!((summary.robust_deviation() - NORMAL_MAD).abs() < 1e-12);
    }

    #[test]
    fn one_sample_has_no_spread_rather_than_a_spread_of_zero() {
        let summary = Summary::of(vec![7.0]).unwrap();
        assert_eq!((summary.median, summary.p99), (7.0, 7.0));
        assert_eq!((summary.standard_deviation, summary.standard_error, summary.relative_error()), (None, None, None));
    }

    #[test]
    fn no_samples_or_a_sample_that_is_no_number_has_no_summary() {
        assert_eq!(Summary::of(vec![]), None);
        assert_eq!(Summary::of(vec![1.0, f64::NAN]), None);
        assert_eq!(Summary::with_events(vec![1.0], vec![]), None);
    }

    #[test]
    fn quantiles_agree_with_counting() {
        let mut state = 5;
        for count in 1..60 {
            let mut values: Vec<f64> = (0..count).map(|_| uniform(&mut state)).collect();
            values.sort_by(f64::total_cmp);
            for share in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
                let q = quantile(&values, share);
                let place = share * (count - 1) as f64;
                let strictly_below = values.iter().filter(|x| **x < q - 1e-15).count();
                let at_most = values.iter().filter(|x| **x <= q + 1e-15).count();
                assert!(strictly_below <= place.ceil() as usize, "{count} {share}");
                assert!(at_most > place.floor() as usize, "{count} {share}");
            }
        }
    }

    #[test]
    fn quantiles_of_finer_events_leave_the_median_of_the_samples_alone() {
        let summary = Summary::with_events(vec![1.0, 3.0], (0..=100).map(f64::from).collect()).unwrap();
        assert_eq!((summary.median, summary.p50, summary.p90, summary.p99), (2.0, 50.0, 90.0, 99.0));
    }

    #[test]
    fn standard_error_of_the_median_agrees_with_repeated_drawing() {
        let mut state = 11;
        for (count, tolerance) in [(5, 0.25), (10, 0.25), (31, 0.15), (200, 0.1), (2000, 0.1)] {
            let draws = if count > 1000 { 300 } else { 2000 };
            let (mut medians, mut errors) = (Vec::new(), Vec::new());
            for _ in 0..draws {
                let values = sorted((0..count).map(|_| 10.0 + normal(&mut state)).collect()).unwrap();
                medians.push(quantile(&values, 0.5));
                errors.push(standard_error_of_median(&values).unwrap());
            }
            let truth = Summary::of(medians).unwrap().standard_deviation.unwrap();
            let said = errors.iter().sum::<f64>() / errors.len() as f64;
            assert!((-0.1..tolerance).contains(&(said / truth - 1.0)), "{count}: said {said}, truth {truth}");
        }
    }

    #[test]
    fn normal_quantile_matches_the_table() {
        for (p, z) in [(0.5, 0.0), (0.25, -0.674_490), (0.158_655, -1.0), (0.025, -1.959_964), (0.001, -3.090_232)] {
            assert!((normal_quantile(p) - z).abs() < 5e-4, "{p}");
        }
    }
}

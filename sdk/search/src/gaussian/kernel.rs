//! Covariances of mixed features in groups.

const ROOT5: f64 = 2.236_067_977_499_79;

/// Which features share a length scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// Of each feature its group, and the weight of a difference: of the two features in which two levels of an unordered
    /// choice differ each counts half.
    features: Vec<(usize, f64)>,
    /// Of each group whether its features are scales.
    scales: Vec<bool>,
}

impl Groups {
    /// Features by group and weight, and of each group whether its features are scales, as opposed to indicators.
    pub fn new(features: Vec<(usize, f64)>, scales: Vec<bool>) -> Self {
        Self { features, scales }
    }

    /// How many features there are.
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// How many groups there are.
    pub fn count(&self) -> usize {
        self.scales.len()
    }

    /// By group the sum of squares of differences of scales, or of weighted differences of indicators.
    fn differences(&self, a: &[f64], b: &[f64], into: &mut [f64]) {
        into.fill(0.0);
        for ((a, b), (group, weight)) in a.iter().zip(b).zip(&self.features) {
            if a != b {
                let difference = a - b;
                into[*group] += weight * if self.scales[*group] { difference * difference } else { difference.abs() };
            }
        }
    }
}

/// Hyperparameters, by their logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyper {
    /// Logarithms of the length scales of all groups, of the signal's variance, and of the noise's variance.
    pub logarithms: Vec<f64>,
}

impl Hyper {
    /// Where fitting begins: what is expected before anything is known.
    pub fn prior(groups: &Groups) -> Self {
        let count = groups.count() as f64;
        // With many groups each matters less.
        let length = |scale: &bool| if *scale { 0.5 * count.sqrt() } else { count };
        let mut logarithms: Vec<f64> = groups.scales.iter().map(|scale| length(scale).ln()).collect();
        logarithms.extend([0.0, (0.01f64).ln()]);
        Self { logarithms }
    }

    /// Variance of the signal.
    pub fn signal(&self) -> f64 {
        self.logarithms[self.logarithms.len() - 2].exp()
    }

    /// Variance of the noise.
    pub fn noise(&self) -> f64 {
        self.logarithms[self.logarithms.len() - 1].exp()
    }
}

/// A covariance function.
pub struct Kernel<'a> {
    groups: &'a Groups,
    /// Of each feature the group's inverse length, squared for scales, times its weight.
    rates: Vec<f64>,
    inverses: Vec<f64>,
    signal: f64,
}

impl<'a> Kernel<'a> {
    /// With these hyperparameters.
    pub fn new(groups: &'a Groups, hyper: &Hyper) -> Self {
        let inverse = |(scale, log): (&bool, &f64)| if *scale { (-2.0 * log).exp() } else { (-log).exp() };
        let inverses: Vec<f64> = groups.scales.iter().zip(&hyper.logarithms).map(inverse).collect();
        let rates = groups.features.iter().map(|(group, weight)| weight * inverses[*group]).collect();
        Self { groups, rates, inverses, signal: hyper.signal() }
    }

    /// Covariance of two rows.
    pub fn between(&self, a: &[f64], b: &[f64]) -> f64 {
        let (mut square, mut sum) = (0.0, 0.0);
        for (((a, b), (group, _)), rate) in a.iter().zip(b).zip(&self.groups.features).zip(&self.rates) {
            if a != b {
                let difference = a - b;
                if self.groups.scales[*group] {
                    square += rate * difference * difference;
                } else {
                    sum += rate * difference.abs();
                }
            }
        }
        self.signal * matern(square.sqrt()) * (-sum).exp()
    }

    /// Covariance by differences of groups; `slope` receives what the covariance's derivatives by the logarithms of scales'
    /// lengths are, divided by each group's own share.
    pub fn by_groups(&self, differences: &[f64]) -> (f64, f64) {
        let (mut square, mut sum) = (0.0, 0.0);
        for ((difference, inverse), scale) in differences.iter().zip(&self.inverses).zip(&self.groups.scales) {
            if *scale {
                square += difference * inverse;
            } else {
                sum += difference * inverse;
            }
        }
        let distance = square.sqrt();
        let rest = self.signal * (-sum).exp();
        let slope = 5.0 / 3.0 * (1.0 + ROOT5 * distance) * (-ROOT5 * distance).exp();
        (rest * matern(distance), rest * slope)
    }

    /// Derivatives of a covariance by the logarithm of each group's length, given what [`Kernel::by_groups`] gave.
    pub fn derivative(&self, group: usize, difference: f64, (value, slope): (f64, f64)) -> f64 {
        difference * self.inverses[group] * if self.groups.scales[group] { slope } else { value }
    }
}

fn matern(distance: f64) -> f64 {
    (1.0 + ROOT5 * distance + 5.0 / 3.0 * distance * distance) * (-ROOT5 * distance).exp()
}

/// Differences of all pairs of rows, by group.
pub struct Differences {
    count: usize,
    /// Row after row of the lower triangle without the diagonal, all groups of a pair together.
    pairs: Vec<f64>,
}

impl Differences {
    /// Of these rows.
    pub fn new(groups: &Groups, rows: &[Vec<f64>]) -> Self {
        let count = groups.count();
        let mut pairs = vec![0.0; count * rows.len() * rows.len().saturating_sub(1) / 2];
        let mut at = 0;
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                groups.differences(a, b, &mut pairs[at..at + count]);
                at += count;
            }
        }
        Self { count, pairs }
    }

    /// Of rows i and j < i.
    pub fn pair(&self, i: usize, j: usize) -> &[f64] {
        &self.pairs[(i * (i - 1) / 2 + j) * self.count..][..self.count]
    }
}

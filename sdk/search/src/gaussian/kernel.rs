//! Covariances of mixed features in groups.

const ROOT5: f64 = 2.236_067_977_499_79;
/// Variance of a linear weight where there is no linear part to speak of, in variances of the target.
const NO_LINEAR: f64 = 1e-7;

/// Which features share a length scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// Of each feature its group, and the weight of a difference: of the two features in which two levels of an unordered
    /// choice differ each counts half.
    features: Vec<(usize, f64)>,
    /// Of each group whether its features are scales.
    scales: Vec<bool>,
    /// Variance of a linear weight before anything is known, in variances of the target.
    linear: f64,
}

impl Groups {
    /// Features by group and weight, and of each group whether its features are scales, as opposed to indicators.
    pub fn new(features: Vec<(usize, f64)>, scales: Vec<bool>) -> Self {
        Self { features, scales, linear: NO_LINEAR }
    }

    /// The same where what features do is expected to add up; `linear` is the variance of a feature's weight before anything is
    /// known, in variances of the target.
    #[must_use]
    pub fn additive(self, linear: f64) -> Self {
        Self { linear, ..self }
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
    /// Logarithms of the length scales of all groups, of the signal's variance, of the noise's variance, and of the variance of
    /// the weights of the linear part.
    pub logarithms: Vec<f64>,
}

impl Hyper {
    /// Where fitting begins: what is expected before anything is known.
    pub fn prior(groups: &Groups) -> Self {
        let count = groups.count() as f64;
        // With many groups each matters less.
        let length = |scale: &bool| if *scale { 0.5 * count.sqrt() } else { count };
        let mut logarithms: Vec<f64> = groups.scales.iter().map(|scale| length(scale).ln()).collect();
        logarithms.extend([0.0, (0.01f64).ln(), groups.linear.ln()]);
        Self { logarithms }
    }

    /// Variance of the signal.
    pub fn signal(&self) -> f64 {
        self.logarithms[self.logarithms.len() - 3].exp()
    }

    /// Variance of the noise.
    pub fn noise(&self) -> f64 {
        self.logarithms[self.logarithms.len() - 2].exp()
    }

    /// Variance of a weight of the linear part.
    pub fn linear(&self) -> f64 {
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
    linear: f64,
}

impl<'a> Kernel<'a> {
    /// With these hyperparameters.
    pub fn new(groups: &'a Groups, hyper: &Hyper) -> Self {
        let inverse = |(scale, log): (&bool, &f64)| if *scale { (-2.0 * log).exp() } else { (-log).exp() };
        let inverses: Vec<f64> = groups.scales.iter().zip(&hyper.logarithms).map(inverse).collect();
        let rates = groups.features.iter().map(|(group, weight)| weight * inverses[*group]).collect();
        Self { groups, rates, inverses, signal: hyper.signal(), linear: hyper.linear() }
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
        self.signal * matern(square.sqrt()) * (-sum).exp() + self.linear * inner(a, b)
    }

    /// Variance of a row.
    pub fn at(&self, row: &[f64]) -> f64 {
        self.signal + self.linear * inner(row, row)
    }

    /// What is not linear of a covariance, by differences of groups; `slope` receives what the covariance's derivatives by the logarithms of scales'
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

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn matern(distance: f64) -> f64 {
    (1.0 + ROOT5 * distance + 5.0 / 3.0 * distance * distance) * (-ROOT5 * distance).exp()
}

/// Differences of all pairs of rows, by group, and their inner products.
pub struct Differences {
    count: usize,
    /// Row after row of the lower triangle without the diagonal, all groups of a pair together.
    pairs: Vec<f64>,
    /// Row after row of the lower triangle.
    inner: Vec<f64>,
}

impl Differences {
    /// Of these rows.
    pub fn new(groups: &Groups, rows: &[Vec<f64>]) -> Self {
        let count = groups.count();
        let mut pairs = vec![0.0; count * rows.len() * rows.len().saturating_sub(1) / 2];
        let mut inners = Vec::with_capacity(rows.len() * (rows.len() + 1) / 2);
        let mut at = 0;
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                groups.differences(a, b, &mut pairs[at..at + count]);
                at += count;
            }
            inners.extend(rows[..=i].iter().map(|b| inner(a, b)));
        }
        Self { count, pairs, inner: inners }
    }

    /// Inner product of rows i and j <= i.
    pub fn inner(&self, i: usize, j: usize) -> f64 {
        self.inner[i * (i + 1) / 2 + j]
    }

    /// Of rows i and j < i.
    pub fn pair(&self, i: usize, j: usize) -> &[f64] {
        &self.pairs[(i * (i - 1) / 2 + j) * self.count..][..self.count]
    }
}

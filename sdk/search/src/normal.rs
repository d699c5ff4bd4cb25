//! The standard normal distribution, and what is expected of quantities that follow it or whose logarithm does.

/// Density.
pub fn density(x: f64) -> f64 {
    const INVERSE_ROOT_TAU: f64 = 0.398_942_280_401_432_7;
    INVERSE_ROOT_TAU * (-0.5 * x * x).exp()
}

/// Probability of less than `x`, to 1e-14 (Hart 1968, as given by West: Better Approximations to Cumulative Normal Functions,
/// Wilmott 2005).
pub fn probability(x: f64) -> f64 {
    const ABOVE: [f64; 7] = [
        3.526_249_659_989_11e-2,
        0.700_383_064_443_688,
        6.373_962_203_531_65,
        33.912_866_078_383,
        112.079_291_497_871,
        221.213_596_169_931,
        220.206_867_912_376,
    ];
    const BELOW: [f64; 8] = [
        8.838_834_764_831_84e-2,
        1.755_667_163_182_64,
        16.064_177_579_207,
        86.780_732_202_946_1,
        296.564_248_779_674,
        637.333_633_378_831,
        793.826_512_519_948,
        440.413_735_824_752,
    ];
    let size = x.abs();
    let tail = if size.is_nan() {
        return f64::NAN;
    } else if size > 37.0 {
        0.0
    } else {
        let falling = (-0.5 * size * size).exp();
        if size < 7.071_067_811_865_47 {
            let polynomial = |of: &[f64]| of.iter().fold(0.0, |sum, c| sum * size + c);
            falling * polynomial(&ABOVE) / polynomial(&BELOW)
        } else {
            let fraction = size + 1.0 / (size + 2.0 / (size + 3.0 / (size + 4.0 / (size + 0.65))));
            falling / fraction / 2.506_628_274_631
        }
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// What is believed of a quantity that was not measured: it, or its logarithm, is normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Belief {
    /// Mean, of the logarithm if `log`.
    pub mean: f64,
    /// Standard deviation, of the logarithm if `log`.
    pub deviation: f64,
    /// Whether the logarithm is normal.
    pub log: bool,
}

impl Belief {
    /// Probability that the quantity is at most `bound`.
    pub fn at_most(&self, bound: f64) -> f64 {
        let bound = if !self.log {
            bound
        } else if bound > 0.0 {
            bound.ln()
        } else {
            return 0.0;
        };
        if self.deviation > 0.0 {
            probability((bound - self.mean) / self.deviation)
        } else {
            f64::from(u8::from(self.mean <= bound))
        }
    }

    /// Expectation of how far the quantity stays below `bound`, 0 where it does not.
    pub fn below(&self, bound: f64) -> f64 {
        if self.log {
            return self.below_of_logarithm(bound);
        }
        let room = bound - self.mean;
        if self.deviation <= 0.0 {
            return room.max(0.0);
        }
        let z = room / self.deviation;
        if z > 8.0 {
            return room;
        }
        if z < -8.0 {
            return 0.0;
        }
        (room * probability(z) + self.deviation * density(z)).max(0.0)
    }

    /// The same where the logarithm is normal (the formula by which a put option is priced).
    fn below_of_logarithm(&self, bound: f64) -> f64 {
        if bound <= 0.0 {
            return 0.0;
        }
        let room = bound.ln() - self.mean;
        if self.deviation <= 0.0 {
            return (bound - self.mean.exp()).max(0.0);
        }
        let z = room / self.deviation;
        if z < -8.0 {
            return 0.0;
        }
        let expected = (self.mean + 0.5 * self.deviation * self.deviation).exp();
        (bound * probability(z) - expected * probability(z - self.deviation)).max(0.0)
    }

    /// The middle of the quantity itself: as likely above as below.
    pub fn median(&self) -> f64 {
        if self.log { self.mean.exp() } else { self.mean }
    }

    /// The quantity itself, `deviations` away from its middle.
    pub fn at(&self, deviations: f64) -> f64 {
        let value = self.mean + deviations * self.deviation;
        if self.log { value.exp() } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn probabilities_are_those_of_the_tables() {
        // scipy.stats.norm.cdf
        let known = [
            (0.0, 0.5),
            (1.0, 0.8413447460685429),
            (-1.96, 0.024997895148220435),
            (-4.0, 3.167124183311986e-5),
            (-8.0, 6.220960574271786e-16),
            (3.3, 0.9995165758576162),
        ];
        for (x, expected) in known {
            assert!((probability(x) - expected).abs() < 1e-14, "{x}: {}", probability(x));
        }
    }

    #[test]
    fn expectations_agree_with_drawing() {
        let mut random = Random::new(3);
        for log in [false, true] {
            let belief = Belief { mean: 0.2, deviation: 0.6, log };
            let bound = 1.1;
            let draws = 200_000;
            let (mut room, mut below) = (0.0, 0.0);
            for _ in 0..draws {
                let value = belief.at(random.normal());
                room += (bound - value).max(0.0) / f64::from(draws);
                below += if value <= bound { 1.0 } else { 0.0 } / f64::from(draws);
            }
            assert!((belief.below(bound) - room).abs() < 5e-3, "{log}: {} {room}", belief.below(bound));
            assert!((belief.at_most(bound) - below).abs() < 5e-3, "{log}");
        }
    }

    #[test]
    fn certainty_has_no_spread() {
        let certain = Belief { mean: 2.0, deviation: 0.0, log: false };
        assert_eq!((certain.below(3.0), certain.below(1.0), certain.at_most(2.0)), (1.0, 0.0, 1.0));
        let logarithm = Belief { mean: 0.0, deviation: 0.0, log: true };
        assert_eq!((logarithm.below(3.0), logarithm.below(-1.0), logarithm.at_most(-1.0)), (2.0, 0.0, 0.0));
    }
}

//! Scrambled Sobol sequences (Sobol 1967; in the order of Gray codes, Antonov and Saleev 1979) of any number of dimensions:
//! primitive polynomials are found when they are needed, the first direction numbers are random odd ones, and all points are
//! shifted digit by digit, both by the seed.

use crate::Random;

const DIGITS: u32 = 32;

/// A sequence of points that fill the unit cube evenly.
#[derive(Debug, Clone)]
pub struct Sobol {
    directions: Vec<[u32; DIGITS as usize]>,
    state: Vec<u32>,
    next: u32,
}

impl Sobol {
    /// A sequence of points of so many dimensions.
    pub fn new(dimensions: usize, random: &mut Random) -> Self {
        let mut polynomials = Polynomials { degree: 1, next: 0 };
        let directions = (0..dimensions).map(|dimension| match dimension {
            // Van der Corput's sequence.
            0 => std::array::from_fn(|digit| 1 << (DIGITS as usize - 1 - digit)),
            _ => directions(polynomials.primitive(), random),
        });
        let directions = directions.collect();
        let state = (0..dimensions).map(|_| random.bits() as u32).collect();
        Self { directions, state, next: 0 }
    }
}

impl Iterator for Sobol {
    type Item = Vec<f64>;

    /// The next point, each coordinate in [0, 1); the sequence ends after 2^32 - 1.
    fn next(&mut self) -> Option<Vec<f64>> {
        let digit = self.next.trailing_ones();
        if digit >= DIGITS {
            return None;
        }
        let point = self.state.iter().map(|x| f64::from(*x) / f64::from(2u32).powi(DIGITS as i32)).collect();
        self.state.iter_mut().zip(&self.directions).for_each(|(x, directions)| *x ^= directions[digit as usize]);
        self.next += 1;
        Some(point)
    }
}

/// Direction numbers of a polynomial x^degree + ... + 1, given by its degree and the coefficients between.
fn directions((degree, between): (u32, u32), random: &mut Random) -> [u32; DIGITS as usize] {
    let degree = degree as usize;
    let mut all = [0u32; DIGITS as usize];
    for digit in 0..DIGITS as usize {
        all[digit] = if digit < degree {
            let odd = 2 * random.below(1 << digit) as u32 + 1;
            odd << (DIGITS as usize - 1 - digit)
        } else {
            let mut value = all[digit - degree] ^ (all[digit - degree] >> degree);
            for i in 1..degree {
                if between >> (degree - 1 - i) & 1 == 1 {
                    value ^= all[digit - i];
                }
            }
            value
        };
    }
    all
}

/// Goes through the primitive polynomials over the field of two elements, by degree.
struct Polynomials {
    degree: u32,
    next: u32,
}

impl Polynomials {
    fn primitive(&mut self) -> (u32, u32) {
        loop {
            if self.next >= 1 << (self.degree - 1) {
                self.degree += 1;
                self.next = 0;
            }
            let between = self.next;
            self.next += 1;
            if period(self.degree, between) == (1 << self.degree) - 1 {
                return (self.degree, between);
            }
        }
    }
}

/// The order of x modulo a polynomial: how long its shift register takes to return.
fn period(degree: u32, between: u32) -> u32 {
    let polynomial = 1 << degree | between << 1 | 1;
    let mut power = 1u32;
    for steps in 1..1 << degree {
        power <<= 1;
        if power >> degree & 1 == 1 {
            power ^= polynomial;
        }
        if power == 1 {
            return steps;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coordinate_falls_once_into_each_of_as_many_parts_as_there_are_points() {
        for dimensions in [1, 2, 5, 40, 300] {
            let points: Vec<Vec<f64>> = Sobol::new(dimensions, &mut Random::new(3)).take(64).collect();
            for dimension in 0..dimensions {
                let mut parts: Vec<usize> = points.iter().map(|point| (point[dimension] * 64.0) as usize).collect();
                parts.sort_unstable();
                assert_eq!(parts, (0..64).collect::<Vec<_>>(), "dimension {dimension}");
            }
        }
    }

    #[test]
    fn polynomials_are_as_many_as_are_known() {
        let mut polynomials = Polynomials { degree: 1, next: 0 };
        let degrees: Vec<u32> = (0..20).map(|_| polynomials.primitive().0).collect();
        // Euler's totient of 2^d - 1, over d: 1, 1, 2, 2, 6, 6.
        assert_eq!(degrees, [1, 2, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 7, 7]);
    }

    #[test]
    fn integrals_are_closer_than_by_random_points() {
        let error = |points: &mut dyn Iterator<Item = Vec<f64>>| {
            let mean = points.take(256).map(|p| p.iter().product::<f64>()).sum::<f64>() / 256.0;
            (mean - 1.0 / 8.0).powi(2)
        };
        let (mut even, mut random) = (0.0, 0.0);
        for seed in 0..20 {
            let mut source = Random::new(seed);
            even += error(&mut Sobol::new(3, &mut source));
            random += error(&mut std::iter::repeat_with(|| (0..3).map(|_| source.unit()).collect()));
        }
        assert!(even < random / 10.0, "{even} {random}");
    }
}

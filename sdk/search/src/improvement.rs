//! How much a configuration that was not measured is expected to add to a front.

use crate::boxes::Open;
use crate::normal::Belief;

/// Expected hypervolume improvement, exactly, where objectives are independent: over each box of what the front leaves open,
/// the product of the expected lengths (Emmerich, Giannakoglou, Naujoks 2006; Yang et al. 2019 for the sum over boxes).
#[derive(Debug, Clone)]
pub struct Improvement {
    open: Open,
    /// Scratch: the expectation below each bound, by objective.
    below: Vec<Vec<f64>>,
}

impl Improvement {
    /// Improvement on `front` below `reference`; all objectives are minimised.
    pub fn new(front: &[Vec<f64>], reference: &[f64]) -> Self {
        let open = Open::new(front, reference);
        let below = open.bounds.iter().map(|bounds| vec![0.0; bounds.len()]).collect();
        Self { open, below }
    }

    /// What beliefs about the objectives let expect, in the unit of hypervolumes.
    pub fn expected(&mut self, beliefs: &[Belief]) -> f64 {
        for ((below, bounds), belief) in self.below.iter_mut().zip(&self.open.bounds).zip(beliefs) {
            for (below, bound) in below.iter_mut().zip(bounds) {
                *below = if *bound == f64::NEG_INFINITY { 0.0 } else { belief.below(*bound) };
            }
        }
        let lengths = |places: &Vec<(usize, usize)>| {
            places.iter().zip(&self.below).map(|((lower, upper), below)| below[*upper] - below[*lower]).product::<f64>()
        };
        self.open.places.iter().map(lengths).sum::<f64>().max(0.0)
    }

    /// What the point itself adds.
    pub fn certain(&mut self, costs: &[f64]) -> f64 {
        let beliefs: Vec<Belief> = costs.iter().map(|v| Belief { mean: *v, deviation: 0.0, log: false }).collect();
        self.expected(&beliefs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use crate::hypervolume::hypervolume;

    fn front(random: &mut Random, dimensions: usize, count: usize) -> Vec<Vec<f64>> {
        (0..count).map(|_| (0..dimensions).map(|_| random.unit()).collect()).collect()
    }

    #[test]
    fn a_certain_improvement_is_the_difference_of_hypervolumes() {
        let mut random = Random::new(1);
        for dimensions in 1..=4 {
            let mut front = front(&mut random, dimensions, 15);
            let reference = vec![0.9; dimensions];
            let before = hypervolume(&front, &reference);
            let mut improvement = Improvement::new(&front, &reference);
            for _ in 0..20 {
                let point: Vec<f64> = (0..dimensions).map(|_| random.unit()).collect();
                front.push(point.clone());
                let gain = hypervolume(&front, &reference) - before;
                front.pop();
                assert!((improvement.certain(&point) - gain).abs() < 1e-12, "{dimensions}");
            }
        }
    }

    #[test]
    fn an_expected_improvement_is_the_mean_of_certain_ones() {
        let mut random = Random::new(2);
        for dimensions in 2..=4 {
            let front = front(&mut random, dimensions, 8);
            let mut improvement = Improvement::new(&front, &vec![1.0; dimensions]);
            let beliefs: Vec<Belief> = (0..dimensions)
                .map(|i| Belief { mean: 0.3 - f64::from(u8::from(i == 1)), deviation: 0.25, log: i == 1 })
                .collect();
            let draws = 20_000;
            let mean = (0..draws)
                .map(|_| {
                    let point: Vec<f64> = beliefs.iter().map(|belief| belief.at(random.normal())).collect();
                    improvement.certain(&point) / f64::from(draws)
                })
                .sum::<f64>();
            let expected = improvement.expected(&beliefs);
            assert!((expected / mean - 1.0).abs() < 0.05, "{dimensions}: {expected} {mean}");
        }
    }
}

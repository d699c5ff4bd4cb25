//! What a front is worth: the volume of all that it dominates.

use crate::pareto::dominates;

/// Volume of what the points dominate below `reference`, exactly, by exclusive volumes (WFG; While, Bradstreet, Barone: A Fast
/// Way of Calculating Exact Hypervolumes, 2012). All objectives are minimised; what is not below the reference in every one
/// adds nothing.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |p: &&Vec<f64>| p.iter().zip(reference).all(|(v, r)| v < r);
    let mut points = minimal(points.iter().filter(inside).cloned().collect());
    points.sort_by(|a, b| {
        b.iter().zip(a).map(|(b, a)| b.total_cmp(a)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    volume(&points, reference)
}

fn volume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let Some((first, rest)) = points.split_first() else { return 0.0 };
    let inclusive: f64 = first.iter().zip(reference).map(|(v, r)| r - v).product();
    let limited = rest.iter().map(|p| p.iter().zip(first).map(|(a, b)| a.max(*b)).collect()).collect();
    inclusive - volume(&minimal(limited), reference) + volume(rest, reference)
}

/// The points that no other one dominates or equals, in the order given.
pub fn minimal(points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for point in points {
        if kept.iter().any(|k| *k == point || dominates(k, &point)) {
            continue;
        }
        kept.retain(|k| !dominates(&point, k));
        kept.push(point);
    }
    kept
}

/// Objectives on one scale: 0 is the best seen of each, 1 the worst among the points that count.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The best of each objective.
    pub ideal: Vec<f64>,
    /// The worst of each objective; above the ideal.
    pub nadir: Vec<f64>,
}

impl Scale {
    /// The scale on which `points` fill the unit cube; where all are alike in an objective, its nadir is `apart` above.
    /// None without a finite point.
    pub fn of<'a>(points: impl IntoIterator<Item = &'a Vec<f64>>, apart: &[f64]) -> Option<Self> {
        let mut scale: Option<Scale> = None;
        for point in points.into_iter().filter(|p| p.iter().all(|v| v.is_finite())) {
            let scale = scale.get_or_insert_with(|| Scale { ideal: point.clone(), nadir: point.clone() });
            for (objective, value) in point.iter().enumerate() {
                scale.ideal[objective] = scale.ideal[objective].min(*value);
                scale.nadir[objective] = scale.nadir[objective].max(*value);
            }
        }
        let mut scale = scale?;
        for (objective, apart) in apart.iter().enumerate() {
            if scale.nadir[objective] <= scale.ideal[objective] {
                let apart = if *apart > 0.0 { *apart } else { 1.0 };
                scale.nadir[objective] = scale.ideal[objective] + apart;
            }
        }
        Some(scale)
    }

    /// A point on this scale.
    pub fn normalise(&self, costs: &[f64]) -> Vec<f64> {
        costs.iter().enumerate().map(|(i, v)| (v - self.ideal[i]) / (self.nadir[i] - self.ideal[i])).collect()
    }

    /// The point `beyond` (a share of the range) worse than the nadir: what hypervolumes are taken below.
    pub fn reference(&self, beyond: f64) -> Vec<f64> {
        self.ideal.iter().zip(&self.nadir).map(|(ideal, nadir)| nadir + beyond * (nadir - ideal)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn small_volumes_are_known() {
        assert_eq!(hypervolume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0]), 3.0);
        assert_eq!(hypervolume(&[vec![3.0, 0.0]], &[3.0, 3.0]), 0.0);
        assert_eq!(hypervolume(&[], &[1.0, 1.0]), 0.0);
    }

    #[test]
    fn the_hypervolume_is_the_number_of_dominated_cells() {
        let mut random = Random::new(1);
        for dimensions in 2..=4u32 {
            for _ in 0..40 {
                let mut point = || (0..dimensions).map(|_| random.below(5) as f64).collect::<Vec<f64>>();
                let points: Vec<Vec<f64>> = (0..12).map(|_| point()).collect();
                let cells = (0..4usize.pow(dimensions)).filter(|cell| {
                    let corner: Vec<f64> = (0..dimensions).map(|d| (cell / 4usize.pow(d) % 4) as f64).collect();
                    points.iter().any(|p| p.iter().zip(&corner).all(|(p, c)| p <= c))
                });
                assert_eq!(hypervolume(&points, &vec![4.0; dimensions as usize]), cells.count() as f64);
            }
        }
    }

    #[test]
    fn a_scale_spans_what_it_is_made_of() {
        let scale = Scale::of(&[vec![1.0, 7.0], vec![3.0, 7.0], vec![f64::INFINITY, 0.0]], &[0.0, 2.0]).unwrap();
        assert_eq!(scale.normalise(&[2.0, 8.0]), [0.5, 0.5]);
        assert_eq!(scale.reference(0.5), [4.0, 10.0]);
        assert_eq!(Scale::of(&[], &[1.0]), None);
    }
}

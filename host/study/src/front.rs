//! Which trials nothing else beats. Constrained domination (Deb et al. 2002, NSGA-II, definition 1): a feasible point
//! beats an infeasible one, of two infeasible ones the smaller violation wins, and feasible ones are compared by Pareto.

/// A point to be compared: all objectives minimised, and how far it breaks the constraints.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Objective values, smaller is better.
    pub values: Vec<f64>,
    /// Sum of the relative excesses over all constraints; 0 is feasible.
    pub violation: f64,
}

impl Point {
    /// Whether all constraints hold.
    pub fn feasible(&self) -> bool {
        self.violation <= 0.0
    }

    /// Whether this point beats `other`.
    pub fn dominates(&self, other: &Point) -> bool {
        match (self.feasible(), other.feasible()) {
            (true, true) => pareto_dominates(&self.values, &other.values),
            (false, false) => self.violation < other.violation,
            (feasible, _) => feasible,
        }
    }
}

/// No worse anywhere, and better somewhere.
pub fn pareto_dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (a, b) in a.iter().zip(b) {
        if a > b {
            return false;
        }
        better |= a < b;
    }
    better
}

/// Indices of the points in ranks: the first rank is dominated by none, the second only by the first, and so on.
pub fn nondominated_sort(points: &[Point]) -> Vec<Vec<usize>> {
    let beaten: Vec<Vec<usize>> =
        points.iter().map(|p| (0..points.len()).filter(|&j| p.dominates(&points[j])).collect()).collect();
    let mut beaters = vec![0usize; points.len()];
    beaten.iter().flatten().for_each(|&j| beaters[j] += 1);
    let mut rank: Vec<usize> = (0..points.len()).filter(|&i| beaters[i] == 0).collect();
    let mut ranks = Vec::new();
    while !rank.is_empty() {
        let mut next = Vec::new();
        for &j in rank.iter().flat_map(|&i| &beaten[i]) {
            beaters[j] -= 1;
            if beaters[j] == 0 {
                next.push(j);
            }
        }
        next.sort_unstable();
        ranks.push(std::mem::replace(&mut rank, next));
    }
    ranks
}

/// Indices of the feasible points that no feasible point dominates, in order.
pub fn front(points: &[Point]) -> Vec<usize> {
    let first = nondominated_sort(points).into_iter().next().unwrap_or_default();
    first.into_iter().filter(|&i| points[i].feasible()).collect()
}

/// Volume of what the points dominate below `reference`, exactly, by exclusive volumes (WFG; While, Bradstreet, Barone
/// 2012). Smaller is better; what is not below the reference in every objective adds nothing.
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

/// The points that no other one dominates or equals.
fn minimal(points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for point in points {
        if kept.iter().any(|k| *k == point || pareto_dominates(k, &point)) {
            continue;
        }
        kept.retain(|k| !pareto_dominates(&point, k));
        kept.push(point);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn points(dimensions: usize) -> impl proptest::strategy::Strategy<Value = Vec<Point>> {
        // Few distinct values, so that ties and equal points happen.
        let point = (proptest::collection::vec((0u8..5).prop_map(f64::from), dimensions), 0u8..4)
            .prop_map(|(values, violation)| Point { values, violation: f64::from(violation.saturating_sub(1)) });
        proptest::collection::vec(point, 0..25)
    }

    proptest! {
        #[test]
        fn domination_is_a_strict_order(points in points(3)) {
            for a in &points {
                prop_assert!(!a.dominates(a));
                for b in &points {
                    prop_assert!(!(a.dominates(b) && b.dominates(a)));
                    for c in &points {
                        prop_assert!(!(a.dominates(b) && b.dominates(c)) || a.dominates(c));
                    }
                }
            }
        }

        #[test]
        fn the_front_is_what_no_feasible_point_beats(points in points(3)) {
            let by_definition: Vec<usize> = (0..points.len())
                .filter(|&i| points[i].violation == 0.0)
                .filter(|&i| !points.iter().any(|other| {
                    other.violation == 0.0
                        && other.values.iter().zip(&points[i].values).all(|(o, p)| o <= p)
                        && other.values != points[i].values
                }))
                .collect();
            prop_assert_eq!(front(&points), by_definition);
        }

        #[test]
        fn ranks_hold_every_point_once_and_are_beaten_only_by_earlier_ones(points in points(2)) {
            let ranks = nondominated_sort(&points);
            let mut all: Vec<usize> = ranks.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..points.len()).collect::<Vec<_>>());
            for (r, rank) in ranks.iter().enumerate() {
                for &i in rank {
                    let beaters = |rank: &[usize]| rank.iter().any(|&j| points[j].dominates(&points[i]));
                    prop_assert!(!ranks[r..].iter().any(|later| beaters(later)));
                    prop_assert!(r == 0 || beaters(&ranks[r - 1]));
                }
            }
        }

        #[test]
        fn the_hypervolume_is_the_number_of_dominated_cells(points in points(4), dimensions in 2usize..=4) {
            let values: Vec<Vec<f64>> = points.iter().map(|p| p.values[..dimensions].to_vec()).collect();
            let reference = vec![4.0; dimensions];
            let mut cells = 0;
            for cell in 0..4usize.pow(dimensions as u32) {
                let corner: Vec<f64> = (0..dimensions).map(|d| (cell / 4usize.pow(d as u32) % 4) as f64).collect();
                cells += usize::from(values.iter().any(|p| p.iter().zip(&corner).all(|(p, c)| p <= c)));
            }
            prop_assert_eq!(hypervolume(&values, &reference), cells as f64);
        }
    }

    #[test]
    fn the_hypervolume_agrees_with_random_sampling() {
        let mut random = StdRng::seed_from_u64(1);
        for dimensions in 2..=4 {
            let points: Vec<Vec<f64>> =
                (0..30).map(|_| (0..dimensions).map(|_| random.random_range(0.0..1.2)).collect()).collect();
            let draws = 200_000;
            let hits = (0..draws)
                .filter(|_| {
                    let x: Vec<f64> = (0..dimensions).map(|_| random.random_range(0.0..1.0)).collect();
                    points.iter().any(|p| p.iter().zip(&x).all(|(p, x)| p <= x))
                })
                .count();
            let exact = hypervolume(&points, &vec![1.0; dimensions]);
            // Five standard errors of the sampling.
            assert!(
                (exact - hits as f64 / f64::from(draws)).abs() < 5.0 * 0.5 / f64::from(draws).sqrt(),
                "{dimensions}"
            );
        }
    }

    #[test]
    fn small_volumes_are_known() {
        assert_eq!(hypervolume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0]), 3.0);
        assert_eq!(hypervolume(&[vec![3.0, 0.0]], &[3.0, 3.0]), 0.0);
        assert_eq!(hypervolume(&[], &[1.0, 1.0]), 0.0);
    }
}

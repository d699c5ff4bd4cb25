//! Domination, ranks and hypervolumes against their definitions, on many sets of points.

use aehost_search::hypervolume::hypervolume;
use aehost_search::pareto::{Point, front, fronts};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn points(dimensions: usize) -> impl proptest::strategy::Strategy<Value = Vec<Point>> {
    // Few distinct values, so that ties and equal points happen.
    let point = (proptest::collection::vec((0u8..5).prop_map(f64::from), dimensions), 0u8..4)
        .prop_map(|(costs, violation)| Point { costs, violation: f64::from(violation.saturating_sub(1)) });
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
                    && other.costs.iter().zip(&points[i].costs).all(|(o, p)| o <= p)
                    && other.costs != points[i].costs
            }))
            .collect();
        prop_assert_eq!(front(&points), by_definition);
    }

    #[test]
    fn ranks_hold_every_point_once_and_are_beaten_only_by_earlier_ones(points in points(2)) {
        let ranks = fronts(&points);
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
        assert!((exact - hits as f64 / f64::from(draws)).abs() < 5.0 * 0.5 / f64::from(draws).sqrt(), "{dimensions}");
    }
}

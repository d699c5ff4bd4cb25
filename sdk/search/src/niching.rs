//! Selection by reference directions (NSGA-III; Deb, Jain: IEEE Transactions on Evolutionary Computation 18(4), 2014): with many
//! objectives nearly everything is on the front, and what is kept should lie along all directions.

use crate::hypervolume::Scale;
use crate::pareto::{Point, Ranked, fronts};

/// Directions of non-negative parts that sum to 1, in steps of 1 / `steps` (Das, Dennis 1998).
pub fn directions(objectives: usize, steps: usize) -> Vec<Vec<f64>> {
    fn fill(objectives: usize, steps: usize, left: usize, begun: &mut Vec<f64>, all: &mut Vec<Vec<f64>>) {
        let part = |count: usize| count as f64 / steps.max(1) as f64;
        if begun.len() + 1 >= objectives {
            all.push(begun.iter().copied().chain([part(left)]).collect());
            return;
        }
        for count in 0..=left {
            begun.push(part(count));
            fill(objectives, steps, left - count, begun, all);
            begun.pop();
        }
    }
    let mut all = Vec::new();
    fill(objectives.max(1), steps, steps, &mut Vec::new(), &mut all);
    all
}

/// Directions for about `count` points: as many steps as give no more.
pub fn about(objectives: usize, count: usize) -> Vec<Vec<f64>> {
    let mut best = directions(objectives, 1);
    for steps in 2..=count {
        let next = directions(objectives, steps);
        if next.len() > count || next.len() == best.len() {
            break;
        }
        best = next;
    }
    best
}

/// At most `limit` points: whole fronts, and of the last one those along the least crowded directions. The crowding that is
/// given is larger the fewer points share a direction.
pub fn best(points: &[Point], directions: &[Vec<f64>], limit: usize) -> Vec<Ranked> {
    let fronts = fronts(points);
    let finite = |i: &&usize| points[**i].costs.iter().all(|cost| cost.is_finite());
    let first: Vec<&Vec<f64>> = fronts.iter().take(1).flatten().filter(finite).map(|i| &points[*i].costs).collect();
    let apart = vec![1.0; points.first().map_or(0, |p| p.costs.len())];
    let scale = Scale::of(first, &apart);
    let place = |i: usize| {
        let costs = scale.as_ref().map_or_else(|| points[i].costs.clone(), |scale| scale.normalise(&points[i].costs));
        nearest(&costs, directions)
    };
    let mut shared = vec![0usize; directions.len()];
    let mut kept: Vec<(usize, usize, usize)> = Vec::new();
    for (rank, front) in fronts.into_iter().enumerate() {
        let mut left: Vec<(usize, usize, f64)> = front.into_iter().map(|i| (i, place(i).0, place(i).1)).collect();
        while kept.len() < limit && !left.is_empty() {
            let order = |a: &(usize, usize, f64), b: &(usize, usize, f64)| {
                shared[a.1].cmp(&shared[b.1]).then(a.2.total_cmp(&b.2)).then(a.0.cmp(&b.0))
            };
            let next = (0..left.len()).min_by(|a, b| order(&left[*a], &left[*b])).unwrap_or(0);
            let (index, direction, _) = left.swap_remove(next);
            shared[direction] += 1;
            kept.push((index, rank, direction));
        }
    }
    let crowding = |direction: usize| 1.0 / shared[direction] as f64;
    kept.into_iter().map(|(index, rank, direction)| Ranked { index, rank, crowding: crowding(direction) }).collect()
}

/// The direction with the least perpendicular distance, and the distance.
fn nearest(costs: &[f64], directions: &[Vec<f64>]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (i, direction) in directions.iter().enumerate() {
        let along = costs.iter().zip(direction).map(|(c, d)| c * d).sum::<f64>();
        let square = direction.iter().map(|d| d * d).sum::<f64>();
        let distance = costs.iter().zip(direction).map(|(c, d)| (c - along / square * d).powi(2)).sum::<f64>();
        if distance < best.1 {
            best = (i, distance);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_as_many_as_das_and_dennis_say() {
        assert_eq!(directions(3, 4).len(), 15);
        assert!(directions(4, 3).iter().all(|d| (d.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        assert_eq!(about(3, 20).len(), 15);
        assert_eq!(about(1, 9).len(), 1);
    }

    #[test]
    fn what_is_kept_lies_along_all_directions() {
        let crowd = (0..10)
            .map(|i| Point { costs: vec![0.5 + 0.001 * f64::from(i), 0.5 - 0.001 * f64::from(i)], violation: 0.0 });
        let ends = [[0.0, 1.0], [1.0, 0.0]].map(|c| Point { costs: c.to_vec(), violation: 0.0 });
        let points: Vec<Point> = crowd.chain(ends).collect();
        let kept: Vec<usize> = best(&points, &directions(2, 2), 3).into_iter().map(|r| r.index).collect();
        assert!(kept.contains(&10) && kept.contains(&11) && kept.len() == 3, "{kept:?}");
    }
}

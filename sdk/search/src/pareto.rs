//! Who beats whom: constrained domination, ranks and crowding, as NSGA-II has them (Deb et al., IEEE Transactions on
//! Evolutionary Computation 6(2), 2002).

/// What is known of one configuration: all objectives minimised, infinite where unavailable, and how far it breaks the
/// constraints, as the sum of the shares of their bounds; 0 is feasible.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Objectives, smaller is better.
    pub costs: Vec<f64>,
    /// Sum of relative violations.
    pub violation: f64,
}

impl Point {
    /// Whether all constraints hold.
    pub fn feasible(&self) -> bool {
        self.violation <= 0.0
    }

    /// Constrained domination: feasible before infeasible, less violation before more, and where that is equal nowhere worse
    /// and somewhere better.
    pub fn dominates(&self, other: &Point) -> bool {
        if self.violation != other.violation {
            return self.violation < other.violation;
        }
        dominates(&self.costs, &other.costs)
    }
}

/// Nowhere worse and somewhere better.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (a, b) in a.iter().zip(b) {
        if a > b {
            return false;
        }
        better |= a < b;
    }
    better
}

/// Fast non-dominated sorting: the first front is dominated by nobody, the next only by the first, and so on. Indices, in
/// order within a front.
pub fn fronts(points: &[Point]) -> Vec<Vec<usize>> {
    let mut worse: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
    let mut better = vec![0usize; points.len()];
    for a in 0..points.len() {
        for b in 0..points.len() {
            if points[a].dominates(&points[b]) {
                worse[a].push(b);
                better[b] += 1;
            }
        }
    }
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = (0..points.len()).filter(|i| better[*i] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for b in front.iter().flat_map(|a| &worse[*a]) {
            better[*b] -= 1;
            if better[*b] == 0 {
                next.push(*b);
            }
        }
        next.sort_unstable();
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// Indices of the feasible points that no feasible point dominates, in order.
pub fn front(points: &[Point]) -> Vec<usize> {
    let feasible: Vec<usize> = (0..points.len()).filter(|i| points[*i].feasible()).collect();
    let beaten = |i: usize| feasible.iter().any(|j| dominates(&points[*j].costs, &points[i].costs));
    feasible.iter().copied().filter(|i| !beaten(*i)).collect()
}

/// For each member of a front the distance between its neighbours, summed over objectives, each relative to the front's
/// range; infinite at the ends.
pub fn crowding(points: &[Point], front: &[usize]) -> Vec<f64> {
    let mut distances = vec![0.0; front.len()];
    let objectives = front.first().map_or(0, |i| points[*i].costs.len());
    for objective in 0..objectives {
        let cost = |member: usize| points[front[member]].costs[objective];
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        let (first, last) = (order[0], order[order.len() - 1]);
        let range = cost(last) - cost(first);
        if range.is_nan() || range <= 0.0 {
            continue;
        }
        distances[first] = f64::INFINITY;
        distances[last] = f64::INFINITY;
        for window in order.windows(3) {
            let gap = (cost(window[2]) - cost(window[0])) / range;
            // An unavailable objective makes the range infinite: it tells nothing about crowding.
            distances[window[1]] += if gap.is_nan() { 0.0 } else { gap };
        }
    }
    distances
}

/// One point among others: its index, the number of fronts before its own, and its crowding distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Index among all points.
    pub index: usize,
    /// 0 on the first front.
    pub rank: usize,
    /// Larger is lonelier.
    pub crowding: f64,
}

/// The best points, at most `limit`: by rank, then the lonelier first.
pub fn best(points: &[Point], limit: usize) -> Vec<Ranked> {
    let mut kept: Vec<Ranked> = Vec::new();
    for (rank, front) in fronts(points).into_iter().enumerate() {
        let crowding = crowding(points, &front);
        let members = front.into_iter().zip(crowding);
        let mut members: Vec<Ranked> = members.map(|(index, crowding)| Ranked { index, rank, crowding }).collect();
        members.sort_by(|a, b| b.crowding.total_cmp(&a.crowding));
        kept.extend(members);
        if kept.len() >= limit {
            break;
        }
    }
    kept.truncate(limit);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(costs: &[f64], violation: f64) -> Point {
        Point { costs: costs.to_vec(), violation }
    }

    #[test]
    fn feasible_comes_before_infeasible_and_less_violation_before_more() {
        let good = point(&[9.0, 9.0], 0.0);
        let close = point(&[1.0, 1.0], 0.1);
        let far = point(&[0.0, 0.0], 0.5);
        assert!(good.dominates(&close) && close.dominates(&far) && !far.dominates(&good));
        assert_eq!(fronts(&[far, close, good]), [vec![2], vec![1], vec![0]]);
    }

    #[test]
    fn fronts_peel_off_one_after_the_other() {
        let all = [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [5.0, 5.0], [2.0, 2.0]].map(|c| point(&c, 0.0));
        assert_eq!(fronts(&all), [vec![0, 1, 2, 5], vec![3], vec![4]]);
        assert_eq!(front(&all), [0, 1, 2, 5]);
    }

    #[test]
    fn the_ends_of_a_front_are_kept_and_crowded_ones_go_first() {
        let all = [[0.0, 10.0], [5.0, 5.0], [5.5, 4.5], [6.0, 4.0], [10.0, 0.0]].map(|c| point(&c, 0.0));
        let kept: Vec<usize> = best(&all, 4).into_iter().map(|ranked| ranked.index).collect();
        assert!(kept.contains(&0) && kept.contains(&4) && !kept.contains(&2), "{kept:?}");
    }

    #[test]
    fn an_unavailable_objective_is_the_worst_there_is() {
        assert!(point(&[1.0, 2.0], 0.0).dominates(&point(&[1.0, f64::INFINITY], 0.0)));
        let all = [point(&[1.0, f64::INFINITY], 0.0), point(&[0.5, f64::INFINITY], 0.0)];
        assert_eq!(fronts(&all), [vec![1], vec![0]]);
    }
}

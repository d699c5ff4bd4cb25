//! Balanced assignment: items to clusters that take equally many.

/// Bits of the largest cost as a whole number. Paths may be a hundred times as long.
const BITS: f64 = 54.0;

/// The items of each cluster, ascending, so that each has `size` and the sum of `costs`, `[items, clusters]`, is the least:
/// items join one by one, each along the cheapest chain of moves that ends where there is room (successive shortest paths).
pub fn balanced(costs: &[f32], clusters: usize, size: usize) -> Vec<Vec<usize>> {
    // In whole numbers, of which sums are exact: a path would otherwise go round in circles that seem to save something. By a
    // power of two, so that costs which are equal stay so.
    let largest = costs.iter().fold(0f32, |largest, cost| largest.max(cost.abs()));
    let scale = (BITS - f64::from(largest).max(f64::MIN_POSITIVE).log2().ceil()).exp2();
    let cost = |item: usize, cluster: usize| (f64::from(costs[item * clusters + cluster]) * scale) as i64;
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); clusters];
    // The cheapest move from one cluster to another, and whose it is.
    let mut moves: Vec<Option<(i64, usize)>> = vec![None; clusters * clusters];
    for item in 0..costs.len() / clusters {
        let mut paths: Vec<(i64, Option<(usize, usize)>)> = (0..clusters).map(|c| (cost(item, c), None)).collect();
        for _ in 0..clusters {
            for (edge, more) in moves.iter().enumerate() {
                let (from, to) = (edge / clusters, edge % clusters);
                if let Some((more, moved)) = more.filter(|(more, _)| paths[from].0 + more < paths[to].0) {
                    paths[to] = (paths[from].0 + more, Some((from, moved)));
                }
            }
        }
        let room = (0..clusters).filter(|c| members[*c].len() < size);
        let Some(mut at) = room.min_by_key(|c| paths[*c].0) else { break };
        let mut changed = vec![at];
        while let Some((from, moved)) = paths[at].1 {
            members[from].retain(|i| *i != moved);
            members[at].push(moved);
            at = from;
            changed.push(at);
        }
        members[at].push(item);
        for from in changed {
            for to in (0..clusters).filter(|to| *to != from) {
                let each = members[from].iter().map(|i| (cost(*i, to) - cost(*i, from), *i));
                moves[from * clusters + to] = each.min_by_key(|(more, _)| *more);
            }
        }
    }
    members.iter_mut().for_each(|members| members.sort_unstable());
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least sum over all balanced assignments.
    fn brute(costs: &[f32], clusters: usize, size: usize, item: usize, loads: &mut Vec<usize>) -> f32 {
        if item * clusters == costs.len() {
            return 0.0;
        }
        let mut best = f32::INFINITY;
        for c in 0..clusters {
            if loads[c] < size {
                loads[c] += 1;
                best = best.min(costs[item * clusters + c] + brute(costs, clusters, size, item + 1, loads));
                loads[c] -= 1;
            }
        }
        best
    }

    #[test]
    fn a_balanced_assignment_costs_no_more_than_any_other() {
        let mut state = 7u32;
        for (clusters, size) in [(2, 4), (3, 3), (4, 2), (3, 2), (2, 5)] {
            for _ in 0..40 {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as f32 - 100.0
                };
                let costs: Vec<f32> = (0..clusters * size * clusters).map(|_| next()).collect();
                let found = balanced(&costs, clusters, size);
                let small: Vec<f32> = costs.iter().map(|cost| cost / (1u64 << 40) as f32).collect();
                assert_eq!(balanced(&small, clusters, size), found, "only how costs compare matters");
                let mut all = found.concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..clusters * size) && found.iter().all(|members| members.len() == size));
                let of =
                    |(c, members): (usize, &Vec<usize>)| members.iter().map(|i| costs[i * clusters + c]).sum::<f32>();
                let total: f32 = found.iter().enumerate().map(of).sum();
                let best = brute(&costs, clusters, size, 0, &mut vec![0; clusters]);
                assert_eq!(total, best, "{clusters} clusters of {size}");
            }
        }
    }

    #[test]
    fn costs_that_hardly_differ_are_assigned_too() {
        let mut state = 7u32;
        for _ in 0..20 {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                0.01 + (state >> 29) as f32 * 1e-9
            };
            let costs: Vec<f32> = (0..6 * 40 * 6).map(|_| next()).collect();
            let found = balanced(&costs, 6, 40);
            assert!(found.iter().all(|members| members.len() == 40));
        }
    }
}

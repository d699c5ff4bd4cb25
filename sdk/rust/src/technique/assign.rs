//! Balanced assignment: items to clusters that take equally many.

/// The items of each cluster, ascending, so that each has `size` and the sum of `costs`, `[items, clusters]`, is the least:
/// items join one by one, each along the cheapest chain of moves that ends where there is room (successive shortest paths).
pub fn balanced(costs: &[f32], clusters: usize, size: usize) -> Vec<Vec<usize>> {
    let cost = |item: usize, cluster: usize| f64::from(costs[item * clusters + cluster]);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); clusters];
    // The cheapest move from one cluster to another, and whose it is.
    let mut moves = vec![(f64::INFINITY, 0); clusters * clusters];
    for item in 0..costs.len() / clusters {
        let mut paths: Vec<(f64, Option<usize>)> = (0..clusters).map(|c| (cost(item, c), None)).collect();
        for _ in 0..clusters {
            for (edge, (more, _)) in moves.iter().enumerate() {
                let (from, to) = (edge / clusters, edge % clusters);
                if paths[from].0 + more < paths[to].0 - 1e-9 {
                    paths[to] = (paths[from].0 + more, Some(from));
                }
            }
        }
        let room = (0..clusters).filter(|c| members[*c].len() < size);
        let Some(mut at) = room.min_by(|a, b| paths[*a].0.total_cmp(&paths[*b].0)) else { break };
        let mut changed = vec![at];
        while let Some(from) = paths[at].1 {
            let (_, moved) = moves[from * clusters + at];
            members[from].retain(|i| *i != moved);
            members[at].push(moved);
            at = from;
            changed.push(at);
        }
        members[at].push(item);
        for from in changed {
            for to in (0..clusters).filter(|to| *to != from) {
                let each = members[from].iter().map(|i| (cost(*i, to) - cost(*i, from), *i));
                moves[from * clusters + to] = each.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0));
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
}

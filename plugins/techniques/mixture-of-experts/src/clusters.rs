//! Which neurons every token goes through, and which form an expert: those that are active on the same tokens (CMoE,
//! section 4.1), in clusters of equal size.

/// Rounds of k-means; the assignment rarely changes after a few.
const ROUNDS: usize = 8;

/// Neurons by what becomes of them.
#[derive(Debug, PartialEq)]
pub struct Split {
    pub shared: Vec<usize>,
    pub experts: Vec<Vec<usize>>,
}

/// For each row of `[tokens, neurons]`, the `count` neurons with the largest size times `weight`.
pub fn active(rows: &[f32], weight: &[f32], count: usize) -> Vec<Vec<usize>> {
    let of_row = |row: &[f32]| {
        let size = |i: &usize| row[*i].abs() * weight[*i];
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.select_nth_unstable_by(count - 1, |a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
        order.truncate(count);
        order
    };
    rows.chunks_exact(weight.len()).map(of_row).collect()
}

/// `shared` neurons that are active most often, and `experts` clusters of equal size of the others; `active` has the
/// neurons of each token, of `neurons` in all.
pub fn split(active: &[Vec<usize>], neurons: usize, shared: usize, experts: usize) -> Split {
    let mut often = vec![0usize; neurons];
    active.iter().flatten().for_each(|neuron| often[*neuron] += 1);
    let mut order: Vec<usize> = (0..neurons).collect();
    order.sort_by_key(|neuron| (std::cmp::Reverse(often[*neuron]), *neuron));
    let rest = order.split_off(shared);
    order.sort_unstable();
    Split { shared: order, experts: clusters(active, &often, &rest, experts) }
}

/// Balanced k-means over which tokens a neuron is active on; `rest` begins with the neuron that is active most often.
fn clusters(active: &[Vec<usize>], often: &[usize], rest: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut place = vec![usize::MAX; often.len()];
    rest.iter().enumerate().for_each(|(i, neuron)| place[*neuron] = i);
    let active: Vec<Vec<usize>> =
        active.iter().map(|row| row.iter().map(|n| place[*n]).filter(|i| *i != usize::MAX).collect()).collect();
    let size = rest.len() / count;
    // The first centres: the neurons that are active most often.
    let mut members: Vec<Vec<usize>> = (0..count).map(|i| vec![i]).collect();
    for _ in 0..ROUNDS {
        let distances = distances(&active, rest.len(), &members);
        let cluster = assign(&distances, count, size);
        let mut next = vec![Vec::with_capacity(size); count];
        cluster.iter().enumerate().for_each(|(i, c)| next[*c].push(i));
        if next == members {
            break;
        }
        members = next;
    }
    let neurons = |members: Vec<usize>| {
        let mut neurons: Vec<usize> = members.into_iter().map(|i| rest[i]).collect();
        neurons.sort_unstable();
        neurons
    };
    members.into_iter().map(neurons).collect()
}

/// Squared distances `[neurons, clusters]` to the clusters' means, but for a term that is the neuron's own.
fn distances(active: &[Vec<usize>], neurons: usize, members: &[Vec<usize>]) -> Vec<f32> {
    let count = members.len();
    let mut cluster = vec![count; neurons];
    for (c, members) in members.iter().enumerate() {
        members.iter().for_each(|i| cluster[*i] = c);
    }
    let mut products = vec![0f32; neurons * count];
    let mut squares = vec![0f32; count];
    for row in active {
        let mut centre = vec![0f32; count];
        for i in row.iter().filter(|i| cluster[**i] < count) {
            centre[cluster[*i]] += 1.0 / members[cluster[*i]].len() as f32;
        }
        for i in row {
            products[i * count..][..count].iter_mut().zip(&centre).for_each(|(p, c)| *p += c);
        }
        squares.iter_mut().zip(&centre).for_each(|(s, c)| *s += c * c);
    }
    products.iter().enumerate().map(|(i, p)| squares[i % count] - 2.0 * p).collect()
}

/// The cluster of each item so that each has `size` and the sum of `costs`, `[items, clusters]`, is the least: items join
/// one by one, each along the cheapest chain of moves that ends where there is room.
fn assign(costs: &[f32], clusters: usize, size: usize) -> Vec<usize> {
    let items = costs.len() / clusters;
    let cost = |item: usize, cluster: usize| f64::from(costs[item * clusters + cluster]);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); clusters];
    // The cheapest move from one cluster to another, and whose it is.
    let mut moves = vec![(f64::INFINITY, 0); clusters * clusters];
    for item in 0..items {
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
    let mut cluster = vec![0; items];
    for (c, members) in members.iter().enumerate() {
        members.iter().for_each(|i| cluster[*i] = c);
    }
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(costs: &[f32], clusters: usize, assignment: &[usize]) -> f32 {
        assignment.iter().enumerate().map(|(i, c)| costs[i * clusters + c]).sum()
    }

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
                let found = assign(&costs, clusters, size);
                for c in 0..clusters {
                    assert_eq!(found.iter().filter(|f| **f == c).count(), size);
                }
                let best = brute(&costs, clusters, size, 0, &mut vec![0; clusters]);
                assert_eq!(total(&costs, clusters, &found), best, "{clusters} clusters of {size}");
            }
        }
    }

    #[test]
    fn neurons_that_are_active_together_become_an_expert_and_the_most_active_are_shared() {
        // Neurons 0 and 5 always; 1, 3, 7 on even tokens; 2, 4, 6 on odd ones.
        let rows: Vec<Vec<usize>> =
            (0..10).map(|t| if t % 2 == 0 { vec![0, 5, 1, 3, 7] } else { vec![0, 5, 2, 4, 6] }).collect();
        let found = split(&rows, 8, 2, 2);
        assert_eq!(found, Split { shared: vec![0, 5], experts: vec![vec![1, 3, 7], vec![2, 4, 6]] });
    }

    #[test]
    fn splits_equal_those_of_a_reference() {
        let reference: serde_json::Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let numbers = |name: &str| -> Vec<f32> { serde_json::from_value(reference[name].clone()).unwrap() };
        let lists = |name: &str| -> Vec<Vec<usize>> { serde_json::from_value(reference[name].clone()).unwrap() };
        let weight = numbers("weight");
        let mut active = active(&numbers("rows"), &weight, lists("active")[0].len());
        active.iter_mut().for_each(|row| row.sort_unstable());
        assert_eq!(active, lists("active"));
        let shared: Vec<usize> = serde_json::from_value(reference["shared"].clone()).unwrap();
        let experts = lists("experts");
        assert_eq!(split(&active, weight.len(), shared.len(), experts.len()), Split { shared, experts });
    }

    #[test]
    fn activity_is_size_times_weight() {
        let rows = [1.0, -3.0, 2.0, 0.5, 0.1, 0.2];
        assert_eq!(active(&rows, &[1.0, 1.0, 2.0], 1), [[2], [0]]);
        let mut two = active(&rows, &[1.0, 1.0, 1.0], 2);
        two.iter_mut().for_each(|row| row.sort_unstable());
        assert_eq!(two, [[1, 2], [0, 2]]);
    }
}

//! Which neurons every token goes through, and which form an expert: those that are active on the same tokens (CMoE,
//! section 4.1), in clusters of equal size.

use aehost_sdk::technique::{balanced, descending};

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
    let mut often = vec![0f64; neurons];
    active.iter().flatten().for_each(|neuron| often[*neuron] += 1.0);
    let mut order = descending(&often);
    let rest = order.split_off(shared);
    order.sort_unstable();
    Split { shared: order, experts: clusters(active, neurons, &rest, experts) }
}

/// Balanced k-means over which tokens a neuron is active on; `rest` begins with the neuron that is active most often.
fn clusters(active: &[Vec<usize>], neurons: usize, rest: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut place = vec![usize::MAX; neurons];
    rest.iter().enumerate().for_each(|(i, neuron)| place[*neuron] = i);
    let active: Vec<Vec<usize>> =
        active.iter().map(|row| row.iter().map(|n| place[*n]).filter(|i| *i != usize::MAX).collect()).collect();
    let size = rest.len() / count;
    // The first centres: the neurons that are active most often.
    let mut members: Vec<Vec<usize>> = (0..count).map(|i| vec![i]).collect();
    for _ in 0..ROUNDS {
        let next = balanced(&distances(&active, rest.len(), &members), count, size);
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

#[cfg(test)]
mod tests {
    use super::*;

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

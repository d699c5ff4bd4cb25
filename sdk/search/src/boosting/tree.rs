//! Regression trees of three levels, which interactions of three features fit into.

use super::Options;
use super::table::{BINS, Column, Table};
use crate::Random;

const LEVELS: usize = 3;
const SPLITS: usize = (1 << LEVELS) - 1;
/// Weight that is added to each leaf, so that few rows do not pull it far.
const SHRINKAGE: f64 = 1.0;
/// Least weight of rows on a side of a split.
const LEAST: f64 = 2.0;

/// Node i has the children 2 i + 1, up to the threshold, and 2 i + 2.
#[derive(Debug, Clone)]
pub struct Tree {
    splits: [(u32, f64); SPLITS],
    leaves: [f64; SPLITS + 1],
}

/// Sums over the rows of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weight: f64,
    target: f64,
}

impl Sums {
    fn add(&mut self, weight: f64, target: f64) {
        self.weight += weight;
        self.target += weight * target;
    }

    fn without(self, other: Sums) -> Sums {
        Sums { weight: self.weight - other.weight, target: self.target - other.target }
    }

    /// By how much one value for these rows lowers the sum of squared errors.
    fn gain(self) -> f64 {
        self.target * self.target / (self.weight + SHRINKAGE)
    }
}

/// The best split of one node.
#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: usize,
}

impl Tree {
    /// Grows a tree level by level, each split by a random part of the features.
    pub fn fit(table: &Table, target: &[f64], weights: &[f64], options: &Options, random: &mut Random) -> Self {
        let mut tree = Tree { splits: [(0, f64::INFINITY); SPLITS], leaves: [0.0; SPLITS + 1] };
        let mut features: Vec<usize> = table.varied().to_vec();
        let kept = ((features.len() as f64 * options.features).ceil() as usize).min(features.len());
        for place in 0..kept {
            let other = place + random.below((features.len() - place) as u64) as usize;
            features.swap(place, other);
        }
        features.truncate(kept);
        let mut nodes: Vec<usize> = vec![0; target.len()];
        let mut counted = Histogram::default();
        for level in 0..LEVELS {
            let (first, count) = ((1 << level) - 1, 1 << level);
            let totals = totals(&nodes, first, count, target, weights);
            let mut best: [Option<Split>; 1 << (LEVELS - 1)] = [None; 1 << (LEVELS - 1)];
            for feature in &features {
                let column = table.column(*feature);
                histogram(&mut counted, column, &nodes, first, &totals[..count], target, weights);
                for node in 0..count {
                    consider(&counted[node], column.bounds.len(), totals[node], *feature, &mut best[node]);
                }
            }
            for (node, split) in best.iter().enumerate().take(count) {
                if let Some(split) = split {
                    let bound = table.column(split.feature).bounds[split.bin];
                    tree.splits[first + node] = (split.feature as u32, bound);
                }
            }
            for (row, node) in nodes.iter_mut().enumerate() {
                let (feature, bound) = tree.splits[*node];
                let right = table.dense(row).get(feature as usize).is_some_and(|value| *value > bound);
                *node = 2 * *node + 1 + usize::from(right);
            }
        }
        for (leaf, sums) in totals(&nodes, SPLITS, SPLITS + 1, target, weights).into_iter().enumerate() {
            tree.leaves[leaf] = options.rate * sums.target / (sums.weight + SHRINKAGE);
        }
        tree
    }

    /// The value at a row.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let mut node = 0;
        for _ in 0..LEVELS {
            let (feature, bound) = self.splits[node];
            // A row without features, in an empty space, is always on the left.
            let right = row.get(feature as usize).is_some_and(|value| *value > bound);
            node = 2 * node + 1 + usize::from(right);
        }
        self.leaves[node - SPLITS]
    }
}

fn totals(nodes: &[usize], first: usize, count: usize, target: &[f64], weights: &[f64]) -> [Sums; SPLITS + 1] {
    let mut totals = [Sums::default(); SPLITS + 1];
    for (row, node) in nodes.iter().enumerate() {
        if weights[row] > 0.0 {
            totals[node - first].add(weights[row], target[row]);
        }
    }
    debug_assert!(count <= totals.len(), "a level has no more nodes than leaves");
    totals
}

/// Sums by node of a level and bin.
type Histogram = [[Sums; BINS]; 1 << (LEVELS - 1)];

/// Fills the bins of a column; the bin of 0 has what the others leave.
fn histogram(
    sums: &mut Histogram,
    column: &Column,
    nodes: &[usize],
    first: usize,
    totals: &[Sums],
    target: &[f64],
    weights: &[f64],
) {
    for (node, total) in sums.iter_mut().zip(totals) {
        node[..=column.bounds.len()].fill(Sums::default());
        node[usize::from(column.zero)] = *total;
    }
    for (row, bin) in &column.entries {
        let row = *row as usize;
        if weights[row] > 0.0 {
            let node = &mut sums[nodes[row] - first];
            node[usize::from(*bin)].add(weights[row], target[row]);
            let zero = &mut node[usize::from(column.zero)];
            *zero = zero.without(Sums { weight: weights[row], target: weights[row] * target[row] });
        }
    }
}

/// Keeps the best way to cut a node by a feature.
fn consider(sums: &[Sums; BINS], cuts: usize, total: Sums, feature: usize, best: &mut Option<Split>) {
    let mut left = Sums::default();
    for (bin, sum) in sums.iter().enumerate().take(cuts) {
        left.weight += sum.weight;
        left.target += sum.target;
        let right = total.without(left);
        if left.weight < LEAST || right.weight < LEAST {
            continue;
        }
        let gain = left.gain() + right.gain() - total.gain();
        if gain > best.map_or(1e-9, |split| split.gain) {
            *best = Some(Split { gain, feature, bin });
        }
    }
}

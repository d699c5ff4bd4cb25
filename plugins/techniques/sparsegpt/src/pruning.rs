//! Which weights of a matrix are dropped. The lowest score goes first: of a weight w in column j with inputs x, that is |w|
//! (magnitude), |w| |x_j| (Wanda, arXiv:2306.11695, equation 1), or w^2 / [H^-1]_jj (SparseGPT, arXiv:2301.00774, section 3).

use aehost_sdk::technique::{LANES, Lanes, Settle};

/// Columns of which two are kept.
const QUAD: usize = 4;

/// How dropped weights lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Two of every four columns of a row.
    TwoOfFour,
    /// This share, anywhere.
    Share(f64),
}

/// Sets to zero what scores lowest, `score(column, number)`, among neighbours of `width` columns in `rows` rows: of every quad
/// of columns two, or a share of all.
fn drop_lowest(numbers: &mut [f32], pattern: Pattern, score: impl Fn(usize, f32) -> f32) {
    let scores: Vec<f32> = numbers.iter().enumerate().map(|(i, number)| score(i, *number)).collect();
    let (size, count) = match pattern {
        Pattern::TwoOfFour => (QUAD, QUAD / 2),
        Pattern::Share(share) => (numbers.len(), (numbers.len() as f64 * share).round() as usize),
    };
    if count == 0 {
        return;
    }
    let mut order: Vec<u32> = Vec::new();
    for (numbers, scores) in numbers.chunks_exact_mut(size).zip(scores.chunks_exact(size)) {
        order.clear();
        order.extend(0..size as u32);
        order.select_nth_unstable_by(count - 1, |a, b| {
            scores[*a as usize].total_cmp(&scores[*b as usize]).then(a.cmp(b))
        });
        order[..count].iter().for_each(|i| numbers[*i as usize] = 0.0);
    }
}

/// By magnitude, compared within the matrix.
pub fn by_magnitude(numbers: &mut [f32], pattern: Pattern) {
    drop_lowest(numbers, pattern, |_, number| number.abs());
}

/// By magnitude and the size of inputs (the square root of their second moment), compared within each row.
pub fn by_inputs(numbers: &mut [f32], pattern: Pattern, second_moment: &[f32]) {
    let sizes: Vec<f32> = second_moment.iter().map(|moment| moment.sqrt()).collect();
    for row in numbers.chunks_exact_mut(sizes.len()) {
        drop_lowest(row, pattern, |column, number| number.abs() * sizes[column]);
    }
}

/// A matrix as it is pruned with error feedback; scores are compared within a block of columns.
pub struct Pruning<'a> {
    pattern: Pattern,
    rows: usize,
    columns: usize,
    /// Of the inverse's Cholesky factor: the square of each is [H^-1]_jj among the columns not settled yet.
    diagonal: &'a [f32],
    /// `[rows, columns]`; where the mask is known already, those to be dropped are 0.
    pub numbers: Vec<f32>,
}

impl<'a> Pruning<'a> {
    pub fn new(rows: usize, columns: usize, pattern: Pattern, diagonal: &'a [f32]) -> Self {
        Self { pattern, rows, columns, diagonal, numbers: vec![0.0; rows * columns] }
    }

    fn score(&self, column: usize, number: f32) -> f32 {
        (number / self.diagonal[column]).powi(2)
    }
}

impl Settle for Pruning<'_> {
    fn enter(&mut self, first: usize, width: usize, numbers: &[f32]) {
        if self.pattern == Pattern::TwoOfFour {
            return;
        }
        let mut kept = numbers.to_vec();
        drop_lowest(&mut kept, self.pattern, |at, number| self.score(first + at % width, number));
        for (row, kept) in kept.chunks_exact(width).enumerate() {
            self.numbers[row * self.columns + first..][..width].copy_from_slice(kept);
        }
    }

    fn settle(&mut self, row: usize, column: usize, tile: &[Lanes]) -> Lanes {
        let mut settled = tile[tile.len() - 1];
        for (lane, number) in settled.iter_mut().enumerate().take(LANES.min(self.rows - row)) {
            let at = (row + lane) * self.columns + column;
            if self.pattern == Pattern::TwoOfFour && (column + 1).is_multiple_of(QUAD) {
                let first = column + 1 - QUAD;
                let mut quad: [f32; QUAD] = std::array::from_fn(|i| tile[tile.len() - QUAD + i][lane]);
                drop_lowest(&mut quad, self.pattern, |i, number| self.score(first + i, number));
                self.numbers[at + 1 - QUAD..=at].copy_from_slice(&quad);
            }
            if self.numbers[at] == 0.0 {
                *number = 0.0;
            }
            self.numbers[at] = *number;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::settle_block;
    use serde_json::Value;

    const COLUMNS: usize = 32;

    fn reference(name: &str) -> Vec<f32> {
        let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let numbers = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        match name {
            "factor" => all[name].as_array().unwrap().iter().flat_map(|row| padded(numbers(row))).collect(),
            _ => numbers(&all[name]),
        }
    }

    fn padded(mut row: Vec<f32>) -> Vec<f32> {
        row.resize(COLUMNS, 0.0);
        row
    }

    /// Columns `[first, first + 16)` of a matrix.
    fn half(matrix: &[f32], first: usize) -> Vec<f32> {
        matrix.chunks_exact(COLUMNS).flat_map(|row| row[first..first + 16].to_vec()).collect()
    }

    /// In two blocks, as the host and the plugin share the work.
    fn pruned(pattern: Pattern) -> Vec<f32> {
        let (factor, weight) = (reference("factor"), reference("weight"));
        let diagonal: Vec<f32> = (0..COLUMNS).map(|i| factor[i * COLUMNS + i]).collect();
        let mut pruning = Pruning::new(weight.len() / COLUMNS, COLUMNS, pattern, &diagonal);
        let (late, mut early) = (half(&weight, 16), half(&weight, 0));
        let rows = |first: usize, column: usize| half(&factor[first * COLUMNS..(first + 16) * COLUMNS], column);
        pruning.enter(16, 16, &late);
        let losses = settle_block(late, &rows(16, 16), 16, &mut pruning);
        let update = rows(16, 0);
        for (at, number) in early.iter_mut().enumerate() {
            *number -= (0..16).map(|k| losses[at / 16 * 16 + k] * update[k * 16 + at % 16]).sum::<f32>();
        }
        pruning.enter(0, 16, &early);
        settle_block(early, &rows(0, 0), 0, &mut pruning);
        pruning.numbers
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        let gap = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && gap < 1e-4, "{gap} off");
        assert!(found.iter().zip(expected).all(|(a, b)| (*a == 0.0) == (*b == 0.0)), "other weights are dropped");
    }

    #[test]
    fn weights_dropped_anywhere_and_those_that_make_up_for_them_are_numpys() {
        assert_near(&pruned(Pattern::Share(0.5)), &reference("unstructured"));
    }

    #[test]
    fn two_of_four_are_dropped_as_numpy_does() {
        let found = pruned(Pattern::TwoOfFour);
        assert!(found.chunks_exact(4).all(|quad| quad.iter().filter(|number| **number != 0.0).count() == 2));
        assert_near(&found, &reference("two_of_four"));
    }

    #[test]
    fn large_inputs_keep_small_weights() {
        let mut row = [1.0f32, -2.0, 3.0, 4.0, 0.5, -0.6, 0.7, 0.8];
        by_inputs(&mut row, Pattern::TwoOfFour, &[100.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(row, [1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.7, 0.8]);
    }

    #[test]
    fn magnitude_drops_the_smallest_share_of_the_matrix() {
        let mut numbers: Vec<f32> = (1..=10).map(|i| if i % 2 == 0 { i as f32 } else { -(i as f32) }).collect();
        by_magnitude(&mut numbers, Pattern::Share(0.3));
        assert_eq!(numbers, [0.0, 0.0, 0.0, 4.0, -5.0, 6.0, -7.0, 8.0, -9.0, 10.0]);
    }
}

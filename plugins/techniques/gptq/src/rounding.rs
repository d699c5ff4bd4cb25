//! Columns become codes: the grid of a group is found when its first column is about to be rounded, or all before.

use aehost_sdk::technique::{Affine, Codes, Grid, LANES, Lanes, Settle};

/// A matrix as it is rounded.
pub struct Rounding<'a> {
    form: Affine,
    rows: usize,
    columns: usize,
    /// Where each column stands in the matrix, where grids are fixed.
    order: Option<&'a [u32]>,
    importance: &'a [f32],
    pub codes: Codes,
}

impl<'a> Rounding<'a> {
    /// `importance` weighs the squared error of each column in the choice of grids.
    pub fn new(rows: usize, columns: usize, form: Affine, importance: &'a [f32]) -> Self {
        Self { form, rows, columns, order: None, importance, codes: Codes::new(rows, columns, form) }
    }

    /// Finds all grids by the numbers as they are, and takes columns in another order.
    pub fn fix(&mut self, numbers: &[f32], order: &'a [u32]) {
        let weights = self.importance.chunks_exact(self.form.group).cycle();
        let groups = numbers.chunks_exact(self.form.group).zip(weights);
        for ((numbers, weights), grid) in groups.zip(&mut self.codes.grids) {
            *grid = Grid::search(numbers, weights, &self.form);
        }
        self.order = Some(order);
    }

    /// The grids of the group that ends at a column, of the rows of a tile.
    fn find(&mut self, row: usize, column: usize, tile: &[Lanes]) {
        let (first, lanes) = (column + 1 - self.form.group, LANES.min(self.rows - row));
        let group = &tile[tile.len() - self.form.group..];
        let mut numbers = vec![0f32; self.form.group];
        for lane in 0..lanes {
            numbers.iter_mut().zip(group).for_each(|(number, lanes)| *number = lanes[lane]);
            let grid = Grid::search(&numbers, &self.importance[first..=column], &self.form);
            *self.codes.grid(row + lane, first) = grid;
        }
    }
}

impl Settle for Rounding<'_> {
    fn settle(&mut self, row: usize, column: usize, tile: &[Lanes]) -> Lanes {
        if self.order.is_none() && (column + 1).is_multiple_of(self.form.group) {
            self.find(row, column, tile);
        }
        let place = self.order.map_or(column, |order| order[column] as usize);
        let (group, groups) = (place / self.form.group, self.columns / self.form.group);
        let mut settled = tile[tile.len() - 1];
        for (lane, number) in settled.iter_mut().enumerate().take(self.rows - row) {
            let grid = self.codes.grids[(row + lane) * groups + group];
            let code = grid.code(*number);
            self.codes.codes[(row + lane) * self.columns + place] = code;
            *number = grid.number(code);
        }
        settled
    }
}

/// Columns by what they weigh, the lightest first.
pub fn ascending(importance: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..importance.len() as u32).collect();
    order.sort_by(|a, b| importance[*a as usize].total_cmp(&importance[*b as usize]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::settle_block;
    use serde_json::Value;

    const FORM: Affine = Affine { bits: 3, group: 32, symmetric: false };
    const COLUMNS: usize = 64;

    /// The Gram matrix of `tests/fixtures/techniques/gptq.py`, damped, its columns in this order.
    fn gram(order: &[u32]) -> Vec<Vec<f64>> {
        let size = |i: u32| 1.0 + f64::from(i * 7 % 5);
        let mean = (0..COLUMNS as u32).map(|i| size(i) * size(i)).sum::<f64>() / COLUMNS as f64;
        let entry = |a: u32, b: u32| {
            let damping = if a == b { 0.01 * mean } else { 0.0 };
            0.9f64.powi(a.abs_diff(b) as i32) * size(a) * size(b) + damping
        };
        order.iter().map(|a| order.iter().map(|b| entry(*a, *b)).collect()).collect()
    }

    /// The inverse of the lower Cholesky factor.
    fn factor(matrix: &[Vec<f64>]) -> Vec<f32> {
        let n = matrix.len();
        let mut lower = vec![vec![0f64; n]; n];
        let mut inverse = vec![0f32; n * n];
        for i in 0..n {
            for j in 0..=i {
                let rest = matrix[i][j] - (0..j).map(|k| lower[i][k] * lower[j][k]).sum::<f64>();
                lower[i][j] = if i == j { rest.sqrt() } else { rest / lower[j][j] };
            }
        }
        for j in 0..n {
            let mut column = vec![0f64; n];
            for i in j..n {
                let rest = f64::from(u8::from(i == j)) - (j..i).map(|k| lower[i][k] * column[k]).sum::<f64>();
                column[i] = rest / lower[i][i];
                inverse[i * n + j] = column[i] as f32;
            }
        }
        inverse
    }

    fn reference(name: &str) -> Vec<f64> {
        let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        all[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn weight() -> Vec<f32> {
        reference("weight").into_iter().map(|x| x as f32).collect()
    }

    fn codes(name: &str) -> Vec<u8> {
        reference(name).into_iter().map(|code| code as u8).collect()
    }

    #[test]
    fn codes_and_grids_are_those_of_the_paper_by_numpy() {
        let plain: Vec<u32> = (0..COLUMNS as u32).collect();
        // Columns that weigh nothing: grids from the smallest to the largest number.
        let mut rounding = Rounding::new(3, COLUMNS, FORM, &[0.0; COLUMNS]);
        settle_block(weight(), &factor(&gram(&plain)), 0, &mut rounding);
        assert_eq!(rounding.codes.codes, codes("codes"));
        let scales: Vec<f64> = rounding.codes.grids.iter().map(|grid| f64::from(grid.scale)).collect();
        let minima: Vec<f64> = rounding.codes.grids.iter().map(|grid| f64::from(grid.minimum)).collect();
        assert_eq!((scales, minima), (reference("scales"), reference("minima")));
    }

    #[test]
    fn by_activation_columns_are_rounded_on_the_grids_of_their_places() {
        let sizes: Vec<f32> = (0..COLUMNS).map(|i| (1.0 + (i * 7 % 5) as f32).powi(2)).collect();
        let order = ascending(&sizes);
        let numbers = weight();
        let ordered: Vec<f32> =
            numbers.chunks_exact(COLUMNS).flat_map(|row| order.iter().map(|column| row[*column as usize])).collect();
        let mut rounding = Rounding::new(3, COLUMNS, FORM, &[0.0; COLUMNS]);
        rounding.fix(&numbers, &order);
        settle_block(ordered, &factor(&gram(&order)), 0, &mut rounding);
        assert_eq!(rounding.codes.codes, codes("fixed_codes"));
    }

    #[test]
    fn blocks_one_after_another_are_as_good_as_one() {
        let plain: Vec<u32> = (0..COLUMNS as u32).collect();
        let factor = factor(&gram(&plain));
        let part = |row: usize, column: usize| -> Vec<f32> {
            (row..row + 32).flat_map(|i| factor[i * COLUMNS + column..][..32].to_vec()).collect()
        };
        let columns = |first: usize| -> Vec<f32> {
            weight().chunks_exact(COLUMNS).flat_map(|row| row[first..first + 32].to_vec()).collect()
        };
        let mut rounding = Rounding::new(3, COLUMNS, FORM, &[0.0; COLUMNS]);
        let losses = settle_block(columns(32), &part(32, 32), 32, &mut rounding);
        let (mut open, update) = (columns(0), part(32, 0));
        for (number, at) in open.iter_mut().zip(0..) {
            let (row, column) = (at / 32, at % 32);
            *number -= (0..32).map(|k| losses[row * 32 + k] * update[k * 32 + column]).sum::<f32>();
        }
        settle_block(open, &part(0, 0), 0, &mut rounding);
        assert_eq!(rounding.codes.codes, codes("codes"));
    }
}

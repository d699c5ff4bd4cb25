//! The scale of a group for a table.

use crate::table::Table;
use aehost_sdk::technique::as_half;

/// Shares of the scale at which the number of largest size lies at the end of the table.
const SHARES: [f32; 8] = [0.7, 0.78, 0.85, 0.9, 0.95, 1.0, 1.06, 1.14];
/// Partial sums that are independent of one another.
const LANES: usize = 4;

/// The number of largest size, with its sign.
pub fn extreme(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m })
}

/// With the least weighted squared error of scale x table(code) that a search finds, as it is stored: nearest codes by scales
/// around those at which the largest number is at either end of the table, and for each the best scale by weighted least
/// squares. The group is a multiple of 4.
pub fn search(numbers: &[f32], weights: &[f32], table: &Table) -> f32 {
    let extreme = extreme(numbers);
    let ends = [table.numbers[15], table.numbers[0]].map(f32::from);
    let mut best = (0.0, 0.0);
    for end in ends.into_iter().filter(|end| *end != 0.0 && extreme != 0.0) {
        for share in SHARES {
            let inverse = end / (extreme * share);
            let mut sums = [[0f32; LANES]; 2];
            for (x, w) in numbers.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    let t = table.near(x[lane] * inverse);
                    sums[0][lane] += w[lane] * t * x[lane];
                    sums[1][lane] += w[lane] * t * t;
                }
            }
            let [xt, tt] = sums.map(|lanes| lanes.iter().sum::<f32>());
            // What the best scale takes away from the weighted sum of squares.
            let gain = if tt > 0.0 { xt * xt / tt } else { 0.0 };
            if gain > best.0 {
                best = (gain, xt / tt);
            }
        }
    }
    // Columns that weigh nothing leave it to the largest number.
    as_half(if best.0 > 0.0 { best.1 } else { extreme / ends[usize::from(ends[0] == 0.0)] })
}

/// What numbers are multiplied by to be looked up in the table.
pub fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [i8; 16] = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127];

    fn error(numbers: &[f32], weights: &[f32], table: &Table, scale: f32) -> f32 {
        let gap = |x: &f32| x - scale * table.near(x * inverse(scale));
        numbers.iter().zip(weights).map(|(x, w)| w * gap(x).powi(2)).sum()
    }

    #[test]
    fn numbers_of_the_table_get_their_scale_whatever_its_sign() {
        let table = Table::new(NUMBERS);
        for scale in [0.25f32, -0.5, 1e-3] {
            let numbers: Vec<f32> = (0..32).map(|i| scale * f32::from(NUMBERS[i * 5 % 16])).collect();
            let found = search(&numbers, &[1.0; 32], &table);
            assert!(error(&numbers, &[1.0; 32], &table, found) < 1e-5 * scale * scale * 32.0 * 4096.0, "{found}");
        }
    }

    #[test]
    fn a_search_is_near_the_best_of_all_scales() {
        let table = Table::new(NUMBERS);
        let numbers: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.5).powi(3) * 1e-4 + 0.1).collect();
        let weights: Vec<f32> = (0..64).map(|i| 1.0 + (i % 5) as f32).collect();
        let limit = extreme(&numbers).abs() / 60.0;
        let all = (-20_000..20_000).map(|i| error(&numbers, &weights, &table, limit * i as f32 / 20_000.0));
        let (found, least) = (search(&numbers, &weights, &table), all.fold(f32::INFINITY, f32::min));
        let found = error(&numbers, &weights, &table, found);
        assert!(found <= 1.15 * least, "{found} is not near {least}");
    }

    #[test]
    fn groups_of_nothing_and_columns_that_weigh_nothing_have_finite_scales() {
        let table = Table::new(NUMBERS);
        assert_eq!(search(&[0.0; 32], &[1.0; 32], &table), 0.0);
        assert_eq!(search(&[-12.7; 32], &[0.0; 32], &table), as_half(-0.1));
    }
}

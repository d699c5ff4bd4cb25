//! One block of columns settled from last to first: what each loses is made up for by those before it, many rows side by
//! side.

/// Rows that are worked on side by side, so that loops over them become vectors.
pub const LANES: usize = 16;
/// One column of as many rows.
pub type Lanes = [f32; LANES];

/// What decides how columns are settled.
pub trait Settle {
    /// Sees columns `[first, first + width)` of all rows, `[rows, width]`, before any of them is settled.
    fn enter(&mut self, first: usize, width: usize, numbers: &[f32]) {
        let _ = (first, width, numbers);
    }

    /// What column `column` of the rows from `row` becomes; it is the last of `tile`, before it are columns yet to be settled.
    /// Lanes beyond the last row are 0.
    fn settle(&mut self, row: usize, column: usize, tile: &[Lanes]) -> Lanes;
}

/// Settles the columns `[rows, width]` from `first`, by the factor's `[width, width]`; gives back their losses, each over the
/// factor's diagonal.
pub fn settle_block(mut numbers: Vec<f32>, factor: &[f32], first: usize, settle: &mut impl Settle) -> Vec<f32> {
    let width = factor.len().isqrt();
    let mut tile: Vec<Lanes> = vec![[0.0; LANES]; width];
    for (i, rows) in numbers.chunks_mut(LANES * width).enumerate() {
        tile.fill([0.0; LANES]);
        for (lane, row) in rows.chunks_exact(width).enumerate() {
            row.iter().zip(&mut tile).for_each(|(number, lanes)| lanes[lane] = *number);
        }
        for column in (0..width).rev() {
            let settled = settle.settle(i * LANES, first + column, &tile[..=column]);
            let factors = &factor[column * width..=column * width + column];
            let (open, now) = tile.split_at_mut(column);
            let loss: Lanes = std::array::from_fn(|lane| (now[0][lane] - settled[lane]) / factors[column]);
            for (lanes, factor) in open.iter_mut().zip(factors) {
                for (number, loss) in lanes.iter_mut().zip(&loss) {
                    *number -= loss * factor;
                }
            }
            now[0] = loss;
        }
        for (lane, row) in rows.chunks_exact_mut(width).enumerate() {
            row.iter_mut().zip(&tile).for_each(|(number, lanes)| *number = lanes[lane]);
        }
    }
    numbers
}

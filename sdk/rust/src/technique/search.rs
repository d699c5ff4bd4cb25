//! Grids that lose least where it weighs most.

use super::{Affine, Grid};

/// Grids tried on each side of the plain one.
const TRIES: i32 = 5;
/// How much further apart each lies, in codes at the end of the range.
const STEP: f32 = 0.18;
/// Partial sums that are independent of one another, so that they become vectors.
const LANES: usize = 8;

impl Grid {
    /// With the least weighted squared error that a search finds: codes by grids around the plain one, and for each the best
    /// scale and minimum by weighted least squares (as in ggml's `quantize_row_q4_0_impl`). The group is a multiple of 8.
    pub fn search(numbers: &[f32], weights: &[f32], form: &Affine) -> Self {
        let plain = Self::fit(numbers, form);
        if plain.scale == 0.0 {
            return plain;
        }
        let mut best = (plain.error(numbers, weights), plain);
        for step in -TRIES..=TRIES {
            let reach = if form.symmetric { (plain.top + 1.0) / 2.0 } else { plain.top };
            let scale = plain.scale * reach / (reach + STEP * step as f32);
            let minimum = if form.symmetric { -reach * scale } else { plain.minimum };
            let grid = Self { scale, minimum, ..plain }.refitted(numbers, weights, form);
            let error = grid.error(numbers, weights);
            if error < best.0 {
                best = (error, grid);
            }
        }
        best.1
    }

    /// The nearest code, in comparisons that are one instruction each.
    fn near(&self, number: f32, inverse: f32) -> f32 {
        let code = ((number - self.minimum) * inverse + 0.5).floor();
        let code = if code > 0.0 { code } else { 0.0 };
        if code < self.top { code } else { self.top }
    }

    /// The weighted squared error of what stands for the numbers.
    fn error(&self, numbers: &[f32], weights: &[f32]) -> f32 {
        let inverse = if self.scale == 0.0 { 0.0 } else { 1.0 / self.scale };
        let mut errors = [0f32; LANES];
        for (x, w) in numbers.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let gap = x[lane] - (self.scale * self.near(x[lane], inverse) + self.minimum);
                errors[lane] += w[lane] * gap * gap;
            }
        }
        errors.iter().sum()
    }

    /// The best for the codes that this one gives.
    fn refitted(&self, numbers: &[f32], weights: &[f32], form: &Affine) -> Self {
        let inverse = 1.0 / self.scale;
        // Symmetric codes are counted from that of 0.
        let zero = if form.symmetric { (self.top + 1.0) / 2.0 } else { 0.0 };
        let mut sums = [[0f32; LANES]; 5];
        for (x, w) in numbers.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let (x, w) = (x[lane], w[lane]);
                let q = self.near(x, inverse) - zero;
                sums[0][lane] += w;
                sums[1][lane] += w * q;
                sums[2][lane] += w * q * q;
                sums[3][lane] += w * x;
                sums[4][lane] += w * x * q;
            }
        }
        let [w, q, qq, x, xq] = sums.map(|lanes| lanes.iter().sum::<f32>());
        let determinant = w * qq - q * q;
        match form.symmetric {
            true if qq > 0.0 => Self::new(xq / qq, 0.0, form),
            false if determinant > 0.0 => {
                Self::new((w * xq - q * x) / determinant, (qq * x - q * xq) / determinant, form)
            }
            _ => *self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_never_loses_to_the_plain_grid_and_gains_where_weights_differ() {
        let numbers: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.1 + (i % 7) as f32 * 0.03).collect();
        let weights: Vec<f32> = (0..64).map(|i| if numbers[i].abs() < 1.0 { 9.0 } else { 0.1 }).collect();
        for bits in [2, 3, 4, 8] {
            for symmetric in [true, false] {
                let form = Affine { bits, group: 64, symmetric };
                let (plain, found) = (Grid::fit(&numbers, &form), Grid::search(&numbers, &weights, &form));
                let (plain, found) = (plain.error(&numbers, &weights), found.error(&numbers, &weights));
                assert!(found <= plain, "{form:?}: {found} > {plain}");
                assert!(bits > 3 || found < 0.8 * plain, "{form:?}: {found} of {plain}");
            }
        }
    }

    #[test]
    fn numbers_that_lie_on_a_grid_get_it() {
        let form = Affine { bits: 3, group: 32, symmetric: false };
        let numbers: Vec<f32> = (0..32).map(|i| (i * 5 % 8) as f32 * 0.25 - 0.75).collect();
        let grid = Grid::search(&numbers, &[1.0; 32], &form);
        assert_eq!((grid.scale, grid.minimum), (0.25, -0.75));
    }
}

//! Grids that lose least where it weighs most.

use super::{Affine, Grid};

/// Grids tried on each side of the plain one.
const TRIES: i32 = 5;
/// How much further apart each lies, in codes at the end of the range.
const STEP: f32 = 0.18;
/// Shares of the range that are tried: finely where 4 bits have their best, widely for fewer bits.
const SHARES: [f32; 12] = [1.05, 1.025, 1.0, 0.975, 0.95, 0.92, 0.88, 0.84, 0.8, 0.74, 0.68, 0.6];
/// Those that are tried where it must be quick.
const FEW_SHARES: [f32; 3] = [1.0, 0.9, 0.78];
/// Partial sums that are independent of one another, so that they become vectors.
const LANES: usize = 8;

impl Grid {
    /// With the least weighted squared error that a search finds: codes by grids around the plain one, and for each the best
    /// scale and minimum by weighted least squares (as in ggml's `quantize_row_q4_0_impl`). The group is a multiple of 8.
    #[inline(never)]
    pub fn search(numbers: &[f32], weights: &[f32], form: &Affine) -> Self {
        let plain = Self::fit(numbers, form);
        let reach = if form.symmetric { (plain.top + 1.0) / 2.0 } else { plain.top };
        let tried = (-TRIES..=TRIES).map(|step| {
            let scale = plain.scale * reach / (reach + STEP * step as f32);
            let minimum = if form.symmetric { -reach * scale } else { plain.minimum };
            Self { scale, minimum, ..plain }
        });
        plain.best_of(tried, numbers, weights, form)
    }

    /// The same over ranges that leave out something of both ends (AWQ's clipping, arXiv:2306.00978), refitted twice. `quick`
    /// tries fewer.
    #[inline(never)]
    pub fn clip(numbers: &[f32], weights: &[f32], form: &Affine, quick: bool) -> Self {
        let plain = Self::fit(numbers, form);
        let middle = plain.minimum + 0.5 * plain.top * plain.scale;
        let shares = if quick { &FEW_SHARES[..] } else { &SHARES[..] };
        let tried = shares.iter().map(|share| {
            let scale = plain.scale * share;
            match form.symmetric {
                true => Self::new(scale, 0.0, form),
                false => Self { scale, minimum: middle - 0.5 * plain.top * scale, ..plain },
            }
        });
        let best = plain.best_of(tried, numbers, weights, form);
        best.best_of([best], numbers, weights, form)
    }

    /// The best of this grid and what others become by a refit.
    fn best_of(self, tried: impl IntoIterator<Item = Self>, numbers: &[f32], weights: &[f32], form: &Affine) -> Self {
        let mut best = (self.error(numbers, weights), self);
        // A group of one number lies on its grid.
        for grid in tried.into_iter().filter(|grid| grid.scale != 0.0) {
            let grid = grid.refitted(numbers, weights, form);
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

    #[test]
    fn clipping_errs_less_than_the_whole_range_where_it_matters() {
        let mut group: Vec<f32> = (0..32).map(|i| ((i * 37 % 32) as f32 - 15.5) * 0.1).collect();
        group[5] = 6.0;
        let importance: Vec<f32> = (0..32).map(|i| if i == 5 { 0.01 } else { 1.0 + i as f32 }).collect();
        for symmetric in [false, true] {
            let form = Affine { bits: 4, group: 32, symmetric };
            let whole = Grid::fit(&group, &form).error(&group, &importance);
            let [quick, clipped] =
                [true, false].map(|quick| Grid::clip(&group, &importance, &form, quick).error(&group, &importance));
            assert!(clipped < 0.7 * whole, "{form:?}: {clipped} is not far below {whole}");
            assert!(clipped <= quick && quick <= whole, "{form:?}: {clipped}, {quick}, {whole}");
        }
    }

    #[test]
    fn groups_of_one_number_are_kept() {
        for symmetric in [false, true] {
            let form = Affine { bits: 4, group: 32, symmetric };
            for grid in
                [Grid::clip(&[0.25; 32], &[1.0; 32], &form, false), Grid::search(&[0.25; 32], &[1.0; 32], &form)]
            {
                assert_eq!(grid.number(grid.code(0.25)), 0.25);
            }
        }
    }
}

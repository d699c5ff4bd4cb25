//! The grid of a group under which the squared error, weighed by the importance of columns, is smallest: AWQ's search for
//! the range to clip to (arXiv:2306.00978). Narrower ranges are tried, each refitted to the codes that it gives by weighted
//! least squares.

use super::{Affine, Grid};

/// Shares of the range that are tried: finely where 4 bits have their best, widely for fewer bits.
const SHARES: [f32; 12] = [1.05, 1.025, 1.0, 0.975, 0.95, 0.92, 0.88, 0.84, 0.8, 0.74, 0.68, 0.6];
/// Those that are tried where it must be quick.
const FEW_SHARES: [f32; 3] = [1.0, 0.9, 0.78];
/// Sums that are independent of one another; groups are a multiple of it.
const LANES: usize = 8;

impl Grid {
    /// The best grid found for a group's numbers, never worse than that of the whole range. `quick` tries fewer.
    // Inlined into plugins, which may compile their loops for speed.
    #[inline]
    pub fn clip(numbers: &[f32], importance: &[f32], form: &Affine, quick: bool) -> Self {
        let whole = Self::fit(numbers, form);
        let mut best = (error(numbers, importance, &whole), whole);
        let mut keep = |grid: Self| {
            let error = error(numbers, importance, &grid);
            if error < best.0 {
                best = (error, grid);
            }
            best.1
        };
        let mut found = whole;
        for share in if quick { &FEW_SHARES[..] } else { &SHARES[..] } {
            let middle = whole.minimum + 0.5 * whole.top * whole.scale;
            let scale = whole.scale * share;
            let narrower = Self { scale, minimum: middle - 0.5 * whole.top * scale, top: whole.top };
            let narrower = if form.symmetric { Self::new(scale, 0.0, form) } else { narrower };
            found = keep(refitted(numbers, importance, &narrower, form));
        }
        keep(refitted(numbers, importance, &found, form))
    }
}

/// The code as a number, in a form that compiles to vector instructions.
#[inline(always)]
fn code(number: f32, inverse: f32, grid: &Grid) -> f32 {
    ((number - grid.minimum) * inverse + 0.5).floor().clamp(0.0, grid.top)
}

#[inline(always)]
fn inverse(grid: &Grid) -> f32 {
    if grid.scale == 0.0 { 0.0 } else { 1.0 / grid.scale }
}

/// The weighted squared error.
#[inline]
fn error(numbers: &[f32], importance: &[f32], grid: &Grid) -> f32 {
    let inverse = inverse(grid);
    let mut sums = [0f32; LANES];
    for (x, w) in numbers.chunks_exact(LANES).zip(importance.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let gap = x[lane] - (grid.scale * code(x[lane], inverse, grid) + grid.minimum);
            sums[lane] += w[lane] * gap * gap;
        }
    }
    sums.iter().sum()
}

/// The grid under which the codes that `grid` gives are nearest; `grid` where they decide none.
#[inline]
fn refitted(numbers: &[f32], importance: &[f32], grid: &Grid, form: &Affine) -> Grid {
    let inverse = inverse(grid);
    // Symmetric codes count from the middle, so that they need no minimum.
    let zero = if form.symmetric { (1u32 << (form.bits - 1)) as f32 } else { 0.0 };
    let mut sums = [[0f32; LANES]; 5];
    for (x, w) in numbers.chunks_exact(LANES).zip(importance.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let (x, w, q) = (x[lane], w[lane], code(x[lane], inverse, grid) - zero);
            sums[0][lane] += w;
            sums[1][lane] += w * q;
            sums[2][lane] += w * q * q;
            sums[3][lane] += w * x;
            sums[4][lane] += w * q * x;
        }
    }
    let [w, q, qq, x, qx] = sums.map(|lanes| lanes.iter().sum::<f32>());
    let determinant = if form.symmetric { qq } else { w * qq - q * q };
    if determinant <= 0.0 {
        return *grid;
    }
    match form.symmetric {
        true => Grid::new(qx / qq, 0.0, form),
        false => Grid::new((w * qx - q * x) / determinant, (qq * x - q * qx) / determinant, form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_errs_less_than_the_whole_range_where_it_matters() {
        let mut group: Vec<f32> = (0..32).map(|i| ((i * 37 % 32) as f32 - 15.5) * 0.1).collect();
        group[5] = 6.0;
        let importance: Vec<f32> = (0..32).map(|i| if i == 5 { 0.01 } else { 1.0 + i as f32 }).collect();
        for symmetric in [false, true] {
            let form = Affine { bits: 4, group: 32, symmetric };
            let error = |grid: Grid| -> f32 {
                let gap = |x: f32| grid.number(grid.code(x)) - x;
                group.iter().zip(&importance).map(|(x, w)| w * gap(*x) * gap(*x)).sum()
            };
            let whole = error(Grid::fit(&group, &form));
            let [quick, clipped] = [true, false].map(|quick| error(Grid::clip(&group, &importance, &form, quick)));
            assert!(clipped < 0.7 * whole, "{form:?}: {clipped} is not far below {whole}");
            assert!(clipped <= quick && quick <= whole, "{form:?}: {clipped}, {quick}, {whole}");
        }
    }

    #[test]
    fn groups_of_one_number_are_kept() {
        for symmetric in [false, true] {
            let grid = Grid::clip(&[0.25; 32], &[1.0; 32], &Affine { bits: 4, group: 32, symmetric }, false);
            assert_eq!(grid.number(grid.code(0.25)), 0.25);
        }
    }
}

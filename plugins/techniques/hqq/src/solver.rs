//! Half-quadratic splitting for one group: min over scale s, minimum m and codes q of |x - s q - m|^p, p = 0.7, with an
//! auxiliary error e that the penalty beta holds to x - s q - m. Three steps in turn: nearest codes, e by generalised
//! soft-thresholding, then s and m by least squares on x - e, which leaves outliers alone. What is kept is the grid with the
//! smallest squared error, which is what outputs see.

use aehost_sdk::technique::{Affine, Grid};

/// Steps at most.
const ROUNDS: usize = 12;
/// First penalty. Errors are in units of the scale, so that it does not depend on the weights' size: what rounding alone
/// makes of them, at most 1/2, is within the threshold, and what clipping makes is not.
const BETA: f32 = 2.0;
/// Growth of the penalty in a round.
const KAPPA: f32 = 1.01;
/// Shares of the group's range that are cut off at either end to start from, where the scale is fitted too: each start
/// only comes to the optimum next to it.
const CUTS: [f32; 3] = [0.0, 0.07, 0.14];
/// Starts that are followed: those with the least error.
const DESCENTS: usize = 5;
/// Independent partial sums.
const LANES: usize = 8;

/// What is fitted.
#[derive(Debug, Clone, Copy)]
pub struct Solver {
    /// Of the codes.
    pub form: Affine,
    /// Whether the scale is fitted, or only the zero-point.
    pub scale: bool,
}

/// Sums over a group: codes, their squares, targets x - e, targets x codes, squared errors.
struct Sums([f32; 5]);

impl Solver {
    /// The grid with the smallest squared error on the way. Numbers are a multiple of eight long.
    pub fn fit(&self, numbers: &[f32]) -> Grid {
        let widest = Grid::fit(numbers, &self.form);
        let mut best = (f32::INFINITY, widest);
        if widest.scale > 0.0 && widest.scale.is_finite() {
            let cuts = if self.scale { &CUTS[..] } else { &CUTS[..1] };
            let pairs = cuts.iter().flat_map(|low| cuts.iter().map(move |high| (*low, *high)));
            let starts = pairs.map(|(low, high)| cut(&widest, low, high, &self.form));
            let mut starts: Vec<(f32, Grid)> = starts.map(|grid| (sums(numbers, &grid, BETA).0[4], grid)).collect();
            starts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            for (_, grid) in starts.into_iter().take(DESCENTS) {
                self.descend(numbers, grid, &mut best);
            }
        }
        best.1
    }

    fn descend(&self, numbers: &[f32], mut grid: Grid, best: &mut (f32, Grid)) {
        let (mut beta, mut last) = (BETA, f32::INFINITY);
        for _ in 0..ROUNDS {
            // A scale below float16's smallest number is stored as 0.
            if grid.scale <= 0.0 {
                return;
            }
            let sums = sums(numbers, &grid, beta);
            let error = sums.0[4];
            if error < best.0 {
                *best = (error, grid);
            }
            if error >= last {
                return;
            }
            last = error;
            grid = self.refit(&sums, numbers.len() as f32, &grid);
            beta *= KAPPA;
        }
    }

    /// Least squares on targets and codes.
    fn refit(&self, sums: &Sums, count: f32, grid: &Grid) -> Grid {
        let [codes, squares, targets, products, _] = sums.0;
        let determinant = count * squares - codes * codes;
        let scale = if self.scale && determinant > 0.0 {
            (count * products - codes * targets) / determinant
        } else {
            grid.scale
        };
        Grid::new(scale, (targets - scale * codes) / count, &self.form)
    }
}

/// The grid without these shares of its range at either end.
fn cut(grid: &Grid, low: f32, high: f32, form: &Affine) -> Grid {
    let range = grid.scale * grid.top;
    Grid::new(grid.scale * (1.0 - low - high), grid.minimum + low * range, form)
}

fn sums(numbers: &[f32], grid: &Grid, beta: f32) -> Sums {
    let (scale, minimum, top) = (grid.scale, grid.minimum, grid.top);
    let (inverse, penalty) = (1.0 / scale, 1.0 / beta);
    let mut sums = [[0f32; LANES]; 5];
    for numbers in numbers.chunks_exact(LANES) {
        for (lane, x) in numbers.iter().enumerate() {
            // Errors in units of the scale, in which no operation depends on it.
            let at = (x - minimum) * inverse;
            let code = limited((at + 0.5).floor(), top);
            let error = at - code;
            let target = at - shrink(error, penalty);
            sums[0][lane] += code;
            sums[1][lane] += code * code;
            sums[2][lane] += target;
            sums[3][lane] += target * code;
            sums[4][lane] += error * error;
        }
    }
    let [codes, squares, targets, products, errors] = sums.map(|lanes| lanes.iter().sum::<f32>());
    let count = numbers.len() as f32;
    Sums([
        codes,
        squares,
        scale * targets + minimum * count,
        scale * products + minimum * codes,
        scale * scale * errors,
    ])
}

/// In [0, top]; comparisons that compile to one instruction each.
#[inline(always)]
fn limited(x: f32, top: f32) -> f32 {
    let x = if x > 0.0 { x } else { 0.0 };
    if x < top { x } else { top }
}

/// sign(x) max(|x| - penalty |x|^(p - 1), 0), p = 0.7.
#[inline(always)]
fn shrink(x: f32, penalty: f32) -> f32 {
    let size = x.abs();
    // Nothing is left of what is smaller than this under any penalty in use.
    let base = if size > 0.25 { size } else { 0.25 };
    let left = size - penalty * power(base);
    if left > 0.0 { left.copysign(x) } else { 0.0 }
}

/// x^(-3/10) by Newton's method on y^-10 = x^3, from what the exponent's bits say; x from 0.25.
#[inline(always)]
fn power(x: f32) -> f32 {
    let one = 1.0f32.to_bits() as f32;
    let mut y = f32::from_bits((1.3 * one - 0.3 * x.to_bits() as f32) as i32 as u32);
    let cube = x * x * x;
    for _ in 0..3 {
        let fifth = y * y * y * y * y;
        y *= 1.1 - 0.1 * cube * fifth * fifth;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn reals(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn squared_error(numbers: &[f32], grid: &Grid) -> f32 {
        numbers.iter().map(|x| (grid.number(grid.code(*x)) - x).powi(2)).sum()
    }

    #[test]
    fn grids_are_those_of_the_reference() {
        let cases: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let form = Affine { bits: case["bits"].as_u64().unwrap() as u32, group: 64, symmetric: false };
            let numbers = reals(&case["numbers"]);
            for (scale, name) in [(false, "zero"), (true, "scale")] {
                let grid = Solver { form, scale }.fit(&numbers);
                let expected = reals(&case[name]);
                let (error, wanted) = (squared_error(&numbers, &grid), expected[2]);
                assert!((error / wanted - 1.0).abs() < 0.02, "{form:?} {name}: {error} is not {wanted}");
                assert!((grid.scale / expected[0] - 1.0).abs() < 0.02, "{form:?} {name}: {grid:?} is not {expected:?}");
            }
        }
    }

    #[test]
    fn what_is_fitted_is_never_worse_than_the_plain_grid() {
        let numbers: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.0).powi(3) * 1e-4).collect();
        for bits in [2, 3, 4, 8] {
            let form = Affine { bits, group: 64, symmetric: false };
            let plain = squared_error(&numbers, &Grid::fit(&numbers, &form));
            let zero = squared_error(&numbers, &Solver { form, scale: false }.fit(&numbers));
            let scale = squared_error(&numbers, &Solver { form, scale: true }.fit(&numbers));
            assert!(scale <= zero * 1.001 && zero <= plain * 1.001, "{bits}: {scale} {zero} {plain}");
        }
    }

    #[test]
    fn groups_of_one_number_or_tiny_ones_are_kept() {
        let form = Affine { bits: 4, group: 32, symmetric: false };
        for number in [0.0, -0.75, 1e-9] {
            let grid = Solver { form, scale: true }.fit(&[number; 32]);
            assert!((grid.number(grid.code(number)) - number).abs() < 1e-7, "{number}: {grid:?}");
        }
    }

    #[test]
    fn the_power_is_near() {
        for i in 0..2000 {
            let x = 0.25 * 1.01f32.powi(i % 700);
            assert!((power(x) / x.powf(-0.3) - 1.0).abs() < 1e-3, "{x}: {}", power(x));
        }
    }
}

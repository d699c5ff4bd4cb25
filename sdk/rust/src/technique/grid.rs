//! Codes of equal distance in groups of columns: the arithmetic of the contract's `affine` representation, and storing
//! what was encoded so. What a quantiser decides for itself is which code, scale and minimum it takes.

use super::{Editor, Error, Matrix, Part, Tensor, each_stretch, weights};
use half::f16;

/// The form of an affine representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affine {
    /// Bits of a code: 2, 3, 4 or 8.
    pub bits: u32,
    /// Columns of a group.
    pub group: usize,
    /// Whether there is no minimum.
    pub symmetric: bool,
}

/// Scale and minimum of one group, as they will be stored: number = scale x code + minimum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Distance of neighbouring codes.
    pub scale: f32,
    /// The number of code 0.
    pub minimum: f32,
    /// The largest code.
    pub top: f32,
}

/// As a float16 holds it.
pub fn as_half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

impl Grid {
    /// With scale and minimum rounded as they are stored.
    pub fn new(scale: f32, minimum: f32, form: &Affine) -> Self {
        let scale = as_half(scale);
        let half = (1u32 << (form.bits - 1)) as f32;
        let minimum = if form.symmetric { -half * scale } else { as_half(minimum) };
        Self { scale, minimum, top: ((1u32 << form.bits) - 1) as f32 }
    }

    /// The narrowest that reaches from the smallest to the largest number. Symmetric ones reach to the number of largest
    /// size with the code that lies furthest from that of 0, so that their scale may be negative.
    pub fn fit(numbers: &[f32], form: &Affine) -> Self {
        if form.symmetric {
            let half = (1u32 << (form.bits - 1)) as f32;
            let extreme = numbers.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
            return Self::new(-extreme / half, 0.0, form);
        }
        let (low, high) = numbers.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        let top = ((1u32 << form.bits) - 1) as f32;
        Self::new((high - low) / top, low, form)
    }

    /// The nearest code.
    pub fn code(&self, number: f32) -> u8 {
        let inverse = if self.scale == 0.0 { 0.0 } else { 1.0 / self.scale };
        // Truncation rounds what is not negative down.
        ((number - self.minimum) * inverse + 0.5).clamp(0.0, self.top) as u8
    }

    /// The number of a code.
    pub fn number(&self, code: u8) -> f32 {
        self.scale * f32::from(code) + self.minimum
    }
}

/// A matrix being encoded, row by row or column by column.
pub struct Codes {
    form: Affine,
    columns: usize,
    /// `[rows, columns]`.
    pub codes: Vec<u8>,
    /// `[rows, columns / group]`.
    pub grids: Vec<Grid>,
}

impl Codes {
    /// A matrix of code 0.
    pub fn new(rows: usize, columns: usize, form: Affine) -> Self {
        let grids = vec![Grid::new(0.0, 0.0, &form); rows * (columns / form.group)];
        Self { form, columns, codes: vec![0; rows * columns], grids }
    }

    /// The grid of a row's column.
    pub fn grid(&mut self, row: usize, column: usize) -> &mut Grid {
        &mut self.grids[row * (self.columns / self.form.group) + column / self.form.group]
    }

    /// Encodes a row, each group on the grid that `fit` finds for its first column and its numbers; gives back what they then
    /// are.
    pub fn encode(&mut self, row: usize, numbers: &mut [f32], fit: impl Fn(usize, &[f32]) -> Grid) {
        let group = self.form.group;
        for (i, part) in numbers.chunks_exact_mut(group).enumerate() {
            let grid = fit(i * group, part);
            *self.grid(row, i * group) = grid;
            let at = row * self.columns + i * group;
            for (number, code) in part.iter_mut().zip(&mut self.codes[at..at + group]) {
                *code = grid.code(*number);
                *number = grid.number(*code);
            }
        }
    }

    /// Makes them the weight's.
    ///
    /// # Errors
    /// Those of the host; diverged, where a scale is not finite.
    pub fn store(&self, model: &Editor, matrix: &Matrix) -> Result<(), Error> {
        store(model, matrix, &self.form, &self.parts(&matrix.weight)?)
    }

    /// Codes `[rows, columns]`, scales and minima `[rows, columns / group]`, as the host's tensors.
    fn parts(&self, weight: &str) -> Result<[Tensor; 3], Error> {
        if let Some(bad) = self.grids.iter().find(|grid| !grid.scale.is_finite() || !grid.minimum.is_finite()) {
            let message = format!("weight `{weight}` would get the scale {} and minimum {}", bad.scale, bad.minimum);
            return Err(Error::new("diverged", message));
        }
        let rows = (self.codes.len() / self.columns) as u32;
        let groups = (self.columns / self.form.group) as u32;
        let of = |number: fn(&Grid) -> f32| {
            Tensor::from_f32(&[rows, groups], &self.grids.iter().map(number).collect::<Vec<f32>>())
        };
        let codes = Tensor::from_bytes(&[rows, self.columns as u32], "uint8", &self.codes)?;
        Ok([codes, of(|grid| grid.scale)?, of(|grid| grid.minimum)?])
    }
}

/// Encodes a matrix, each group of columns on the grid that `fit` finds for its first column and its numbers.
///
/// # Errors
/// Those of the host; diverged, where a number of the weight or a scale is not finite.
pub fn encode_groups(
    model: &Editor,
    matrix: &Matrix,
    form: Affine,
    fit: impl Fn(usize, &[f32]) -> Grid,
) -> Result<(), Error> {
    let columns = matrix.columns() as usize;
    let mut stretches = Vec::new();
    each_stretch(model, matrix, |numbers| {
        let mut codes = Codes::new(numbers.len() / columns, columns, form);
        for (row, numbers) in numbers.chunks_exact_mut(columns).enumerate() {
            codes.encode(row, numbers, &fit);
        }
        stretches.push(codes.parts(&matrix.weight)?);
        Ok(())
    })?;
    let joined = |part: usize| Tensor::concat(0, &stretches.iter().map(|parts| &parts[part]).collect::<Vec<_>>());
    store(model, matrix, &form, &[joined(0)?, joined(1)?, joined(2)?])
}

/// Codes, scales and minima, rows of a stack's matrices one under another, as the weight's own.
fn store(model: &Editor, matrix: &Matrix, form: &Affine, parts: &[Tensor; 3]) -> Result<(), Error> {
    let names = ["codes", "scales", "minima"].into_iter().zip(parts).take(if form.symmetric { 2 } else { 3 });
    let parts: Vec<Part<'_>> = names.map(|(name, value)| Part { name: name.into(), value }).collect();
    weights::store(model, &matrix.weight, &matrix.shape, &form.representation(), &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Affine; 4] = [
        Affine { bits: 2, group: 32, symmetric: false },
        Affine { bits: 3, group: 32, symmetric: true },
        Affine { bits: 4, group: 32, symmetric: true },
        Affine { bits: 8, group: 32, symmetric: false },
    ];

    fn numbers() -> Vec<f32> {
        (0..32).map(|i| ((i * 37 % 32) as f32 - 11.0) * 0.173).collect()
    }

    #[test]
    fn a_fitted_grid_is_half_a_step_off_at_most_between_its_ends() {
        for form in FORMS {
            let grid = Grid::fit(&numbers(), &form);
            for x in numbers() {
                // A symmetric grid lacks one code at the other end.
                let inside = form.symmetric.then_some((grid.number(grid.top as u8) - x) * grid.scale.signum());
                let slack = if inside.is_some_and(|d| d < 0.0) { 1.01 } else { 0.51 };
                let gap = (grid.number(grid.code(x)) - x).abs();
                assert!(gap <= slack * grid.scale.abs() + 2e-3, "{form:?}: {x} is {gap} off");
            }
        }
    }

    #[test]
    fn groups_of_one_number_are_kept() {
        for form in FORMS {
            for x in [0.0, 1.5, -0.25] {
                let grid = Grid::fit(&[x; 32], &form);
                assert_eq!(grid.number(grid.code(x)), x, "{form:?}");
            }
        }
    }

    #[test]
    fn encoding_gives_back_what_the_codes_are() {
        let form = FORMS[2];
        let mut codes = Codes::new(2, 64, form);
        let mut row: Vec<f32> = numbers().into_iter().chain(numbers().into_iter().map(|x| x * 3.0)).collect();
        codes.encode(1, &mut row, |_, part| Grid::fit(part, &form));
        let decoded: Vec<f32> = (0..64).map(|c| codes.grids[2 + c / 32].number(codes.codes[64 + c])).collect();
        assert_eq!(row, decoded);
        assert_eq!(codes.grid(0, 0).scale, 0.0, "the other row is as it was");
    }
}

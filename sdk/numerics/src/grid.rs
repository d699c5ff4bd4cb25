//! Codes of equal distance in groups of columns: the arithmetic of the contract's `affine` representation. What a quantiser
//! decides for itself is which code, scale and minimum it takes.

use half::f16;

/// Group sizes, as the contract has them.
pub const GROUPS: [i64; 3] = [32, 64, 128];

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

impl Affine {
    /// The same for rows of so many columns: with a smaller group, where an earlier technique left rows that this one's does
    /// not divide.
    pub fn dividing(self, columns: u32) -> Option<Self> {
        let fits = |group: &i64| *group as usize <= self.group && i64::from(columns) % group == 0;
        GROUPS.into_iter().rev().find(fits).map(|group| Self { group: group as usize, ..self })
    }
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
    #[inline(never)]
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
    /// Of all its codes.
    pub form: Affine,
    /// Elements of a row.
    pub columns: usize,
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

    #[test]
    fn rows_that_the_group_does_not_divide_get_a_smaller_one() {
        let form = Affine { bits: 4, group: 64, symmetric: false };
        assert_eq!(form.dividing(576), Some(form));
        assert_eq!(form.dividing(96), Some(Affine { group: 32, ..form }));
        assert_eq!(form.dividing(128), Some(form), "no larger one than was chosen");
        assert_eq!(form.dividing(40), None);
    }
}

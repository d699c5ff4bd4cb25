//! Products of plain matrices in any order of rows and columns, and of gradients with weights in any representation.

use super::room::Room;
use crate::dense::Dense;
use crate::matrix::Matrix;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a weight that are decoded at once.
const STRIPE: usize = 2048;

/// A matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// From a row to the next, and from a column to the next.
    strides: (usize, usize),
}

impl<'a> View<'a> {
    /// Rows of `columns` numbers, one after another.
    pub fn of(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers, rows: numbers.len() / columns.max(1), columns, strides: (columns, 1) }
    }

    /// Rows and columns exchanged.
    pub fn turned(self) -> Self {
        let (row, column) = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: (column, row), ..self }
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.rows, "the rows must be there");
        let start = (range.start * self.strides.0).min(self.numbers.len());
        Self { numbers: &self.numbers[start..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub fn columns(self, range: Range<usize>) -> Self {
        self.turned().rows(range).turned()
    }

    /// Elements up to the last that is read.
    fn reach(self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => (rows - 1) * self.strides.0 + (columns - 1) * self.strides.1 + 1,
        }
    }
}

/// Whether a product stands alone or is one of many that threads do side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    One,
    All,
}

/// What becomes of what stood there before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Replace,
    Add,
}

/// a b, as rows of `b`'s columns; panics where the shapes do not fit.
pub(super) fn multiply(a: View<'_>, b: View<'_>, to: &mut [f32], into: Into, threads: Threads) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(k == b.rows && to.len() == m * n, "{m} x {k} times {} x {n} into {}", b.rows, to.len());
    assert!(a.reach() <= a.numbers.len() && b.reach() <= b.numbers.len(), "the operands must lie in memory");
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: all three were measured, and `to` is borrowed for writing.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            n as isize,
            into == Into::Add,
            a.numbers.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.numbers.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1f32,
            1f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// dx = dy W, or dx + dy W, of a weight that is not trained, whose rows are decoded some at a time, rows and columns exchanged:
/// there is no second copy of it, and the product is one like any other.
pub(super) fn through(weight: &Matrix, dy: &[f32], dx: &mut [f32], mut into: Into, room: &Room) {
    let (rows, columns) = weight.shape();
    for first in (0..rows).step_by(STRIPE) {
        let count = STRIPE.min(rows - first);
        let numbers = room.take(Dense::numbers_of(columns, count));
        let exchanged = weight.exchanged(first..first + count, numbers);
        let mut stripe = None;
        let dy = match count == rows {
            true => dy,
            false => {
                let mut part = room.take(dy.len() / rows * count);
                let lines = part.par_chunks_mut(count).zip(dy.par_chunks(rows));
                lines.for_each(|(to, from)| to.copy_from_slice(&from[first..first + count]));
                stripe.insert(part).as_slice()
            }
        };
        if into == Into::Replace {
            exchanged.linear(dy, dx);
        } else {
            let mut more = room.take(dx.len());
            exchanged.linear(dy, &mut more);
            let parts = dx.par_chunks_mut(columns * 16).zip(more.par_chunks(columns * 16));
            parts.for_each(|(dx, more)| dx.iter_mut().zip(more).for_each(|(dx, more)| *dx += more));
            room.give(Some(Arc::new(more)));
        }
        into = Into::Add;
        room.give(Some(Arc::new(exchanged.into_numbers())));
        room.give(stripe.map(Arc::new));
    }
}

/// Sums over the rows of a value, added.
pub(super) fn add_column_sums(dy: &[f32], to: &mut [f32]) {
    let width = to.len().max(1);
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(width * 64)
        .map(|rows| {
            let mut sums = vec![0f32; width];
            rows.chunks_exact(width).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, d)| *s += d));
            sums
        })
        .collect();
    for part in parts {
        to.iter_mut().zip(part).for_each(|(to, sum)| *to += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_of_any_order_equal_their_definition(
            m in 1usize..9, n in 1usize..9, k in 1usize..9, turn_a in any::<bool>(), turn_b in any::<bool>(), add in any::<bool>(),
            numbers in prop::collection::vec(-1f32..1.0, 243),
        ) {
            let (a, rest) = numbers.split_at(m * k);
            let (b, rest) = rest.split_at(k * n);
            let mut to = rest[..m * n].to_vec();
            let view = |x, rows, columns, turn| if turn { View::of(x, rows).turned() } else { View::of(x, columns) };
            let before = to.clone();
            let into = if add { Into::Add } else { Into::Replace };
            multiply(view(a, m, k, turn_a), view(b, k, n, turn_b), &mut to, into, Threads::One);
            for i in 0..m {
                for j in 0..n {
                    let of = |x: &[f32], row: usize, column: usize, (rows, columns): (usize, usize), turn: bool| if turn { x[column * rows + row] } else { x[row * columns + column] };
                    let sum: f32 = (0..k).map(|l| of(a, i, l, (m, k), turn_a) * of(b, l, j, (k, n), turn_b)).sum();
                    let expected = sum + if add { before[i * n + j] } else { 0.0 };
                    prop_assert!((to[i * n + j] - expected).abs() < 1e-5);
                }
            }
        }
    }
}

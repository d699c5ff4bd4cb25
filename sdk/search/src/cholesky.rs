//! Symmetric positive definite systems of some hundred unknowns.

/// The lower factor L of A = L L', row by row.
#[derive(Debug, Clone)]
pub struct Cholesky {
    size: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors a symmetric matrix, of which the lower triangle is read, row by row. None where it is not positive definite.
    pub fn new(matrix: &[f64], size: usize) -> Option<Self> {
        let mut lower = matrix[..size * size].to_vec();
        for i in 0..size {
            let (above, current) = lower.split_at_mut(i * size);
            for j in 0..=i {
                let other = if j < i { &above[j * size..j * size + j] } else { &[] };
                if j < i {
                    let rest = current[j] - product(&current[..j], other);
                    current[j] = rest / above[j * size + j];
                } else {
                    let rest = current[i] - product(&current[..i], &current[..i]);
                    if rest.is_nan() || rest <= 0.0 {
                        return None;
                    }
                    current[i] = rest.sqrt();
                }
            }
        }
        Some(Self { size, lower })
    }

    /// L^-1 b.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        for i in 0..self.size {
            let row = &self.lower[i * self.size..][..=i];
            x[i] = (x[i] - product(&row[..i], &x[..i])) / row[i];
        }
        x
    }

    /// A^-1 b.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..self.size).rev() {
            let row = &self.lower[i * self.size..][..=i];
            x[i] /= row[i];
            let value = x[i];
            x[..i].iter_mut().zip(row).for_each(|(x, l)| *x -= l * value);
        }
        x
    }

    /// A^-1, row by row.
    pub fn inverse(&self) -> Vec<f64> {
        let n = self.size;
        let columns = self.inverse_columns();
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = product(&columns[i * n + i..(i + 1) * n], &columns[j * n + i..(j + 1) * n]);
                inverse[i * n + j] = value;
                inverse[j * n + i] = value;
            }
        }
        inverse
    }

    /// The diagonal of A^-1, for less work.
    pub fn inverse_diagonal(&self) -> Vec<f64> {
        let columns = self.inverse_columns();
        columns.chunks(self.size.max(1)).map(|column| product(column, column)).collect()
    }

    /// L^-1, column by column.
    fn inverse_columns(&self) -> Vec<f64> {
        let n = self.size;
        let mut columns = vec![0.0; n * n];
        for j in 0..n {
            let column = &mut columns[j * n..(j + 1) * n];
            // Column j begins at j.
            column[j] = 1.0 / self.lower[j * n + j];
            for i in j + 1..n {
                let row = &self.lower[i * n..][..=i];
                column[i] = -product(&row[j..i], &column[j..i]) / row[i];
            }
        }
        columns
    }

    /// Logarithm of the determinant of A.
    pub fn log_determinant(&self) -> f64 {
        (0..self.size).map(|i| 2.0 * self.lower[i * self.size + i].ln()).sum()
    }
}

/// Inner product in four sums, which become a vector.
pub fn product(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a_parts, b_parts) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn solutions_and_inverses_undo_the_matrix() {
        let mut random = Random::new(1);
        let n = 17;
        let factor: Vec<f64> = (0..n * n).map(|_| random.normal()).collect();
        let row = |i: usize| &factor[i * n..(i + 1) * n];
        let entry = |i: usize, j: usize| product(row(i), row(j)) + f64::from(u8::from(i == j));
        let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let times = |x: &[f64]| (0..n).map(|i| product(&matrix[i * n..(i + 1) * n], x)).collect::<Vec<f64>>();
        let cholesky = Cholesky::new(&matrix, n).unwrap();
        let x: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close(&cholesky.solve(&times(&x)), &x));
        let inverse = cholesky.inverse();
        let by_inverse: Vec<f64> = (0..n).map(|i| product(&inverse[i * n..(i + 1) * n], &times(&x))).collect();
        assert!(close(&by_inverse, &x));
        let diagonal: Vec<f64> = (0..n).map(|i| inverse[i * n + i]).collect();
        assert!(close(&cholesky.inverse_diagonal(), &diagonal));
        assert!(
            (product(&cholesky.forward(&x), &cholesky.forward(&x)) - product(&x, &cholesky.solve(&x))).abs() < 1e-9
        );
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!((Cholesky::new(&[4.0, 0.0, 0.0, 0.25], 2).unwrap().log_determinant()).abs() < 1e-12);
    }
}

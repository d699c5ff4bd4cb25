//! Orthogonal matrices that spread any one column over all: a randomised Hadamard matrix (QuaRot, section 3.1) of the largest
//! power of two in the width, times, by Kronecker, a random orthogonal matrix of what remains.

use aehost_sdk::technique::{Error, Tensor};

/// An orthogonal matrix `[width, width]`; the same for the same seed.
pub fn orthogonal(width: usize, seed: u64) -> Result<Tensor, Error> {
    let power = 1 << width.trailing_zeros();
    let rest = (width / power) as u32;
    // U V' of the singular vectors of normal numbers is distributed evenly over all rotations.
    let (left, _, right) = Tensor::random_normal(&[rest, rest], "float32", seed)?.svd(None)?;
    let signs = Tensor::random_normal(&[width as u32], "float32", !seed)?.to_f32()?;
    let numbers = randomised(power, &left.matmul(&right)?.to_f32()?, &signs);
    Tensor::from_f32(&[width as u32, width as u32], &numbers)
}

/// The Kronecker product of the Hadamard matrix of order `power`, with rows of length 1, and a square matrix; columns have
/// the signs of these numbers.
fn randomised(power: usize, other: &[f32], signs: &[f32]) -> Vec<f32> {
    let (width, rest) = (signs.len(), signs.len() / power);
    let length = (power as f32).sqrt();
    let element = |row: usize, column: usize| {
        // Sylvester's: negative where the indices have an odd number of ones in common.
        let odd = ((row / rest) & (column / rest)).count_ones() % 2 == 1;
        let sign = if odd { -1.0 } else { 1.0 } * if signs[column] < 0.0 { -1.0 } else { 1.0 };
        sign / length * other[row % rest * rest + column % rest]
    };
    (0..width).flat_map(|row| (0..width).map(move |column| element(row, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    #[test]
    fn the_matrix_is_numpys_kronecker_product_and_orthogonal() {
        let reference: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let power = reference["power"].as_u64().unwrap() as usize;
        let (signs, expected) = (numbers(&reference["signs"]), numbers(&reference["matrix"]));
        let found = randomised(power, &numbers(&reference["other"]), &signs);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
        let row = |i: usize| &found[i * signs.len()..(i + 1) * signs.len()];
        for (i, j) in [(0, 0), (0, 1), (3, 7), (5, 5)] {
            let product: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
            assert!((product - f32::from(u8::from(i == j))).abs() < 1e-5, "rows {i} and {j}: {product}");
        }
    }
}

//! Pooling of keys, whose rotation leaves them one freedom: a pair of elements that rotates together is a complex number,
//! and a complex factor on it may go over to the queries.

/// Key heads as one, and what their queries are multiplied with instead.
#[derive(Debug, PartialEq)]
pub struct Pooled {
    /// `[head-dim, heads x head-dim]`: heads -> the one.
    pub pool: Vec<f32>,
    /// `[head-dim, head-dim]` of each head: for its queries.
    pub adapt: Vec<Vec<f32>>,
}

/// The best single head for several, by the squared error of the scores: for each pair the first principal component of
/// the heads' keys, each by the energy of its queries. `gram` is that of the keys `[heads x d, heads x d]`, `energy` the
/// second moment of their queries `[heads x d]`.
pub fn pool(gram: &[f32], energy: &[f32], pairs: &[[usize; 2]]) -> Pooled {
    let d = pairs.len() * 2;
    let n = energy.len();
    let heads = n / d;
    let mut pooled = Pooled { pool: vec![0.0; d * n], adapt: vec![vec![0.0; d * d]; heads] };
    for [x, y] in pairs.iter().copied() {
        let g = |i: usize, j: usize| f64::from(gram[i * n + j]);
        let strength: Vec<f64> =
            (0..heads).map(|h| f64::from(energy[h * d + x]) + f64::from(energy[h * d + y])).collect();
        let total: f64 = strength.iter().sum();
        // Queries that are always 0 ask for nothing, but divide.
        let strength = strength.iter().map(|s| if total > 0.0 { s.max(1e-6 * total) } else { 1.0 });
        let root: Vec<f64> = strength.map(f64::sqrt).collect();
        let product = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = ((a * d + x, a * d + y), (b * d + x, b * d + y));
            let weight = root[a] * root[b];
            Complex(weight * (g(ax, bx) + g(ay, by)), weight * (g(ay, bx) - g(ax, by)))
        };
        let matrix: Vec<Complex> = (0..heads * heads).map(|i| product(i / heads, i % heads)).collect();
        let scale = root.iter().map(|r| r * r).sum::<f64>().sqrt();
        for (h, u) in principal(&matrix, heads).into_iter().enumerate() {
            // The conjugate gathers the component from the head; for the queries it brings the head back.
            let gather = Complex(u.0 * root[h] / scale, -u.1 * root[h] / scale);
            let bring = Complex(u.0 * scale / root[h], -u.1 * scale / root[h]);
            gather.place(&mut pooled.pool, n, (x, y), (h * d + x, h * d + y));
            bring.place(&mut pooled.adapt[h], d, (x, y), (x, y));
        }
    }
    pooled
}

/// The mean of the heads.
pub fn mean(heads: usize, d: usize) -> Vec<f32> {
    let n = heads * d;
    (0..d * n).map(|i| if i % n % d == i / n { 1.0 / heads as f32 } else { 0.0 }).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Complex(f64, f64);

impl Complex {
    fn times(self, other: Self) -> Self {
        Self(self.0 * other.0 - self.1 * other.1, self.0 * other.1 + self.1 * other.0)
    }

    /// Writes the map z -> self z, of the pair `from` to the pair `to`, into a matrix with so many columns.
    fn place(self, matrix: &mut [f32], columns: usize, to: (usize, usize), from: (usize, usize)) {
        matrix[to.0 * columns + from.0] = self.0 as f32;
        matrix[to.0 * columns + from.1] = -self.1 as f32;
        matrix[to.1 * columns + from.0] = self.1 as f32;
        matrix[to.1 * columns + from.1] = self.0 as f32;
    }
}

/// The unit eigenvector of the largest eigenvalue of a Hermitian matrix that is not negative; the phase is such that its
/// elements' sum is real. Equal elements for the zero matrix.
fn principal(matrix: &[Complex], n: usize) -> Vec<Complex> {
    let diagonal = |i: usize| matrix[i * n + i].0;
    let largest = (0..n).max_by(|a, b| diagonal(*a).total_cmp(&diagonal(*b))).unwrap_or(0);
    let mut u: Vec<Complex> = (0..n).map(|i| matrix[i * n + largest]).collect();
    let equal = vec![Complex(1.0 / (n as f64).sqrt(), 0.0); n];
    for _ in 0..256 {
        let length = u.iter().map(|c| c.0 * c.0 + c.1 * c.1).sum::<f64>().sqrt();
        if length == 0.0 || !length.is_finite() {
            return equal;
        }
        u.iter_mut().for_each(|c| *c = Complex(c.0 / length, c.1 / length));
        let next = (0..n).map(|i| {
            (0..n).map(|j| matrix[i * n + j].times(u[j])).fold(Complex(0.0, 0.0), |s, c| Complex(s.0 + c.0, s.1 + c.1))
        });
        u = next.collect();
    }
    let sum = u.iter().fold(Complex(0.0, 0.0), |s, c| Complex(s.0 + c.0, s.1 + c.1));
    let (size, length) = (sum.0.hypot(sum.1), u.iter().map(|c| c.0 * c.0 + c.1 * c.1).sum::<f64>().sqrt());
    if length == 0.0 {
        return equal;
    }
    let turn = if size > 1e-9 * length { Complex(sum.0 / size, -sum.1 / size) } else { Complex(1.0, 0.0) };
    u.into_iter().map(|c| c.times(turn)).map(|c| Complex(c.0 / length, c.1 / length)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let gap = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(gap < 1e-4, "{gap} off");
    }

    #[test]
    fn heads_are_pooled_as_numpy_does_it() {
        let reference: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let pooled = pool(&numbers(&reference["gram"]), &numbers(&reference["energy"]), &[[0, 1], [2, 3]]);
        near(&pooled.pool, &numbers(&reference["pool"]));
        near(&pooled.adapt.concat(), &numbers(&reference["adapt"]));
    }

    #[test]
    fn equal_heads_are_their_mean_and_queries_stay() {
        let head = [1.5f32, -0.5, 0.25, 2.0];
        let keys: Vec<f32> = head.repeat(3);
        let gram: Vec<f32> = keys.iter().flat_map(|a| keys.iter().map(move |b| a * b)).collect();
        let pooled = pool(&gram, &[1.0; 12], &[[0, 2], [1, 3]]);
        near(&pooled.pool, &mean(3, 4));
        let identity: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
        pooled.adapt.iter().for_each(|adapt| near(adapt, &identity));
    }

    #[test]
    fn keys_and_queries_that_are_always_0_are_pooled_to_numbers() {
        let pooled = pool(&[0.0; 64], &[0.0; 8], &[[0, 2], [1, 3]]);
        near(&pooled.pool, &mean(2, 4));
    }
}

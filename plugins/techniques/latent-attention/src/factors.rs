//! The arithmetic: how keys are divided into a part that position rotates and one that it leaves alone, and the matrices
//! that make of queries, keys and values those of latent attention.

use aehost_sdk::technique::{Pair, largest};

/// The shape of a layer's attention before.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub value_dim: usize,
    /// Which elements of a head rotate together.
    pub pairs: Vec<Pair>,
}

/// What the error in each element of keys and values costs, and what stands for the rotation where it is left out.
#[derive(Debug)]
pub struct Weights {
    /// Square roots, `[joint]`: of keys, alike in both elements of a pair, then of values.
    pub joint: Vec<f64>,
    /// The mean rotation of each pair, as a complex number.
    pub rotations: Vec<(f64, f64)>,
}

/// The components that stay rotated: directions across the key-value heads, each in one pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotated {
    /// Radians a position by which each turns.
    pub frequencies: Vec<f64>,
    /// On keys times their weights, orthonormal: `[2 components, keys]`, the components' first elements before the second.
    pub rows: Vec<f32>,
}

/// Matrices are row-major.
pub type Matrix = Vec<f32>;

impl Shape {
    /// Elements of all heads' keys.
    pub fn keys(&self) -> usize {
        self.kv_heads * self.dim
    }

    /// Elements of all heads' keys and values.
    pub fn joint(&self) -> usize {
        self.kv_heads * (self.dim + self.value_dim)
    }

    /// One matrix under another, for each query head that of its key-value head.
    fn by_head(&self, of: impl Fn(usize) -> Matrix) -> Matrix {
        (0..self.heads).flat_map(|head| of(head * self.kv_heads / self.heads)).collect()
    }

    /// From mean squares of queries `[heads, dim]` and values `[kv_heads, value_dim]`, and the squared lengths of the output
    /// matrix's columns `[heads, value_dim]`. The error of a head's attention has two parts, that of a score times what
    /// values give the output, and that of a value: both in the units of the output.
    pub fn weights(&self, queries: &[f32], values: &[f32], outputs: &[f32], scale: f64, reach: u32) -> Weights {
        let (mut of_keys, mut of_values) = (vec![0.0; self.keys()], vec![0.0; values.len()]);
        for head in 0..self.heads {
            let kv = head * self.kv_heads / self.heads;
            let mut given = 0.0;
            for j in 0..self.value_dim {
                let (value, output) = (kv * self.value_dim + j, f64::from(outputs[head * self.value_dim + j]));
                of_values[value] += output;
                given += output * f64::from(values[value]);
            }
            for pair in &self.pairs {
                let query: f64 = pair.elements.iter().map(|e| f64::from(queries[head * self.dim + e])).sum();
                pair.elements.iter().for_each(|e| of_keys[kv * self.dim + e] += scale * scale / 2.0 * query * given);
            }
        }
        let roots = |part: Vec<f64>| {
            // An element that nothing reads still needs a finite inverse.
            let floor = part.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1e-8;
            part.into_iter().map(move |weight| weight.max(floor).sqrt())
        };
        let rotations = self.pairs.iter().map(|pair| pair.mean_rotation(reach)).collect();
        Weights { joint: roots(of_keys).chain(roots(of_values)).collect(), rotations }
    }

    /// For each pair, the second moments across key-value heads of its weighted keys, `[kv_heads, kv_heads]`, of the keys'
    /// `[keys, keys]`.
    pub fn pair_moments(&self, gram: &[f32], weights: &Weights) -> Vec<Matrix> {
        let heads = self.kv_heads;
        let of_pair = |pair: &Pair| {
            let entry = |i: usize| {
                let at = |e: usize| (i / heads * self.dim + e, i % heads * self.dim + e);
                let (a, b) = at(pair.elements[0]);
                let moments = pair.elements.iter().map(|e| f64::from(gram[at(*e).0 * self.keys() + at(*e).1]));
                (weights.joint[a] * weights.joint[b] * moments.sum::<f64>()) as f32
            };
            (0..heads * heads).map(entry).collect()
        };
        self.pairs.iter().map(of_pair).collect()
    }

    /// The `count` components that would lose most by not being rotated, by pair; `eigen` has the eigenvalues of each pair's
    /// moments and their vectors in columns.
    pub fn rotated(&self, eigen: &[(Vec<f32>, Matrix)], weights: &Weights, count: usize) -> Rotated {
        let heads = self.kv_heads;
        let lost = weights.rotations.iter().map(|(re, im)| 1.0 - re * re - im * im);
        let losses = eigen.iter().zip(lost).flat_map(|((all, _), lost)| all.iter().map(move |x| f64::from(*x) * lost));
        let mut chosen = largest(&losses.collect::<Vec<_>>(), count);
        // What stands still loses nothing.
        chosen.retain(|i| self.pairs[i / heads].frequency > 0.0);
        let mut rows = vec![0.0; 2 * chosen.len() * self.keys()];
        for (s, i) in chosen.iter().enumerate() {
            for (half, e) in self.pairs[i / heads].elements.iter().enumerate() {
                let row = &mut rows[(half * chosen.len() + s) * self.keys()..][..self.keys()];
                (0..heads).for_each(|g| row[g * self.dim + e] = eigen[i / heads].1[g * heads + i % heads]);
            }
        }
        Rotated { frequencies: chosen.iter().map(|i| self.pairs[i / heads].frequency).collect(), rows }
    }

    /// Keys and values -> what the latent is to hold, `[joint, joint]`: the keys without their rotated components, and the
    /// values, weighted.
    pub fn remainder(&self, weights: &Weights, Rotated { rows, .. }: &Rotated) -> Matrix {
        let (keys, joint) = (self.keys(), self.joint());
        let mut map = vec![0f32; joint * joint];
        for (pair, (re, im)) in self.pairs.iter().zip(&weights.rotations) {
            for e in pair.elements {
                let all: Vec<usize> = (0..self.kv_heads).map(|g| g * self.dim + e).collect();
                let rows: Vec<&[f32]> = rows.chunks_exact(keys).filter(|r| all.iter().any(|i| r[*i] != 0.0)).collect();
                for (a, b) in all.iter().flat_map(|a| all.iter().map(|b| (*a, *b))) {
                    let removed: f64 = rows.iter().map(|row| f64::from(row[a]) * f64::from(row[b])).sum();
                    let kept = f64::from(u8::from(a == b)) - removed;
                    map[a * joint + b] = (kept * (re.hypot(*im) * weights.joint[b])) as f32;
                }
            }
        }
        (keys..joint).for_each(|i| map[i * (joint + 1)] = weights.joint[i] as f32);
        map
    }

    /// Keys -> the rotated key that all heads share, `[2 components, keys]`; pairs are half its elements apart.
    pub fn rotated_key(&self, weights: &Weights, rotated: &Rotated) -> Matrix {
        let weights = weights.joint[..self.keys()].iter().cycle();
        rotated.rows.iter().zip(weights).map(|(x, weight)| (f64::from(*x) * weight) as f32).collect()
    }

    /// Each head's query -> the one for what directions take of the keys, `[heads, directions, dim]`. They are the rows of a
    /// matrix of so many columns, on keys times their weights; a rotation of each pair stands for the keys' own.
    pub fn query(&self, weights: &Weights, rotations: &[(f64, f64)], directions: &[f32], columns: usize) -> Matrix {
        self.by_head(|g| {
            let mut map = vec![0f32; directions.len() / columns * self.dim];
            for (pair, (re, im)) in self.pairs.iter().zip(rotations) {
                let [a, b] = pair.elements;
                let weight = re.hypot(*im).max(f64::MIN_POSITIVE) * weights.joint[g * self.dim + a];
                let (cos, sin) = (re / weight, im / weight);
                for (row, direction) in map.chunks_exact_mut(self.dim).zip(directions.chunks_exact(columns)) {
                    let [x, y] = pair.elements.map(|e| f64::from(direction[g * self.dim + e]));
                    (row[a], row[b]) = ((x * cos + y * sin) as f32, (y * cos - x * sin) as f32);
                }
            }
            map
        })
    }

    /// What attention gives of latents -> each head's of values, `[heads, value_dim, rank]`; the latent's `basis` is
    /// `[rank, joint]`, in what [`Shape::remainder`] gives.
    pub fn values(&self, weights: &Weights, basis: &[f32]) -> Matrix {
        let column = |i: usize| {
            let rows = basis.chunks_exact(self.joint());
            rows.map(move |row| (f64::from(row[i]) / weights.joint[i]) as f32)
        };
        self.by_head(|g| (0..self.value_dim).flat_map(|j| column(self.keys() + g * self.value_dim + j)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    struct Case {
        shape: Shape,
        reference: Value,
    }

    impl Case {
        fn read() -> Self {
            let reference: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
            let size = |name: &str| reference[name].as_u64().unwrap() as usize;
            let elements: Vec<[usize; 2]> = serde_json::from_value(reference["elements"].clone()).unwrap();
            let frequencies: Vec<f64> = serde_json::from_value(reference["frequencies"].clone()).unwrap();
            let pairs = elements.into_iter().zip(frequencies);
            let shape = Shape {
                heads: size("heads"),
                kv_heads: size("kv_heads"),
                dim: size("dim"),
                value_dim: size("value_dim"),
                pairs: pairs.map(|(elements, frequency)| Pair { elements, frequency }).collect(),
            };
            Self { shape, reference }
        }

        fn numbers(&self, name: &str) -> Vec<f32> {
            serde_json::from_value(self.reference[name].clone()).unwrap()
        }

        fn weights(&self) -> Weights {
            let [queries, values, outputs] = ["query_squares", "value_squares", "outputs"].map(|n| self.numbers(n));
            let reach = self.reference["reach"].as_u64().unwrap() as u32;
            self.shape.weights(&queries, &values, &outputs, self.reference["scale"].as_f64().unwrap(), reach)
        }

        fn eigen(&self) -> Vec<(Vec<f32>, Matrix)> {
            serde_json::from_value(self.reference["eigen"].clone()).unwrap()
        }

        /// Joined keys and values of a token.
        fn joint(&self, token: usize) -> Vec<f32> {
            let row = |name: &str, width: usize| self.numbers(name)[token * width..][..width].to_vec();
            let values = self.shape.kv_heads * self.shape.value_dim;
            [row("keys", self.shape.keys()), row("values", values)].concat()
        }
    }

    /// Matrix `[rows, x.len()]` times x.
    fn times(matrix: &[f32], x: &[f32]) -> Vec<f32> {
        matrix.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    /// As the rope op turns a head whose pairs are half its elements apart.
    fn turned(x: &[f32], frequencies: &[f64], position: usize) -> Vec<f32> {
        let pairs = frequencies.len();
        let mut y = x.to_vec();
        for (s, frequency) in frequencies.iter().enumerate() {
            let (sin, cos) = (frequency * position as f64).sin_cos();
            y[s] = x[s] * cos as f32 - x[s + pairs] * sin as f32;
            y[s + pairs] = x[s] * sin as f32 + x[s + pairs] * cos as f32;
        }
        y
    }

    fn near(found: f32, expected: f32, what: &str) {
        assert!((found - expected).abs() < 2e-4 * expected.abs().max(1.0), "{what}: {found}, not {expected}");
    }

    #[test]
    fn scores_and_values_of_a_whole_latent_equal_those_of_a_reference() {
        let case = Case::read();
        let (shape, weights) = (&case.shape, case.weights());
        let rotated = shape.rotated(&case.eigen(), &weights, 2);
        let frequencies = &rotated.frequencies;
        let rank = shape.joint();
        let basis: Matrix = (0..rank * rank).map(|i| f32::from(u8::from(i % (rank + 1) == 0))).collect();
        let remainder = shape.remainder(&weights, &rotated);
        let key = shape.rotated_key(&weights, &rotated);
        let to_latent = shape.query(&weights, &weights.rotations, &basis, rank);
        let to_rotated = shape.query(&weights, &vec![(1.0, 0.0); shape.pairs.len()], &rotated.rows, shape.keys());
        let up = shape.values(&weights, &basis);
        let tokens = case.reference["tokens"].as_u64().unwrap() as usize;
        let (queries, scores, values) = (case.numbers("queries"), case.numbers("scores"), case.numbers("values"));
        let part = |map: &[f32], head: usize| -> Matrix {
            let size = map.len() / shape.heads;
            map[head * size..][..size].to_vec()
        };
        for (i, score) in scores.iter().enumerate() {
            let (head, at, of) = (i / tokens / tokens, i / tokens % tokens, i % tokens);
            let query = &queries[(at * shape.heads + head) * shape.dim..][..shape.dim];
            let joint = case.joint(of);
            let latent = times(&remainder, &joint);
            let own = turned(&times(&part(&to_rotated, head), query), frequencies, at);
            let other = turned(&times(&key, &joint[..shape.keys()]), frequencies, of);
            let plain = times(&part(&to_latent, head), query);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            near(dot(&plain, &latent) + dot(&own, &other), *score, &format!("head {head}, {at} to {of}"));
            let kv = head / (shape.heads / shape.kv_heads);
            let expected = &values[(of * shape.kv_heads + kv) * shape.value_dim..][..shape.value_dim];
            for (found, expected) in times(&part(&up, head), &latent).iter().zip(expected) {
                near(*found, *expected, "value");
            }
        }
    }

    #[test]
    fn moments_of_pairs_have_the_eigenvalues_of_a_reference() {
        let case = Case::read();
        let moments = case.shape.pair_moments(&case.numbers("gram"), &case.weights());
        for (moments, (values, vectors)) in moments.iter().zip(case.eigen()) {
            for (m, value) in values.iter().enumerate() {
                let vector: Vec<f32> = (0..values.len()).map(|g| vectors[g * values.len() + m]).collect();
                for (product, x) in times(moments, &vector).iter().zip(&vector) {
                    near(*product, value * x, "moment times eigenvector");
                }
            }
        }
    }
}

//! The arithmetic: how keys are divided into a part that position rotates and one that it leaves alone, and the matrices
//! that make of queries, keys and values those of latent attention.

use aehost_sdk::technique::Pair;

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
    /// Square roots, `[kv_heads, pairs]`.
    pub keys: Vec<f64>,
    /// Square roots, `[kv_heads, value_dim]`.
    pub values: Vec<f64>,
    /// The mean rotation of each pair, as a complex number.
    pub rotations: Vec<(f64, f64)>,
}

/// One direction across the key-value heads in one pair: a rotated pair of the shared key.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub pair: usize,
    /// A unit vector, `[kv_heads]`, in keys times their weights.
    pub direction: Vec<f64>,
}

/// Matrices are row-major.
pub type Matrix = Vec<f32>;

impl Shape {
    /// Query heads of a key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of all heads' keys.
    pub fn keys(&self) -> usize {
        self.kv_heads * self.dim
    }

    /// Elements of all heads' keys and values.
    pub fn joint(&self) -> usize {
        self.kv_heads * (self.dim + self.value_dim)
    }

    /// From mean squares of queries `[heads, dim]` and values `[kv_heads, value_dim]`, and the squared lengths of the output
    /// matrix's columns `[heads, value_dim]`. The error of a head's attention has two parts, that of a score times what
    /// values give the output, and that of a value: both in the units of the output.
    pub fn weights(&self, queries: &[f32], values: &[f32], outputs: &[f32], scale: f64, reach: u32) -> Weights {
        let of_value = |head: usize, j: usize| f64::from(outputs[head * self.value_dim + j]);
        let mut weights = Weights {
            keys: vec![0.0; self.kv_heads * self.pairs.len()],
            values: vec![0.0; self.kv_heads * self.value_dim],
            rotations: self.pairs.iter().map(|pair| mean_rotation(pair.frequency, reach)).collect(),
        };
        for head in 0..self.heads {
            let kv = head / self.group();
            let mut given = 0.0;
            for j in 0..self.value_dim {
                weights.values[kv * self.value_dim + j] += of_value(head, j);
                given += of_value(head, j) * f64::from(values[kv * self.value_dim + j]);
            }
            for (l, pair) in self.pairs.iter().enumerate() {
                let query: f64 = pair.elements.iter().map(|e| f64::from(queries[head * self.dim + e])).sum();
                weights.keys[kv * self.pairs.len() + l] += scale * scale / 2.0 * query * given;
            }
        }
        for part in [&mut weights.keys, &mut weights.values] {
            // An element that nothing reads still needs a finite inverse.
            let floor = part.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1e-8;
            part.iter_mut().for_each(|w| *w = w.max(floor).sqrt());
        }
        weights
    }

    /// For each pair, the second moments across key-value heads of its weighted keys, `[kv_heads, kv_heads]`, of the keys'
    /// `[keys, keys]`.
    pub fn pair_moments(&self, gram: &[f32], weights: &Weights) -> Vec<Matrix> {
        let (heads, keys) = (self.kv_heads, self.keys());
        let of_pair = |(l, pair): (usize, &Pair)| {
            let entry = |i: usize| {
                let (a, b) = (i / heads, i % heads);
                let at = |e: &usize| f64::from(gram[(a * self.dim + e) * keys + b * self.dim + e]);
                let weight = weights.keys[a * self.pairs.len() + l] * weights.keys[b * self.pairs.len() + l];
                (weight * pair.elements.iter().map(at).sum::<f64>()) as f32
            };
            (0..heads * heads).map(entry).collect()
        };
        self.pairs.iter().enumerate().map(of_pair).collect()
    }

    /// The `count` components that would lose most by not being rotated, by pair; `eigen` has the eigenvalues of each pair's
    /// moments and their vectors in columns.
    pub fn rotated(&self, eigen: &[(Vec<f32>, Matrix)], weights: &Weights, count: usize) -> Vec<Component> {
        let heads = self.kv_heads;
        let mut all: Vec<(f64, Component)> = Vec::new();
        for (l, (values, vectors)) in eigen.iter().enumerate().filter(|(l, _)| self.pairs[*l].frequency > 0.0) {
            let (re, im) = weights.rotations[l];
            for (m, value) in values.iter().enumerate() {
                let direction = (0..heads).map(|g| f64::from(vectors[g * heads + m])).collect();
                all.push((f64::from(*value) * (1.0 - re * re - im * im), Component { pair: l, direction }));
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(count);
        let mut components: Vec<Component> = all.into_iter().map(|(_, component)| component).collect();
        components.sort_by_key(|component| component.pair);
        components
    }

    /// Keys and values -> what the latent is to hold, `[joint, joint]`: the keys without their rotated components, and the
    /// values, weighted.
    pub fn remainder(&self, weights: &Weights, rotated: &[Component]) -> Matrix {
        let (heads, joint) = (self.kv_heads, self.joint());
        let mut map = vec![0f32; joint * joint];
        for (l, pair) in self.pairs.iter().enumerate() {
            let (re, im) = weights.rotations[l];
            for i in 0..heads * heads {
                let (a, b) = (i / heads, i % heads);
                let removed =
                    rotated.iter().filter(|c| c.pair == l).map(|c| c.direction[a] * c.direction[b]).sum::<f64>();
                let kept = f64::from(u8::from(a == b)) - removed;
                for e in pair.elements {
                    let factor = re.hypot(im) * weights.keys[b * self.pairs.len() + l];
                    map[(a * self.dim + e) * joint + b * self.dim + e] = (kept * factor) as f32;
                }
            }
        }
        for (i, weight) in weights.values.iter().enumerate() {
            map[(self.keys() + i) * (joint + 1)] = *weight as f32;
        }
        map
    }

    /// Keys -> the rotated key that all heads share, `[2 components, keys]`; pairs are half its elements apart.
    pub fn rotated_key(&self, weights: &Weights, rotated: &[Component]) -> Matrix {
        let mut map = vec![0f32; 2 * rotated.len() * self.keys()];
        for g in 0..self.kv_heads {
            self.place(rotated, g, (&mut map, self.keys(), g * self.dim), |l| weights.keys[g * self.pairs.len() + l]);
        }
        map
    }

    /// Each head's query -> the one for the shared rotated key, `[heads, 2 components, dim]`.
    pub fn rotated_query(&self, weights: &Weights, rotated: &[Component]) -> Matrix {
        let size = 2 * rotated.len() * self.dim;
        let mut map = vec![0f32; self.heads * size];
        for (head, map) in map.chunks_exact_mut(size).enumerate() {
            let g = head / self.group();
            self.place(rotated, g, (map, self.dim, 0), |l| 1.0 / weights.keys[g * self.pairs.len() + l]);
        }
        map
    }

    /// Writes one key-value head's part of the components, times a factor of their pairs, in rows of so many columns.
    fn place(
        &self,
        rotated: &[Component],
        head: usize,
        (map, columns, first): (&mut [f32], usize, usize),
        factor: impl Fn(usize) -> f64,
    ) {
        for (s, component) in rotated.iter().enumerate() {
            for (half, e) in self.pairs[component.pair].elements.iter().enumerate() {
                let at = (half * rotated.len() + s) * columns + first + e;
                map[at] = (component.direction[head] * factor(component.pair)) as f32;
            }
        }
    }

    /// Each head's query -> the one for the latent, `[heads, rank, dim]`; the latent's `basis` is `[joint, rank]`, in what
    /// [`Shape::remainder`] gives.
    pub fn latent_query(&self, weights: &Weights, basis: &[f32], rank: usize) -> Matrix {
        let mut map = vec![0f32; self.heads * rank * self.dim];
        for (head, map) in map.chunks_exact_mut(rank * self.dim).enumerate() {
            let g = head / self.group();
            for (l, pair) in self.pairs.iter().enumerate() {
                let (re, im) = weights.rotations[l];
                let weight = re.hypot(im).max(f64::MIN_POSITIVE) * weights.keys[g * self.pairs.len() + l];
                let (cos, sin) = (re / weight, im / weight);
                let [a, b] = pair.elements;
                for r in 0..rank {
                    let of = |e: usize| f64::from(basis[(g * self.dim + e) * rank + r]);
                    map[r * self.dim + a] = (of(a) * cos + of(b) * sin) as f32;
                    map[r * self.dim + b] = (of(b) * cos - of(a) * sin) as f32;
                }
            }
        }
        map
    }

    /// What attention gives of latents -> each head's of values, `[heads, value_dim, rank]`.
    pub fn latent_values(&self, weights: &Weights, basis: &[f32], rank: usize) -> Matrix {
        let rows = (0..self.heads * self.value_dim).map(|i| {
            let value = i / self.value_dim / self.group() * self.value_dim + i % self.value_dim;
            (value, &basis[(self.keys() + value) * rank..][..rank])
        });
        rows.flat_map(|(value, row)| row.iter().map(move |x| (f64::from(*x) / weights.values[value]) as f32)).collect()
    }
}

/// The mean of exp(i frequency distance) over the distances of a query and its keys up to `reach`; near keys count for more,
/// in proportion to 1 / (1 + distance).
fn mean_rotation(frequency: f64, reach: u32) -> (f64, f64) {
    let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
    for distance in 0..=reach {
        let weight = 1.0 / (1.0 + f64::from(distance));
        let (s, c) = (frequency * f64::from(distance)).sin_cos();
        (re, im, sum) = (re + weight * c, im + weight * s, sum + weight);
    }
    (re / sum, im / sum)
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
        let frequencies: Vec<f64> = rotated.iter().map(|c| shape.pairs[c.pair].frequency).collect();
        let rank = shape.joint();
        let basis: Matrix = (0..rank * rank).map(|i| f32::from(u8::from(i % (rank + 1) == 0))).collect();
        let remainder = shape.remainder(&weights, &rotated);
        let key = shape.rotated_key(&weights, &rotated);
        let [to_latent, to_rotated] =
            [shape.latent_query(&weights, &basis, rank), shape.rotated_query(&weights, &rotated)];
        let up = shape.latent_values(&weights, &basis, rank);
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
            let own = turned(&times(&part(&to_rotated, head), query), &frequencies, at);
            let other = turned(&times(&key, &joint[..shape.keys()]), &frequencies, of);
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

    #[test]
    fn what_stands_still_is_its_own_mean_and_what_turns_fast_has_nearly_none() {
        assert_eq!(mean_rotation(0.0, 512), (1.0, 0.0));
        let (re, im) = mean_rotation(2.0, 512);
        assert!(re.hypot(im) < 0.3, "{re} + {im} i");
    }
}

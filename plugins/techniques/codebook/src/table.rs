//! Tables of ascending integers, and which of them has the least weighted squared error: k-means in one dimension, solved by
//! dynamic programming (Wang and Song: Ckmeans.1d.dp, The R Journal 3/2, 2011), here with centres that are integers.

/// The largest integer of a table; the smallest is its negative.
pub const REACH: i32 = 127;
/// Integers from one end to the other.
const PLACES: usize = 2 * REACH as usize + 1;
/// Halves from one end to the other.
const HALVES: usize = 2 * PLACES - 1;

/// Weights of numbers by the integer that they are next to, with what the squared error needs.
pub struct Histogram {
    /// Of each integer: weights, weights x numbers, weights x numbers squared.
    sums: [[f64; 3]; PLACES],
}

impl Histogram {
    /// Of nothing.
    pub fn new() -> Self {
        Self { sums: [[0.0; 3]; PLACES] }
    }

    /// Counts a number that is about in reach.
    pub fn add(&mut self, number: f32, weight: f32) {
        let place = (number.round() as i32).clamp(-REACH, REACH) + REACH;
        let (number, weight) = (f64::from(number), f64::from(weight));
        let sums = &mut self.sums[place as usize];
        sums[0] += weight;
        sums[1] += weight * number;
        sums[2] += weight * number * number;
    }

    /// The `N` ascending integers whose nearest ones stand for the numbers with the least weighted squared error.
    pub fn best<const N: usize>(&self) -> [i8; N] {
        let mut before = [[0f64; 3]; PLACES + 1];
        for (place, sums) in self.sums.iter().enumerate() {
            before[place + 1] = std::array::from_fn(|i| before[place][i] + sums[i]);
        }
        // Places [from, to) as the integer of `center`.
        let error = |from: usize, to: usize, center: usize| {
            let [weight, first, second] = std::array::from_fn(|i| before[to][i] - before[from][i]);
            let center = (center as i32 - REACH) as f64;
            second - 2.0 * center * first + center * center * weight
        };
        // Of all up to a last center, by how many there are; and the center before the last.
        let mut least: Vec<f64> = (0..PLACES).map(|center| error(0, center, center)).collect();
        let mut previous = vec![[0usize; PLACES]; N];
        for previous in previous.iter_mut().skip(1) {
            let mut next = vec![f64::INFINITY; PLACES];
            for (last, next) in next.iter_mut().enumerate() {
                for (center, known) in least[..last].iter().enumerate() {
                    let middle = (center + last).div_ceil(2);
                    let total = known + error(center, middle, center) + error(middle, last, last);
                    if total < *next {
                        (*next, previous[last]) = (total, center);
                    }
                }
            }
            least = next;
        }
        let whole = |center: &usize| least[*center] + error(*center, PLACES, *center);
        let mut center = (N - 1..PLACES).min_by(|a, b| whole(a).total_cmp(&whole(b))).unwrap_or(PLACES - 1);
        let mut table = [0i8; N];
        for (number, previous) in table.iter_mut().zip(&previous).rev() {
            *number = (center as i32 - REACH) as i8;
            center = previous[center];
        }
        table
    }
}

/// A table with its nearest numbers.
pub struct Table {
    pub numbers: [i8; 16],
    /// The nearest code of each half from one end to the other: borders between integers lie on halves.
    codes: [u8; HALVES],
    /// The same as numbers.
    nearest: [f32; HALVES],
}

impl Table {
    pub fn new(numbers: [i8; 16]) -> Self {
        let code = |half: usize| {
            let at = 0.5 * half as f32 + 0.25 - REACH as f32;
            (0u8..15)
                .take_while(|code| {
                    0.5 * (f32::from(numbers[usize::from(*code)]) + f32::from(numbers[usize::from(code + 1)])) < at
                })
                .count() as u8
        };
        let codes = std::array::from_fn(code);
        Self { numbers, codes, nearest: codes.map(|code| f32::from(numbers[usize::from(code)])) }
    }

    fn half(at: f32) -> usize {
        // Comparisons that compile to one instruction each; the last half stands for all beyond.
        let half = 2.0 * at + (2 * REACH) as f32;
        let half = if half > 0.0 { half } else { 0.0 };
        (if half < (HALVES - 1) as f32 { half } else { (HALVES - 1) as f32 }) as usize
    }

    /// The nearest code.
    pub fn code(&self, at: f32) -> u8 {
        self.codes[Self::half(at)]
    }

    /// The nearest number.
    pub fn near(&self, at: f32) -> f32 {
        self.nearest[Self::half(at)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn reference() -> Value {
        serde_json::from_str(include_str!("reference.json")).unwrap()
    }

    fn reals(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    #[test]
    fn no_other_integers_have_a_smaller_error() {
        for case in reference()["tables"].as_array().unwrap() {
            let mut histogram = Histogram::new();
            let (numbers, weights) = (reals(&case["numbers"]), reals(&case["weights"]));
            numbers.iter().zip(&weights).for_each(|(number, weight)| histogram.add(*number, *weight));
            assert_eq!(
                histogram.best::<3>().map(f64::from).to_vec(),
                case["three"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>()
            );
            let table = histogram.best::<16>();
            let error: f32 = numbers
                .iter()
                .zip(&weights)
                .map(|(x, w)| w * table.iter().map(|t| (x - f32::from(*t)).powi(2)).fold(f32::INFINITY, f32::min))
                .sum();
            let reference = case["error"].as_f64().unwrap() as f32;
            assert!((error / reference - 1.0).abs() < 1e-4, "{error} is not {reference}");
        }
    }

    #[test]
    fn fewer_numbers_than_codes_are_all_in_the_table() {
        let mut histogram = Histogram::new();
        [-127.0, -3.0, 0.0, 64.0, 127.0].iter().for_each(|number| histogram.add(*number, 1.0));
        let table = histogram.best::<16>();
        assert!([-127, -3, 0, 64, 127].iter().all(|number| table.contains(number)), "{table:?}");
        assert!(table.is_sorted_by(|a, b| a < b), "{table:?}");
        assert!(Histogram::new().best::<16>().is_sorted_by(|a, b| a < b), "of nothing too");
    }

    #[test]
    fn the_nearest_number_is_found() {
        let numbers = [-127, -90, -64, -43, -30, -17, -8, -1, 0, 3, 11, 24, 41, 60, 88, 119];
        let table = Table::new(numbers);
        for i in -6000..6000 {
            let at = i as f32 * 0.0237;
            let nearest = numbers.iter().map(|n| (f32::from(*n) - at).abs()).fold(f32::INFINITY, f32::min);
            assert!(((table.near(at) - at).abs() - nearest).abs() < 1e-4, "{at}: {}", table.near(at));
            assert_eq!(table.near(at), f32::from(numbers[usize::from(table.code(at))]));
        }
        assert_eq!(table.code(f32::NAN), 0);
    }
}

//! Encoded configurations as rows of mostly zeros.

/// The features that are not 0, by index, in order.
pub type Row = Vec<(usize, f64)>;

/// Inner product.
pub fn dot(a: &[(usize, f64)], b: &[(usize, f64)]) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while i < a.len() && j < b.len() {
        match a[i].0.cmp(&b[j].0) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += a[i].1 * b[j].1;
                i += 1;
                j += 1;
            }
        }
    }
    sum
}

/// All numbers of a row.
pub fn dense(row: &[(usize, f64)], width: usize) -> Vec<f64> {
    let mut all = vec![0.0; width];
    row.iter().for_each(|(feature, value)| all[*feature] = *value);
    all
}

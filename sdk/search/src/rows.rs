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

/// Mean and standard deviation of the values that are numbers; 0 and 1 where that would say nothing. Values so large that their
/// squares are not finite are spread by the largest distance from the mean.
pub fn center_and_spread(values: &[f64]) -> (f64, f64) {
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let count = known().count().max(1) as f64;
    let center = known().map(|value| value / count).sum::<f64>();
    let variance = known().map(|value| (value - center).powi(2)).sum::<f64>() / count;
    let spread = match variance.is_finite() {
        true => variance.sqrt(),
        false => known().map(|value| (value - center).abs()).fold(0.0, f64::max),
    };
    (center, if spread > 0.0 { spread } else { 1.0 })
}

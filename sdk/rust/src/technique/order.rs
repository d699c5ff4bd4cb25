//! Choosing by scores.

/// Indices by descending score; the earlier of equals first.
pub fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// Indices of the `count` largest scores, ascending; the earlier of equals.
pub fn largest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order = descending(scores);
    order.truncate(count);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_scores_go_first_and_the_earlier_of_equals() {
        assert_eq!(descending(&[0.4, 0.99, 0.7, 0.99, 0.95]), [1, 3, 4, 2, 0]);
        assert_eq!(largest(&[0.4, 0.99, 0.7, 0.99, 0.95], 3), [1, 3, 4]);
        assert_eq!((largest(&[0.5, 0.5, 0.5], 1), largest(&[3.0, 7.0, 3.0], 2)), (vec![0], vec![0, 1]));
    }
}

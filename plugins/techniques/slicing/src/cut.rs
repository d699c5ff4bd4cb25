//! How many directions may stay.

use std::ops::RangeInclusive;

/// Multiples of this stay, so that groups of a quantiser fit the rows of what reads the stream.
pub fn step(width: u32) -> u32 {
    if width >= 256 { 64 } else { 32 }
}

/// The fewest and the most of `width` directions that may stay: about three fifths, and all but a step; none where that is none.
pub fn range(width: u32) -> Option<RangeInclusive<i64>> {
    let step = step(width);
    let most = width.checked_sub(1)? / step * step;
    let least = (width * 3 / 5).next_multiple_of(step).min(most);
    (least > 0).then(|| i64::from(least)..=i64::from(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_groups_of_quantisers() {
        assert_eq!(range(576), Some(384..=512));
        assert_eq!(range(640), Some(384..=576));
        assert_eq!(range(600), Some(384..=576));
        assert_eq!((range(64), range(40), range(32)), (Some(32..=32), Some(32..=32), None));
    }
}

//! How many directions stay.

/// What is kept is a multiple of this, so that groups of a quantiser fit the rows of what reads the stream.
pub fn step(width: u32) -> u32 {
    if width >= 256 { 64 } else { 32 }
}

/// Directions that stay of `width` when this share goes, to the nearest step; one step at least.
pub fn kept(width: u32, share: f64) -> u32 {
    let step = step(width);
    let steps = (f64::from(width) * (1.0 - share) / f64::from(step)).round() as u32;
    (steps.max(1) * step).min(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_groups_of_quantisers() {
        assert_eq!([0.05, 0.1, 0.2, 0.3].map(|share| kept(576, share)), [576, 512, 448, 384]);
        assert_eq!([0.05, 0.25, 0.4].map(|share| kept(64, share)), [64, 64, 32]);
        assert_eq!(kept(600, 0.0), 576, "the nearest multiple of 64");
        assert_eq!((kept(40, 0.0), kept(20, 0.0)), (32, 20), "never more than there are");
    }
}

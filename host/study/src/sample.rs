//! Which items of a data set a trial uses. One shuffled order a study; every trial takes a prefix of it, so that trials
//! can be compared item by item, smaller subsets are contained in larger ones, and samples of a low-fidelity trial line
//! up with the first samples of a full one.

/// The first `count` items of the data set's `length` in the study's order, in that order; all when there are fewer.
pub fn subset(length: u32, count: u32, seed: u64) -> Vec<u32> {
    let mut items: Vec<u32> = (0..length).collect();
    let mut state = seed;
    let count = count.min(length) as usize;
    for i in 0..count {
        let rest = (items.len() - i) as u64;
        // Multiply-shift maps 64 random bits to [0, rest) with a bias below rest / 2^64 (Lemire 2019).
        let offset = ((u128::from(split_mix(&mut state)) * u128::from(rest)) >> 64) as usize;
        items.swap(i, i + offset);
    }
    items.truncate(count);
    items
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine and in every version.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_subsets_are_prefixes_of_larger_ones() {
        let large = subset(500, 300, 7);
        assert_eq!(subset(500, 100, 7), large[..100]);
        let mut sorted = large.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 300);
        assert!(sorted.iter().all(|&i| i < 500));
    }

    #[test]
    fn the_seed_decides_and_the_order_is_fixed_for_good() {
        assert_ne!(subset(500, 100, 1), subset(500, 100, 2));
        assert_eq!(subset(10, 4, 0), [8, 4, 2, 9]);
        assert_eq!(subset(3, 10, 0).len(), 3);
        assert!(subset(0, 10, 0).is_empty());
    }
}

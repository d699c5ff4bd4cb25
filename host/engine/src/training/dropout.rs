//! Numbers that are left out by chance (Srivastava et al., JMLR 15, 2014). Chance is a function of a key and the number's place, so that
//! what was left out once is left out again when values are computed anew and when gradients come back.

use super::examples::mixed;
use rayon::prelude::*;

/// Numbers that a thread takes at once; even, as one draw serves two numbers.
const CHUNK: usize = 1 << 14;

/// x with a share `rate` of its numbers as 0, and the others enlarged so that the mean stays.
pub(super) fn drop_out(rate: f64, key: u64, x: &[f32], y: &mut [f32]) {
    // Of all numbers of 32 bits, the share that leaves a place out.
    let limit = (rate * f64::from(u32::MAX)) as u32;
    let factor = (1.0 / (1.0 - rate)) as f32;
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
        for (pair, (y, x)) in y.chunks_mut(2).zip(x.chunks(2)).enumerate() {
            let drawn = mixed(key, chunk as u64, pair as u64);
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                let drawn = (drawn >> (32 * i)) as u32;
                *y = if drawn < limit { 0.0 } else { x * factor };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_left_out_as_said_and_the_mean_stays() {
        let x = vec![1f32; 100_001];
        let [mut y, mut again, mut other] = [(); 3].map(|()| vec![0f32; x.len()]);
        drop_out(0.3, 7, &x, &mut y);
        drop_out(0.3, 7, &x, &mut again);
        drop_out(0.3, 8, &x, &mut other);
        assert_eq!(y, again);
        assert_ne!(y, other);
        // Binomial: the standard deviation of the count is 145.
        let left_out = y.iter().filter(|y| **y == 0.0).count();
        assert!(left_out.abs_diff(30_000) < 600, "{left_out}");
        // Neighbours are left out independently of each other.
        let both = y.chunks_exact(2).filter(|pair| pair == &[0.0, 0.0]).count();
        assert!(both.abs_diff(4500) < 300, "{both}");
        assert!(y.iter().all(|y| *y == 0.0 || (y - 1.0 / 0.7).abs() < 1e-6));
    }
}

//! Arithmetic peaks, by loops of independent multiply-adds on registers alone: what products could reach if nothing had to be
//! fetched. Of integers that is the sequence for bytes without special dot-product instructions.

use crate::reading::Reading;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Each kind runs for this long on each thread.
const TIME: Duration = Duration::from_millis(30);
/// Rounds between looks at the clock.
const ROUNDS: usize = 20_000;

/// Multiplications and additions a second, counted apart, with AVX2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arithmetic {
    /// Float32, fused.
    pub float32_operations_per_s: f64,
    /// Bytes times bytes, summed in 32 bits.
    pub integer8_operations_per_s: f64,
    /// Threads that worked at once.
    pub threads: u32,
}

impl Arithmetic {
    /// Measures with `threads` threads: some 60 ms, in which nothing else should run.
    pub fn probe(threads: usize) -> Reading<Self> {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            let threads = threads.max(1);
            // SAFETY: the features were just detected.
            let (float, integer) =
                unsafe { (on_all(threads, || avx2::float32(ROUNDS)), on_all(threads, || avx2::integer8(ROUNDS))) };
            return Reading::measured(
                Self { float32_operations_per_s: float, integer8_operations_per_s: integer, threads: threads as u32 },
                format!("AVX2 on registers, {} ms each", TIME.as_millis()),
            );
        }
        let _ = threads;
        Reading::unavailable("the arithmetic peak is measured on processors with AVX2 only")
    }
}

/// Operations a second of all threads together; `work` returns how many operations it did.
#[cfg(target_arch = "x86_64")]
fn on_all(threads: usize, work: impl Fn() -> f64 + Sync) -> f64 {
    let one = || {
        let begin = Instant::now();
        let mut best = 0f64;
        while begin.elapsed() < TIME {
            let start = Instant::now();
            let operations = work();
            best = best.max(operations / start.elapsed().as_secs_f64());
        }
        best
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let own = one();
        others.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum::<f64>() + own
    })
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::black_box;
    use std::arch::x86_64::*;

    /// Independent sums: enough to hide the latency of each.
    const SUMS: usize = 10;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn float32(rounds: usize) -> f64 {
        let (x, y) = (_mm256_set1_ps(black_box(1.000_01)), _mm256_set1_ps(black_box(1e-6)));
        let mut sums = [_mm256_set1_ps(1.0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        (rounds * SUMS * 8 * 2) as f64
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn integer8(rounds: usize) -> f64 {
        let (x, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(black_box(1)));
        let mut sums = [_mm256_set1_epi32(1); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // The sum is the other factor, so that the products cannot be taken out of the loop.
                let pairs = _mm256_maddubs_epi16(*sum, x);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        (rounds * SUMS * 32 * 2) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_those_of_a_processor() {
        let reading = Arithmetic::probe(2);
        let Some(peaks) = reading.value() else { return };
        for peak in [peaks.float32_operations_per_s, peaks.integer8_operations_per_s] {
            assert!((1e8..1e14).contains(&peak), "{peaks:?}");
        }
        assert_eq!(peaks.threads, 2);
    }
}

//! Memory bandwidth, by the method of STREAM (McCalpin, 1995): arrays larger than the caches, the best of several passes.
//! Reading comes first, because generating a token reads every weight once and writes next to nothing.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::reading::Reading;

/// Each kind of pass is repeated for this long.
const TIME: Duration = Duration::from_millis(40);
const SMALLEST_BYTES: u64 = 64 << 20;
const LARGEST_BYTES: u64 = 1 << 30;
/// Numbers that a loop takes at a time: independent sums hide the latency of an addition.
const LANES: usize = 32;
const NUMBER_BYTES: usize = size_of::<f64>();

/// What the memory carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Reading, by one thread.
    pub read_one_thread_bytes_per_s: f64,
    /// Reading, by all threads that this process may use.
    pub read_bytes_per_s: f64,
    /// `a = b + s * c` by all threads; two reads and a write are counted, as STREAM does.
    pub triad_bytes_per_s: f64,
    /// Size of the memory that was walked through.
    pub buffer_bytes: u64,
    /// Number of all threads.
    pub threads: u32,
}

/// Probes with `threads` threads; `cache_bytes` is the size of the last cache.
pub(super) fn probe(threads: usize, cache_bytes: Option<u64>, available_bytes: Option<u64>) -> Reading<Bandwidth> {
    let cache_bytes = cache_bytes.unwrap_or(32 << 20);
    let wanted = (4 * cache_bytes).clamp(SMALLEST_BYTES, LARGEST_BYTES);
    let buffer_bytes = available_bytes.map_or(wanted, |available| wanted.min(available / 4));
    if buffer_bytes < 2 * cache_bytes {
        return Reading::unavailable(format!(
            "{} MiB may be used for the probe, and caches of {} MiB would hide the memory",
            buffer_bytes >> 20,
            cache_bytes >> 20
        ));
    }
    let threads = threads.max(1);
    let mut buffer = vec![1.0f64; buffer_bytes as usize / NUMBER_BYTES];
    let read_one_thread_bytes_per_s = read(&buffer, 1);
    let read_bytes_per_s = read(&buffer, threads);
    let triad_bytes_per_s = triad(&mut buffer, threads);
    let bandwidth = Bandwidth {
        read_one_thread_bytes_per_s,
        read_bytes_per_s,
        triad_bytes_per_s,
        buffer_bytes,
        threads: threads as u32,
    };
    Reading::measured(bandwidth, format!("best pass over {} MiB in {} ms", buffer_bytes >> 20, TIME.as_millis()))
}

fn read(buffer: &[f64], threads: usize) -> f64 {
    let chunk = buffer.len().div_ceil(threads);
    let parts: Vec<&[f64]> = buffer.chunks(chunk).collect();
    let best = best_pass(parts, |part| {
        black_box(sum(part));
    });
    size_of_val(buffer) as f64 / best.as_secs_f64()
}

fn triad(buffer: &mut [f64], threads: usize) -> f64 {
    let third = buffer.len() / 3;
    let (a, rest) = buffer.split_at_mut(third);
    let (b, c) = rest.split_at(third);
    let chunk = third.div_ceil(threads);
    let parts: Vec<_> = a.chunks_mut(chunk).zip(b.chunks(chunk).zip(c.chunks(chunk))).collect();
    let best = best_pass(parts, |(a, (b, c))| {
        for (a, (b, c)) in a.iter_mut().zip(b.iter().zip(c.iter())) {
            *a = b + 3.0 * c;
        }
        black_box(&*a);
    });
    (3 * third * NUMBER_BYTES) as f64 / best.as_secs_f64()
}

fn sum(part: &[f64]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for numbers in part.chunks_exact(LANES) {
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
    sums
}

/// One thread for each part, all in step; the shortest time from the start of a pass to the end of its last thread.
fn best_pass<P: Send>(parts: Vec<P>, pass: impl Fn(&mut P) + Sync) -> Duration {
    let barrier = Barrier::new(parts.len());
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let run = |mut part: P, leads: bool| {
        let mut best = Duration::MAX;
        while !done.load(Ordering::Acquire) {
            barrier.wait();
            let start = Instant::now();
            pass(&mut part);
            barrier.wait();
            best = best.min(start.elapsed());
            if leads && begin.elapsed() > TIME {
                done.store(true, Ordering::Release);
            }
            // All threads see the same answer: nobody asks before the leader has decided.
            barrier.wait();
        }
        best
    };
    let run = &run;
    std::thread::scope(|scope| {
        let mut parts = parts.into_iter();
        let first = parts.next().expect("a buffer has at least one part");
        for part in parts {
            scope.spawn(move || run(part, false));
        }
        run(first, true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_walks_through_more_than_the_caches_and_gives_plausible_figures() {
        let reading = probe(2, Some(4 << 20), None);
        let bandwidth = reading.value().unwrap();
        assert_eq!((bandwidth.buffer_bytes, bandwidth.threads), (64 << 20, 2));
        for figure in [bandwidth.read_one_thread_bytes_per_s, bandwidth.read_bytes_per_s, bandwidth.triad_bytes_per_s] {
            assert!((1e7..1e13).contains(&figure), "{bandwidth:?}");
        }
    }

    #[test]
    fn too_little_memory_to_leave_the_caches_is_told() {
        assert_eq!(
            probe(1, Some(32 << 20), Some(100 << 20)).reason(),
            Some("25 MiB may be used for the probe, and caches of 32 MiB would hide the memory")
        );
    }

    #[test]
    fn sums_cover_every_number() {
        let numbers: Vec<f64> = (0..LANES * 3).map(|i| i as f64).collect();
        assert_eq!(sum(&numbers).iter().sum::<f64>(), numbers.iter().sum::<f64>());
    }

    #[test]
    fn passes_run_on_every_part_the_same_number_of_times() {
        let mut counts = [0u32; 3];
        best_pass(counts.iter_mut().collect(), |count| **count += 1);
        assert!(counts[0] > 0 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    }
}

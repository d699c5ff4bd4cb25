//! Memory of this process: what is resident now, and the peak of a section of work, as the kernel counts it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::reading::Reading;
use crate::{nvml, procfs};

const STATUS: &str = "/proc/self/status";
/// How often memory is looked at where the kernel keeps no peak.
const SAMPLING: Duration = Duration::from_millis(5);

/// The most memory that a section of work held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// The most bytes resident at once, all of the process counted.
    pub peak_bytes: u64,
    /// Bytes resident when the section began.
    pub start_bytes: u64,
}

/// Bytes of this process that are in memory now.
pub fn resident_bytes() -> Reading<u64> {
    match status_bytes("VmRSS") {
        Some(bytes) => Reading::measured(bytes, "VmRSS of /proc/self/status"),
        None => Reading::unavailable(format!("{STATUS} has no VmRSS: this system does not tell resident memory")),
    }
}

/// Bytes that the process `pid` holds on the GPU `cuda:index` now.
pub fn gpu_bytes(index: u32, pid: u32) -> Reading<u64> {
    match nvml::gpu(index).and_then(|gpu| nvml::memory_of(&gpu, pid)) {
        Ok(bytes) => Reading::measured(bytes, format!("NVML, process {pid} on cuda:{index}")),
        Err(reason) => Reading::Unavailable { reason },
    }
}

/// Gives memory that was freed back to the system, so that a section does not start with what an earlier one left.
/// Returns whether any was given back; the GNU C library only.
pub fn trim() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim has no preconditions and is thread-safe; it returns free pages of the heap to the kernel.
        unsafe { libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}

fn status_bytes(key: &str) -> Option<u64> {
    let content = std::fs::read_to_string(STATUS).ok()?;
    procfs::bytes(&procfs::field(&content, key)?)
}

/// Watches the peak resident memory of this process from `start` to `finish`. One section at a time: a second one resets
/// the kernel's peak of the first.
pub struct PeakMemory {
    start_bytes: Option<u64>,
    method: Method,
}

enum Method {
    /// The kernel keeps the peak since it was told to forget the one before.
    Kernel,
    /// A thread looks every few milliseconds.
    Sampled(Sampler),
}

impl PeakMemory {
    /// Begins a section: frees what earlier work left, and resets the kernel's peak (`5` to `/proc/self/clear_refs`, see
    /// proc(5)); where that is not permitted, a thread samples the resident memory instead.
    pub fn start() -> Self {
        trim();
        let reset = std::fs::write(Path::new("/proc/self/clear_refs"), "5").is_ok() && status_bytes("VmHWM").is_some();
        if reset { Self { start_bytes: status_bytes("VmRSS"), method: Method::Kernel } } else { Self::start_sampling() }
    }

    /// As `start`, without the kernel's help: short peaks between two looks are missed.
    pub fn start_sampling() -> Self {
        let start_bytes = status_bytes("VmRSS");
        Self {
            start_bytes,
            method: Method::Sampled(Sampler::start(SAMPLING, || status_bytes("VmRSS").ok_or(String::new()))),
        }
    }

    /// Ends the section.
    pub fn finish(self) -> Reading<Peak> {
        let (peak, source) = match self.method {
            Method::Kernel => (status_bytes("VmHWM"), "VmHWM of /proc/self/status, reset at the start".to_owned()),
            Method::Sampled(sampler) => (
                sampler.finish().ok(),
                format!("VmRSS of /proc/self/status every {} ms; shorter peaks are missed", SAMPLING.as_millis()),
            ),
        };
        match (peak, self.start_bytes) {
            (Some(peak_bytes), Some(start_bytes)) => {
                Reading::measured(Peak { peak_bytes: peak_bytes.max(start_bytes), start_bytes }, source)
            }
            _ => Reading::unavailable(format!("{STATUS} has no VmRSS: this system does not tell resident memory")),
        }
    }
}

/// Watches the memory that one process holds on a GPU; NVML keeps no peak, so a thread looks every few milliseconds.
pub struct GpuPeakMemory {
    index: u32,
    sampler: Sampler,
}

impl GpuPeakMemory {
    /// Begins a section for the process `pid` on the GPU `cuda:index`.
    pub fn start(index: u32, pid: u32) -> Self {
        let gpu = nvml::gpu(index);
        let look = move || nvml::memory_of(gpu.as_ref().map_err(Clone::clone)?, pid);
        Self { index, sampler: Sampler::start(SAMPLING, look) }
    }

    /// Ends the section: the most bytes held at once.
    pub fn finish(self) -> Reading<u64> {
        match self.sampler.finish() {
            Ok(bytes) => Reading::measured(
                bytes,
                format!("NVML on cuda:{} every {} ms; shorter peaks are missed", self.index, SAMPLING.as_millis()),
            ),
            Err(reason) => Reading::Unavailable { reason },
        }
    }
}

/// A thread that keeps the largest value seen.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Sampler {
    /// Looks at once, then every `interval`.
    fn start(interval: Duration, look: impl Fn() -> Result<u64, String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = AtomicU64::new(0);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Err(String::new());
            loop {
                // The last look comes after the stop, so that a section shorter than the interval is seen too.
                let last = stopped.load(Ordering::Acquire);
                match look() {
                    Ok(bytes) => seen = Ok(peak.fetch_max(bytes, Ordering::Relaxed).max(bytes)),
                    Err(reason) if seen.is_err() => seen = Err(reason),
                    Err(_) => {}
                }
                if last {
                    return seen;
                }
                std::thread::park_timeout(interval);
            }
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|_| Err("the thread that samples memory died".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_keeps_the_largest_value_and_forgives_looks_that_fail() {
        let looks = AtomicU64::new(0);
        let (told, heard) = std::sync::mpsc::channel();
        let sampler = Sampler::start(Duration::from_millis(1), move || {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            if look == 5 {
                told.send(()).unwrap();
            }
            [Err("not yet".to_owned()), Ok(3), Ok(9), Err("gone".to_owned()), Ok(4)][look.min(4) as usize].clone()
        });
        heard.recv().unwrap();
        assert_eq!(sampler.finish(), Ok(9));
    }

    #[test]
    fn a_sampler_that_never_saw_a_value_says_why() {
        let sampler = Sampler::start(Duration::from_secs(60), || Err("no such process".to_owned()));
        assert_eq!(sampler.finish(), Err("no such process".to_owned()));
    }

    #[test]
    fn memory_of_a_gpu_that_is_not_there_is_unavailable_rather_than_zero() {
        if nvml::gpu(4095).is_ok() {
            return;
        }
        assert!(!gpu_bytes(4095, 1).reason().unwrap().is_empty());
        assert!(!GpuPeakMemory::start(4095, 1).finish().reason().unwrap().is_empty());
    }
}

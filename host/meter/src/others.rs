//! How much other programs used the processors while something was measured: the time that the kernel counts as busy on the
//! processors of this process, less its own.

use std::time::Instant;

use crate::procfs;

const STATUS: &str = "/proc/self/status";

/// A stretch of time in which others are watched.
#[derive(Debug)]
pub struct OtherWork {
    processors: Vec<u32>,
    begin: Instant,
    /// Ticks of all programs, and of this one.
    ticks: [u64; 2],
}

impl OtherWork {
    /// Begins to watch; none where the system does not tell.
    pub fn start() -> Option<Self> {
        let allowed = procfs::field(&std::fs::read_to_string(STATUS).ok()?, "Cpus_allowed_list")?;
        let processors = procfs::numbers(&allowed);
        let ticks = now(&processors)?;
        Some(Self { processors, begin: Instant::now(), ticks })
    }

    /// How many processors others took from this process since then, in the mean, if it had work for so many threads: what they
    /// used of the rest took nothing from it.
    pub fn finish(self, threads: usize) -> Option<f64> {
        let [all, own] = now(&self.processors)?;
        let others = all.saturating_sub(self.ticks[0]).saturating_sub(own.saturating_sub(self.ticks[1]));
        let seconds = self.begin.elapsed().as_secs_f64();
        let spare = self.processors.len().saturating_sub(threads) as f64;
        Some((others as f64 / ticks_per_second()? / seconds - spare).max(0.0))
    }
}

fn now(processors: &[u32]) -> Option<[u64; 2]> {
    let all = busy(&std::fs::read_to_string("/proc/stat").ok()?, processors)?;
    Some([all, own(&std::fs::read_to_string("/proc/self/stat").ok()?)?])
}

/// Busy ticks of these processors in the text of `/proc/stat` (proc_stat(5)): all but idle, iowait and what guests take, which
/// counts as user already. What the hypervisor took is busy, too.
fn busy(stat: &str, processors: &[u32]) -> Option<u64> {
    let of = |line: &str| -> Option<u64> {
        let mut fields = line.split_whitespace();
        let processor: u32 = fields.next()?.strip_prefix("cpu")?.parse().ok()?;
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let counted = |i: &usize| ![3, 4].contains(i);
        let busy = (0..8).filter(counted).map(|i| ticks.get(i).copied()).sum::<Option<u64>>()?;
        processors.contains(&processor).then_some(busy)
    };
    let found: Vec<u64> = stat.lines().filter_map(of).collect();
    (!found.is_empty()).then(|| found.iter().sum())
}

/// User and system ticks of all threads in the text of `/proc/self/stat` (proc_pid_stat(5), fields 14 and 15). The second field, a
/// name, may hold anything.
fn own(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(unix)]
fn ticks_per_second() -> Option<f64> {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (ticks > 0).then_some(ticks as f64)
}

#[cfg(not(unix))]
fn ticks_per_second() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts_are_read() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 800 900 8 16 32 64 128\ncpu1 1 0 0 5 5 0 0 0 0 0\nintr 5\n";
        assert_eq!(busy(stat, &[0]), Some(63));
        assert_eq!(busy(stat, &[0, 1]), Some(64));
        assert_eq!(busy(stat, &[7]), None);
        assert_eq!(own("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 1 1"), Some(300));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_program_is_seen_and_own_work_is_not_taken_for_it() {
        let busy = |for_others: bool| {
            let spin = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
            let child = for_others.then(spin);
            let watch = OtherWork::start().unwrap();
            let begin = Instant::now();
            while begin.elapsed().as_secs_f64() < 0.5 {
                std::hint::spin_loop();
            }
            let found = watch.finish(usize::MAX).unwrap();
            child.into_iter().for_each(|mut child| {
                child.kill().unwrap();
                child.wait().unwrap();
            });
            found
        };
        // Other tests run meanwhile, so that there is no quiet to compare with.
        assert!(busy(true) > 0.3);
        let processors = std::thread::available_parallelism().unwrap().get() as f64;
        assert!(busy(false) < processors - 0.3, "its own processor counts as others'");
    }
}

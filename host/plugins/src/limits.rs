//! What a plugin may use up, and how that is enforced. Memory is capped by wasmtime's limiter; time by epochs: a ticker
//! interrupts the guest every 10 ms, and the call's [`Clock`], which stands still while the host works for the plugin,
//! decides whether it may go on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::{Engine, ResourceLimiter};

/// What one call of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the plugin's own memory.
    pub memory_bytes: usize,
    /// Time spent in the plugin itself; time that the host works for it does not count.
    pub call_time: Duration,
    /// The same where a technique applies: it may go through every number of a model, as long as it asks the host for
    /// something, or tells its progress, within each `call_time`.
    pub apply_time: Duration,
    /// Tensors, models, editors and the like that it holds at a time.
    pub handles: usize,
    /// Bytes of the tensors that it holds at a time.
    pub tensor_bytes: u64,
    /// Log messages and progress reports.
    pub log_messages: u32,
    /// Bytes of log messages.
    pub log_bytes: usize,
    /// Bytes that one call of a host function may carry from the plugin.
    pub host_call_bytes: usize,
}

impl Limits {
    /// The time that a call of this function may take.
    pub(crate) fn time(&self, function: &str) -> Duration {
        if function == "apply" { self.apply_time } else { self.call_time }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            call_time: Duration::from_secs(10),
            apply_time: Duration::from_secs(30 * 60),
            handles: 100_000,
            tensor_bytes: 16 << 30,
            log_messages: 10_000,
            log_bytes: 4 << 20,
            host_call_bytes: 128 << 20,
        }
    }
}

/// Why the host ended a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("its own time is over")]
    Deadline { limit: Duration },
    #[error("it holds too many handles")]
    Handles { limit: usize },
    #[error("it logs without end")]
    Log { messages: u32, bytes: usize },
}

impl Stopped {
    /// The rest of a sentence that begins with the plugin's name.
    pub fn tell(&self, function: &str) -> String {
        match self {
            Stopped::Deadline { limit } => {
                format!("did not return from {function} within {} of its own time", seconds(*limit))
            }
            Stopped::Handles { limit } => {
                format!("held more than {limit} handles in {function}: it must drop what it no longer needs")
            }
            Stopped::Log { messages, bytes: size } => {
                let size = bytes(*size as u64);
                format!("logged without end in {function}: more than {messages} messages or {size}")
            }
        }
    }
}

/// `10 s`, `0.2 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// `256 MiB`, `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => (1.0, "bytes"),
        1024..0x10_0000 => (1024.0, "KiB"),
        0x10_0000..0x4000_0000 => (1048576.0, "MiB"),
        _ => (1073741824.0, "GiB"),
    };
    let rounded = (bytes as f64 / unit * 10.0).round() / 10.0;
    format!("{rounded} {name}")
}

/// Caps linear memory and tables, and remembers that it had to.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: usize,
    /// Whether a request was refused in this call.
    pub refused: bool,
}

impl Memory {
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, refused: false }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return false;
        }
        self.used = used;
        true
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let entry = size_of::<usize>();
        Ok(self.grow(current.saturating_mul(entry), desired.saturating_mul(entry)))
    }
}

/// Time that the current call has spent in the guest.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    limit: Duration,
    /// The longest stretch between two calls of the host.
    stretch: Duration,
    spent: Duration,
    running: Option<Instant>,
}

impl Clock {
    /// A new call begins.
    pub fn start(&mut self, limit: Duration, stretch: Duration) {
        *self = Self { limit, stretch, spent: Duration::ZERO, running: Some(Instant::now()) };
    }

    /// The host works for the guest, or the call ended.
    pub fn pause(&mut self) {
        if let Some(since) = self.running.take() {
            self.spent += since.elapsed();
        }
    }

    /// The guest goes on.
    pub fn resume(&mut self) {
        self.running = Some(Instant::now());
    }

    /// Whether the guest may go on.
    pub fn check(&self) -> Result<(), Stopped> {
        let running = self.running.map_or(Duration::ZERO, |since| since.elapsed());
        match running {
            _ if self.spent + running > self.limit => Err(Stopped::Deadline { limit: self.limit }),
            _ if running > self.stretch => Err(Stopped::Deadline { limit: self.stretch }),
            _ => Ok(()),
        }
    }
}

/// How often a running guest is interrupted to look at its clock.
const TICK: Duration = Duration::from_millis(10);

/// A thread that advances the engine's epoch while any guest runs, and sleeps otherwise.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Running>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Running {
    calls: usize,
    ended: bool,
}

impl Ticker {
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, engine) = (shared.clone(), engine.weak());
        std::thread::Builder::new().name("plugin-ticker".into()).spawn(move || {
            let mut state = theirs.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.ended {
                if state.calls == 0 {
                    state = theirs.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                drop(state);
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
                state = theirs.state.lock().unwrap_or_else(PoisonError::into_inner);
            }
        })?;
        Ok(Self { shared })
    }

    /// The ticker runs as long as this lives.
    pub fn enter(&self) -> Ticking {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        if state.calls == 1 {
            self.shared.changed.notify_one();
        }
        Ticking { shared: self.shared.clone() }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.changed.notify_one();
    }
}

/// One guest that runs.
pub(crate) struct Ticking {
    shared: Arc<Shared>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).calls -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_while_the_host_works_does_not_count() {
        let mut clock = Clock::default();
        clock.start(Duration::from_millis(200), Duration::from_millis(200));
        clock.pause();
        std::thread::sleep(Duration::from_millis(300));
        clock.resume();
        assert_eq!(clock.check(), Ok(()));
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(clock.check(), Err(Stopped::Deadline { limit: Duration::from_millis(200) }));
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(100), "100 bytes");
        assert_eq!(seconds(Duration::from_millis(200)), "0.2 s");
    }
}

//! What plugins say. Messages are passed on with the plugin's name, up to a cap a call; progress is thinned out, so that
//! a plugin may report it as often as it likes.

use crate::bindings::shared::log::{Host, Level as WitLevel};
use crate::convert;
use crate::limits::{Limits, Stopped};
use crate::plugin::{Event, Level, Name, Observer};
use crate::state::HostCall;
use aehost_common::Point;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Progress is passed on no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// The messages of one call.
pub(crate) struct LogBook {
    name: Arc<Name>,
    observer: Observer,
    messages: u32,
    bytes: usize,
    progressed: Option<Instant>,
    /// What a panicking plugin said last.
    pub last_words: Option<String>,
}

impl LogBook {
    pub fn new(name: Arc<Name>, observer: Observer) -> Self {
        Self { name, observer, messages: 0, bytes: 0, progressed: None, last_words: None }
    }

    /// A new call begins.
    pub fn start(&mut self) {
        (self.messages, self.bytes, self.progressed, self.last_words) = (0, 0, None, None);
    }

    fn write(&mut self, level: Level, message: String, limits: &Limits) -> Result<(), Stopped> {
        self.messages += 1;
        self.bytes += message.len();
        if self.messages > limits.log_messages || self.bytes > limits.log_bytes {
            return Err(Stopped::Log { messages: limits.log_messages, bytes: limits.log_bytes });
        }
        let message = convert::text(message);
        if message.contains("panicked") {
            self.last_words = Some(message.clone());
        }
        (self.observer)(&self.name, Event::Log { level, message });
        Ok(())
    }

    /// How far training is.
    pub fn train(&mut self, point: &Point, steps: usize) {
        let held_out = point.held_out.map(|loss| format!(", held out {loss:.3}")).unwrap_or_default();
        let what = format!("training, update {} of {steps}, loss {:.3}{held_out}", point.step, point.loss);
        self.progress(point.step as f64 / steps.max(1) as f64, what);
    }

    fn progress(&mut self, done: f64, what: String) {
        if self.progressed.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) || !done.is_finite() {
            return;
        }
        self.progressed = Some(Instant::now());
        (self.observer)(&self.name, Event::Progress { done: done.clamp(0.0, 1.0), what: convert::text(what) });
    }
}

impl Host for HostCall<'_> {
    fn write(&mut self, level: WitLevel, message: String) -> wasmtime::Result<()> {
        let level = match level {
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
        };
        let limits = self.limits;
        Ok(self.log.write(level, message, &limits)?)
    }

    fn progress(&mut self, done: f64, what: String) -> wasmtime::Result<()> {
        self.log.progress(done, what);
        Ok(())
    }
}

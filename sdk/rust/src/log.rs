//! Messages and progress that the host shows beside the plugin's name. Natively, in unit tests, messages go to standard
//! error.

pub use crate::bindings::imports::aehost::plugin::log::Level;
use std::sync::Once;

/// Writes one message; the macros [`debug!`](crate::debug), [`info!`](crate::info) and [`warn!`](crate::warn) format it.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::imports::aehost::plugin::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// Share done in [0, 1], and of what; it shows in the live progress line.
pub fn progress(done: f64, what: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::imports::aehost::plugin::log::progress(done, what);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (done, what);
}

/// Sends a panic's message and place to the host before the trap that follows it, once for the life of the instance.
pub(crate) fn forward_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        #[cfg(target_arch = "wasm32")]
        std::panic::set_hook(Box::new(|panic| write(Level::Warn, &panic.to_string())));
    });
}

/// A message for people who debug the plugin.
#[macro_export]
macro_rules! debug {
    ($($part:tt)*) => { $crate::log::write($crate::log::Level::Debug, &format!($($part)*)) };
}

/// A message for everyone.
#[macro_export]
macro_rules! info {
    ($($part:tt)*) => { $crate::log::write($crate::log::Level::Info, &format!($($part)*)) };
}

/// Something that a user should look at.
#[macro_export]
macro_rules! warn {
    ($($part:tt)*) => { $crate::log::write($crate::log::Level::Warn, &format!($($part)*)) };
}

//! The exclusive lease of a device: while one process of a user measures, no other of aehost's does. A lock on a file
//! carries it, which the system releases when its holder ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a waiting process tries again.
const RETRY: Duration = Duration::from_millis(20);

/// Holds a device until it is dropped.
#[derive(Debug)]
pub struct DeviceLease {
    file: File,
    path: PathBuf,
}

/// Who is being waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The device.
    pub device: String,
    /// The process that holds it, unless it has only just taken it.
    pub holder: Option<u32>,
    /// How long this process has waited.
    pub waited: Duration,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waiting for another measurement on {}", self.device)?;
        self.holder.map_or(Ok(()), |pid| write!(f, ", held by pid {pid}"))
    }
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}: {source}; set XDG_RUNTIME_DIR to a folder that you may write", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The callback gave up.
    #[error("gave up {waiting}")]
    GaveUp {
        /// As the callback last heard.
        waiting: Waiting,
    },
}

impl DeviceLease {
    /// Takes the device (`cpu`, `cuda:0`), waiting while another process has it. `on_wait` hears of it at each try and may
    /// give up.
    pub fn acquire(device: &str, on_wait: impl FnMut(&Waiting) -> ControlFlow<()>) -> Result<Self, LeaseError> {
        Self::acquire_in(&folder(), device, on_wait)
    }

    /// As `acquire`, with lock files in a folder of the caller's.
    pub fn acquire_in(
        folder: &Path,
        device: &str,
        mut on_wait: impl FnMut(&Waiting) -> ControlFlow<()>,
    ) -> Result<Self, LeaseError> {
        let word: String = device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = folder.join(format!("{word}.lock"));
        let failed = |source| LeaseError::File { path: path.clone(), source };
        let mut file = open(folder, &path).map_err(failed)?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let waiting = Waiting { device: device.to_owned(), holder: holder(&mut file), waited: begin.elapsed() };
            if on_wait(&waiting).is_break() {
                return Err(LeaseError::GaveUp { waiting });
            }
            std::thread::sleep(RETRY);
        }
        let name = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(name.as_bytes())).map_err(failed)?;
        Ok(Self { file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DeviceLease {
    fn drop(&mut self) {
        // A name left behind would be taken for the holder's; closing the file releases the lock in any case.
        let _ = self.file.set_len(0);
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut content = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut content).ok()?;
    content.trim().parse().ok()
}

fn open(folder: &Path, path: &Path) -> std::io::Result<File> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// `$XDG_RUNTIME_DIR/aehost`, which is the user's own; else `aehost-UID` among the temporary files.
fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_dir()) {
        Some(folder) => PathBuf::from(folder).join("aehost"),
        None => std::env::temp_dir().join(format!("aehost-{}", user())),
    }
}

#[cfg(unix)]
fn user() -> u32 {
    // SAFETY: getuid has no preconditions and cannot fail.
    unsafe { libc::getuid() }
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}

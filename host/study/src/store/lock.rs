//! One process at a time runs a study: a locked file beside the database, which the system unlocks however the process
//! ends. The file itself stays, since removing it would let a third process lock another file of the same name.

use super::{Store, StoreError};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a lock may take to come free: a process that is just ending, or one that was just forked and has not yet
/// become another program, holds it for a moment more.
const PATIENCE: Duration = Duration::from_millis(300);

/// Holds a study for this process; the system releases it however the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Store {
    /// Takes the study for this process. Errors: missing, running.
    pub fn lock(&self, study: &str) -> Result<RunLock, StoreError> {
        self.study(study)?;
        let mut folder = self.path.clone().into_os_string();
        folder.push(".locks");
        let folder = PathBuf::from(folder);
        let path = folder.join(study);
        let open = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::StorageFull => StoreError::Full { path: path.clone() },
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { path: path.clone() }
            }
            _ => StoreError::Open { path: path.clone(), reason: e.to_string() },
        };
        std::fs::create_dir_all(&folder).map_err(open)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(open)?;
        let begun = Instant::now();
        let taken = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 30),
                other => break other,
            }
        };
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let read = file.read_to_string(&mut process);
                let process = if read.is_ok() && !process.is_empty() { process } else { "unknown".to_owned() };
                return Err(StoreError::Running { name: study.to_owned(), process });
            }
            Err(TryLockError::Error(e)) => return Err(open(e)),
        }
        let mut introduce = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        introduce().map_err(open)?;
        Ok(RunLock { _file: file })
    }
}

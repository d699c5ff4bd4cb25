//! A folder that belongs to one process and goes with it. Nobody cleans up after a process that was killed, so whoever
//! makes a folder removes those whose owners are gone: an owner holds a lock, which the system releases in any case.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Removed when dropped.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

/// Held while folders are made and removed, so that none is found between the two.
const GUARD: &str = "guard.lock";

impl OwnFolder {
    /// Makes one below `parent`.
    pub fn new(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        let guard = open(&parent.join(GUARD))?;
        guard.lock()?;
        // An owner may have died when it had its lock and not yet its folder, or its lock still.
        let mut folders = BTreeSet::new();
        for entry in std::fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_name() != GUARD {
                folders.insert(entry.path().with_extension(""));
            }
        }
        for folder in folders {
            // What cannot be removed is in nobody's way.
            let _ = remove_if_left(&folder);
        }
        // Process numbers repeat where homes are shared between containers.
        let id = std::process::id();
        for n in 0.. {
            let path = parent.join(format!("{id}-{n}"));
            let lock = lock_of(&path);
            // A lock that lies there is its owner's until that has removed it: held by two, it would go with the first.
            if path.exists() || lock.exists() {
                continue;
            }
            let held = open(&lock)?;
            held.lock()?;
            std::fs::create_dir(&path)?;
            return Ok(Self { path, lock, _held: held });
        }
        Err(io::Error::other("no name is free"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process that makes a folder here.
        let _ = std::fs::remove_dir_all(&self.path).and_then(|()| std::fs::remove_file(&self.lock));
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}

fn lock_of(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

fn remove_if_left(folder: &Path) -> io::Result<()> {
    let lock = lock_of(folder);
    match open(&lock)?.try_lock() {
        Ok(()) => match std::fs::remove_dir_all(folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => std::fs::remove_file(&lock),
        },
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let folder = OwnFolder::new(&parent.path().join("variants")).unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("a"), b"kept").unwrap();
        drop(folder);
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [GUARD]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_uses_is_not() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join("1-0")).unwrap();
        std::fs::write(parent.path().join("1-0/a"), b"left").unwrap();
        // Killed before there was a folder, or after.
        std::fs::write(parent.path().join("2-0.lock"), b"").unwrap();
        let (one, other) = (OwnFolder::new(parent.path()).unwrap(), OwnFolder::new(parent.path()).unwrap());
        for gone in ["1-0", "1-0.lock", "2-0.lock"] {
            assert!(!parent.path().join(gone).exists(), "{gone}");
        }
        assert!(one.path().is_dir() && other.path().is_dir() && one.path() != other.path());
    }
}

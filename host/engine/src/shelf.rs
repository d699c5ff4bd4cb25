//! Encoded weights on disk. What was expensive to make is made once, and a process that only measures reads it instead of
//! making it again: its memory holds what the model needs, and nothing of what making it needed.

use crate::EngineError;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder of encoded weights, each in a file named by its weight's key: equal names, equal bytes. One process writes to
/// it; any may read. What was used least lately makes room for what comes, but never what the variant at hand needs.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    limit: u64,
    files: HashMap<String, Kept>,
    /// Number of the variant at hand.
    now: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    /// Number of the last variant that needed it.
    used: u64,
}

impl Shelf {
    /// Opens a folder, or makes it, and looks what it holds. It is kept below `limit` bytes, unless one variant alone needs
    /// more.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut files = HashMap::new();
        for entry in std::fs::read_dir(folder)? {
            let (entry, meta) = entry.and_then(|e| e.metadata().map(|m| (e, m)))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.ends_with(PARTIAL) {
                // Of a process that was killed as it wrote.
                std::fs::remove_file(entry.path())?;
            } else if meta.is_file() {
                files.insert(name, Kept { bytes: meta.len(), used: 0 });
            }
        }
        Ok(Self { folder: folder.to_owned(), limit, files, now: 0 })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|kept| kept.bytes).sum()
    }

    /// Another variant comes: what earlier ones needed may now make room.
    pub fn turn(&mut self) {
        self.now += 1;
    }

    /// Whether the weight is there; if so, the variant at hand needs it.
    pub(crate) fn holds(&mut self, key: &str) -> bool {
        let kept = self.files.get_mut(key);
        kept.map(|kept| kept.used = self.now).is_some()
    }

    /// Keeps a weight. A full disk is met by giving up everything that the variant at hand does not need.
    pub(crate) fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let size = bytes.len() as u64;
        self.make_room(self.limit.saturating_sub(size));
        let written = write_whole(&self.folder, key, bytes).or_else(|_| {
            self.make_room(0);
            write_whole(&self.folder, key, bytes)
        });
        written.map_err(|e| {
            EngineError::Disk(format!("a weight of {size} bytes cannot be kept in {}: {e}", self.folder.display()))
        })?;
        self.files.insert(key.to_owned(), Kept { bytes: size, used: self.now });
        Ok(())
    }

    /// Removes what was used least lately until no more than `target` bytes are left, or only what is needed now.
    fn make_room(&mut self, target: u64) {
        let mut bytes = self.bytes();
        if bytes <= target {
            return;
        }
        let old = self.files.iter().filter(|(_, kept)| kept.used < self.now);
        let mut old: Vec<(String, Kept)> = old.map(|(key, kept)| (key.clone(), *kept)).collect();
        old.sort_by(|(a, x), (b, y)| (x.used, a).cmp(&(y.used, b)));
        for (key, kept) in old {
            if bytes <= target {
                return;
            }
            // A file that cannot be removed takes its room all the same; there is nothing more to be done about it here.
            let _ = std::fs::remove_file(self.folder.join(&key));
            self.files.remove(&key);
            bytes -= kept.bytes;
        }
    }
}

/// How the names of files end that are still being written.
const PARTIAL: &str = ".partial";

/// Writes a file that is either whole or not there.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{name}{PARTIAL}"));
    let written = std::fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&partial, folder.join(name)));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// A kept weight's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    std::fs::read(path)
        .map_err(|e| EngineError::Disk(format!("the weight kept in {} cannot be read: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_lately_makes_room_and_what_is_needed_now_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), 100).unwrap();
        for key in ["a", "b", "c"] {
            shelf.turn();
            shelf.put(key, &[0; 40]).unwrap();
        }
        assert_eq!([shelf.holds("a"), shelf.holds("b"), shelf.holds("c")], [false, true, true]);
        shelf.put("d", &[0; 90]).unwrap();
        assert_eq!((shelf.bytes(), shelf.holds("b"), shelf.holds("c")), (170, true, true), "all of it is needed");
        shelf.turn();
        shelf.put("e", &[0; 20]).unwrap();
        assert_eq!((shelf.bytes(), shelf.holds("d"), shelf.holds("e")), (20, false, true));
    }

    #[test]
    fn a_shelf_that_is_opened_again_holds_what_it_held_but_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        Shelf::open(folder.path(), 100).unwrap().put("a", b"whole").unwrap();
        std::fs::write(folder.path().join(format!("b{PARTIAL}")), b"ha").unwrap();
        let mut shelf = Shelf::open(folder.path(), 100).unwrap();
        assert_eq!((shelf.holds("a"), shelf.holds("b"), shelf.bytes()), (true, false, 5));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(read(&folder.path().join("a")).unwrap(), b"whole");
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), 100).unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        let told = shelf.put("a", b"whole").unwrap_err().to_string();
        assert!(told.starts_with(&format!("a weight of 5 bytes cannot be kept in {}: ", path.display())), "{told}");
        assert!(matches!(read(&path.join("a")), Err(EngineError::Disk(_))));
    }
}

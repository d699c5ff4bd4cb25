//! What can go wrong with the store, and what to do about it.

use std::path::PathBuf;

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or created.
    #[error("cannot open the store {path}: {reason}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The tables are those of a newer aehost.
    #[error(
        "the store {path} was written by a newer aehost (schema {found}; this one knows up to {known}): upgrade aehost"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Schema of the file.
        found: i32,
        /// Schema of this program.
        known: i32,
    },
    /// The file is something else.
    #[error("{path} is not a store of aehost: choose another file with --store")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// No space is left.
    #[error(
        "cannot write to the store {path}: the disk is full; free some space and resume the study, nothing that was stored is lost"
    )]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// Writing is not allowed.
    #[error(
        "cannot write to the store {path}: it is read-only; make the file and its folder writable, or choose another file with --store"
    )]
    ReadOnly {
        /// The database file.
        path: PathBuf,
    },
    /// Another process keeps it locked.
    #[error("the store {path} is busy: another program has been writing to it for more than 10 s")]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// The content is damaged.
    #[error("the store {path} is damaged ({what}): restore it from a backup, or move it away")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
    /// There is no such study.
    #[error("there is no study `{name}` in {path}; there are: {known}")]
    Missing {
        /// The database file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// There is one already.
    #[error(
        "study `{name}` exists already in {path}: continue it with `aehost resume {name}`, or choose another name with --study"
    )]
    Exists {
        /// The database file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The name cannot be used.
    #[error("`{0}` is no name for a study: use 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit")]
    Name(String),
    /// Two runs at once.
    #[error("study `{name}` is being run by another aehost (process {process}): wait until it ends, or stop it first")]
    Running {
        /// The study.
        name: String,
        /// The other process, as it introduced itself.
        process: String,
    },
    /// Any other failure of the database.
    #[error("the store {path} failed: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

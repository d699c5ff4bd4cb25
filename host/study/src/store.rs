//! The embedded store: studies, their trials, and the log of every ask and tell, in one SQLite file. What belongs together
//! is committed together, so that a study killed at any moment resumes from a state that it really was in.
//!
//! Write-ahead logging with `synchronous = FULL`: a commit costs an fsync of a few milliseconds, next to trials of seconds,
//! and survives not only kill -9 but also a power cut.

use crate::{Event, StudyRecord, Trial, TrialId};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Marks the file as ours (`file(1)` and our own check): "AEHS".
const APPLICATION: i32 = 0x4145_4853;
/// Version of the tables below; a file of a newer one is refused.
const SCHEMA: i32 = 1;
const TABLES: &str = "
    CREATE TABLE studies (
        name TEXT PRIMARY KEY, created_at REAL NOT NULL, record TEXT NOT NULL, ended TEXT
    ) STRICT;
    CREATE TABLE trials (
        study TEXT NOT NULL REFERENCES studies (name) ON DELETE CASCADE,
        id INTEGER NOT NULL, purpose TEXT NOT NULL, confirms INTEGER, key TEXT NOT NULL, configuration TEXT NOT NULL,
        fidelity REAL NOT NULL, why TEXT NOT NULL, word TEXT NOT NULL, outcome TEXT NOT NULL, timings TEXT NOT NULL,
        started_at REAL NOT NULL, finished_at REAL NOT NULL,
        PRIMARY KEY (study, id)
    ) STRICT;
    CREATE TABLE events (
        study TEXT NOT NULL REFERENCES studies (name) ON DELETE CASCADE,
        number INTEGER NOT NULL, event TEXT NOT NULL,
        PRIMARY KEY (study, number)
    ) STRICT;";

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

/// One line of `aehost list`.
#[derive(Debug, Clone, PartialEq)]
pub struct StudySummary {
    /// The study's name.
    pub name: String,
    /// The model as given.
    pub model: String,
    /// The strategy's id.
    pub strategy: String,
    /// Unix time in seconds.
    pub created_at: f64,
    /// Stored trials, rejected ones and confirmations included.
    pub trials: u32,
    /// Trials at most.
    pub budget_trials: u32,
    /// Why it ended; none while it can be resumed.
    pub ended: Option<String>,
}

/// Holds a study for this process; the system releases it however the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// An open database.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    #[cfg(test)]
    pub(crate) around_commit: Option<std::rc::Rc<dyn Fn()>>,
}

impl Store {
    /// Opens the database, and creates it (and its folder) when it does not exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| open(e.to_string()))?;
        }
        let connection = Connection::open(path).map_err(|e| open(e.to_string()))?;
        let store = Self {
            connection,
            path: path.to_owned(),
            #[cfg(test)]
            around_commit: None,
        };
        store.prepare()?;
        Ok(store)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let fail = |e| self.fault(e);
        let number = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i32>(0));
        self.connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(fail)?;
        let schema = number("PRAGMA user_version").map_err(fail)?;
        let application = number("PRAGMA application_id").map_err(fail)?;
        let tables = number("SELECT count(*) FROM sqlite_master").map_err(fail)?;
        if application != APPLICATION && (application != 0 || schema != 0 || tables != 0) {
            return Err(StoreError::Foreign { path: self.path.clone() });
        }
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: self.path.clone(), found: schema, known: SCHEMA });
        }
        if application == 0 {
            // Two processes may get here at once: the second waits, and finds the tables made.
            self.connection.execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").map_err(fail)?;
            let made = number("PRAGMA application_id").map_err(fail)? == APPLICATION;
            let sql = format!("{TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT");
            let sql = if made { "ROLLBACK" } else { sql.as_str() };
            self.connection.execute_batch(sql).map_err(fail)?;
        }
        self.connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON").map_err(fail)
    }

    /// Adds a study.
    pub fn create(&mut self, record: &StudyRecord) -> Result<(), StoreError> {
        let name = &record.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts || name.len() > 64 || !name.chars().all(fits) {
            return Err(StoreError::Name(name.clone()));
        }
        let json = self.write_json(record, "the study's record")?;
        let sql = "INSERT OR IGNORE INTO studies (name, created_at, record) VALUES (?, ?, ?)";
        match self.connection.execute(sql, params![name, record.created_at, json]).map_err(|e| self.fault(e))? {
            0 => Err(StoreError::Exists { path: self.path.clone(), name: name.clone() }),
            _ => Ok(()),
        }
    }

    /// All studies, the oldest first.
    pub fn list(&self) -> Result<Vec<StudySummary>, StoreError> {
        let sql = "SELECT record, ended, (SELECT count(*) FROM trials WHERE study = name) FROM studies
                   ORDER BY created_at, name";
        let rows = self.rows(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, u32>(2)?))
        })?;
        rows.into_iter()
            .map(|(record, ended, trials)| {
                let record: StudyRecord = self.read_json(&record, "a study's record")?;
                let StudyRecord { name, model, strategy, created_at, budget_trials, .. } = record;
                Ok(StudySummary { name, model, strategy, created_at, trials, budget_trials, ended })
            })
            .collect()
    }

    /// What the study was run on and with.
    pub fn study(&self, name: &str) -> Result<StudyRecord, StoreError> {
        let sql = "SELECT record FROM studies WHERE name = ?";
        let json: Option<String> =
            self.connection.query_row(sql, [name], |row| row.get(0)).optional().map_err(|e| self.fault(e))?;
        match json {
            Some(json) => self.read_json(&json, &format!("the record of study {name}")),
            None => Err(self.missing(name)?),
        }
    }

    /// All stored trials by number.
    pub fn trials(&self, study: &str) -> Result<Vec<Trial>, StoreError> {
        let sql =
            "SELECT id, purpose, confirms, configuration, fidelity, why, outcome, timings, started_at, finished_at
                   FROM trials WHERE study = ? ORDER BY id";
        let rows = self.rows(sql, [study], |row| {
            let text = |i| row.get::<_, String>(i);
            let texts = [text(1)?, text(3)?, text(6)?, text(7)?];
            let numbers = (row.get(0)?, row.get::<_, Option<u64>>(2)?, row.get(4)?, row.get(8)?, row.get(9)?);
            Ok((texts, numbers, text(5)?))
        })?;
        rows.into_iter()
            .map(|([purpose, configuration, outcome, timings], numbers, why)| {
                let (id, confirms, fidelity, started_at, finished_at) = numbers;
                let what = format!("trial {id} of study {study}");
                Ok(Trial {
                    id: TrialId(id),
                    purpose: self.read_json(&purpose, &what)?,
                    confirms: confirms.map(TrialId),
                    configuration: self.read_json(&configuration, &what)?,
                    fidelity,
                    why,
                    outcome: self.read_json(&outcome, &what)?,
                    timings: self.read_json(&timings, &what)?,
                    started_at,
                    finished_at,
                })
            })
            .collect()
    }

    /// The log of asks and tells, in order.
    pub fn events(&self, study: &str) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT event FROM events WHERE study = ? ORDER BY number";
        let rows = self.rows(sql, [study], |row| row.get::<_, String>(0))?;
        rows.iter().map(|json| self.read_json(json, &format!("the log of study {study}"))).collect()
    }

    /// Adds to the log, and the trial that goes with it: all or nothing.
    pub fn append(&mut self, study: &str, trial: Option<&Trial>, events: &[Event]) -> Result<(), StoreError> {
        #[cfg(test)]
        self.commit_hook();
        let json: Vec<String> =
            events.iter().map(|event| self.write_json(event, "an event")).collect::<Result<_, _>>()?;
        let row = trial.map(|trial| self.trial_row(study, trial)).transpose()?;
        let write = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            if let Some(row) = &row {
                let sql = "INSERT INTO trials (study, id, purpose, confirms, key, configuration, fidelity, why, word, outcome,
                           timings, started_at, finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                transaction.prepare_cached(sql)?.execute(rusqlite::params_from_iter(row))?;
            }
            for event in &json {
                let sql = "INSERT INTO events (study, number, event)
                           SELECT ?1, coalesce(max(number) + 1, 0), ?2 FROM events WHERE study = ?1";
                transaction.prepare_cached(sql)?.execute(params![study, event])?;
            }
            transaction.commit()
        };
        write(&mut self.connection).map_err(|e| self.fault(e))?;
        #[cfg(test)]
        self.commit_hook();
        Ok(())
    }

    /// Records why the study ended, or, with none, that it is at work again.
    pub fn set_ended(&mut self, study: &str, reason: Option<&str>) -> Result<(), StoreError> {
        let sql = "UPDATE studies SET ended = ? WHERE name = ?";
        self.connection.execute(sql, params![reason, study]).map_err(|e| self.fault(e)).map(drop)
    }

    /// Removes a study with all its trials. Errors: missing, running.
    pub fn delete(&mut self, study: &str) -> Result<(), StoreError> {
        let _lock = self.lock(study)?;
        let deleted = self.connection.execute("DELETE FROM studies WHERE name = ?", [study]);
        match deleted.map_err(|e| self.fault(e))? {
            0 => Err(self.missing(study)?),
            _ => Ok(()),
        }
    }

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
        match file.try_lock() {
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

    fn trial_row(&self, study: &str, trial: &Trial) -> Result<Vec<rusqlite::types::Value>, StoreError> {
        let what = format!("trial {}", trial.id);
        let integer = |id: TrialId| rusqlite::types::Value::Integer(id.0 as i64);
        Ok(vec![
            study.to_owned().into(),
            integer(trial.id),
            self.write_json(&trial.purpose, &what)?.into(),
            trial.confirms.map_or(rusqlite::types::Value::Null, integer),
            trial.configuration.key().into(),
            self.write_json(&trial.configuration, &what)?.into(),
            trial.fidelity.into(),
            trial.why.clone().into(),
            trial.outcome.word().to_owned().into(),
            self.write_json(&trial.outcome, &what)?.into(),
            self.write_json(&trial.timings, &what)?.into(),
            trial.started_at.into(),
            trial.finished_at.into(),
        ])
    }

    fn rows<P: rusqlite::Params, T>(
        &self,
        sql: &str,
        parameters: P,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let all = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, read)?.collect()
        };
        all().map_err(|e| self.fault(e))
    }

    fn write_json<T: serde::Serialize>(&self, value: &T, what: &str) -> Result<String, StoreError> {
        serde_json::to_string(value).map_err(|e| self.damaged(what, &e))
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, json: &str, what: &str) -> Result<T, StoreError> {
        serde_json::from_str(json).map_err(|e| self.damaged(what, &e))
    }

    fn damaged(&self, what: &str, why: &serde_json::Error) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: format!("{what}: {why}") }
    }

    fn missing(&self, name: &str) -> Result<StoreError, StoreError> {
        let names = self.rows("SELECT name FROM studies ORDER BY name", [], |row| row.get::<_, String>(0))?;
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Ok(StoreError::Missing { path: self.path.clone(), name: name.to_owned(), known })
    }

    /// What a person can do about a failure of SQLite.
    fn fault(&self, source: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { path },
            Some(ErrorCode::NotADatabase) => StoreError::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, what: source.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            _ => StoreError::Database { path, source },
        }
    }

    /// Many studies in a test need not survive a power cut.
    #[cfg(test)]
    pub(crate) fn without_fsync(&self) {
        self.connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    }

    /// Lets the database grow to no more than this many pages of 4 KiB, as a disk that fills up would.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    }

    #[cfg(test)]
    fn commit_hook(&self) {
        if let Some(hook) = self.around_commit.clone() {
            hook();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{measured, study, trial};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn message<T>(result: Result<T, StoreError>, folder: &tempfile::TempDir) -> String {
        let Err(error) = result else { panic!("it should fail") };
        error.to_string().replace(folder.path().to_str().unwrap(), "DIR")
    }

    #[test]
    fn what_is_stored_reads_back_equal() {
        let folder = folder();
        let path = folder.path().join("deep/er/studies.db");
        let record = study("first");
        let trials = [trial(0, &[], measured(&[("latency.e2e_ms", 0.1 + 0.2)])), trial(1, &[("a", 3)], measured(&[]))];
        let ended = Event::Ended { reason: "enough".into() };
        {
            let mut store = Store::open(&path).unwrap();
            store.create(&record).unwrap();
            store.append("first", Some(&trials[0]), &[]).unwrap();
            store.append("first", Some(&trials[1]), std::slice::from_ref(&ended)).unwrap();
        }
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.study("first").unwrap(), record);
        assert_eq!(store.trials("first").unwrap(), trials);
        assert_eq!(store.events("first").unwrap(), [ended]);
        store.set_ended("first", Some("enough")).unwrap();
        let list = store.list().unwrap();
        assert_eq!((list.len(), list[0].trials, list[0].ended.as_deref()), (1, 2, Some("enough")));
        store.delete("first").unwrap();
        assert!(store.list().unwrap().is_empty() && store.trials("first").unwrap().is_empty());
    }

    #[test]
    fn a_trial_and_its_events_are_stored_together_or_not_at_all() {
        let folder = folder();
        let mut store = Store::open(&folder.path().join("s.db")).unwrap();
        store.create(&study("s")).unwrap();
        let first = trial(1, &[("a", 1)], measured(&[]));
        store.append("s", Some(&first), &[]).unwrap();
        assert!(store.append("s", Some(&first), &[Event::Ended { reason: "twice".into() }]).is_err());
        assert!(store.events("s").unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_stored() {
        let folder = folder();
        let mut store = Store::open(&folder.path().join("s.db")).unwrap();
        store.create(&study("s")).unwrap();
        store.limit_pages(20);
        let mut stored = 0;
        let error = loop {
            let mut next = trial(stored, &[("a", 1)], measured(&[]));
            next.why = "x".repeat(9000);
            match store.append("s", Some(&next), &[]) {
                Ok(()) => stored += 1,
                error => break error,
            }
        };
        assert_eq!(
            message(error, &folder),
            "cannot write to the store DIR/s.db: the disk is full; free some space and resume the study, nothing that \
             was stored is lost"
        );
        assert!(stored > 0);
        store.limit_pages(100_000);
        assert_eq!(store.trials("s").unwrap().len() as u64, stored);
        store.append("s", Some(&trial(stored, &[("a", 1)], measured(&[]))), &[]).unwrap();
    }

    #[test]
    fn a_newer_schema_asks_for_an_upgrade() {
        let folder = folder();
        let path = folder.path().join("s.db");
        Store::open(&path).unwrap().connection.execute_batch("PRAGMA user_version = 7").unwrap();
        assert_eq!(
            message(Store::open(&path), &folder),
            "the store DIR/s.db was written by a newer aehost (schema 7; this one knows up to 1): upgrade aehost"
        );
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = folder();
        let path = folder.path().join("notes.txt");
        let notes = "these are notes, not a database\n".repeat(40);
        std::fs::write(&path, &notes).unwrap();
        let expected = "DIR/notes.txt is not a store of aehost: choose another file with --store";
        assert_eq!(message(Store::open(&path), &folder), expected);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), notes);
        let other = folder.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE music (title TEXT)").unwrap();
        assert_eq!(
            message(Store::open(&other), &folder),
            "DIR/other.db is not a store of aehost: choose another file with --store"
        );
    }

    #[test]
    fn a_store_that_cannot_be_opened_or_written_says_so() {
        let folder = folder();
        assert_eq!(
            message(Store::open(folder.path()), &folder),
            "cannot open the store DIR: unable to open database file: DIR"
        );
        let mut store = Store::open(&folder.path().join("s.db")).unwrap();
        store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
        assert_eq!(
            message(store.create(&study("s")), &folder),
            "cannot write to the store DIR/s.db: it is read-only; make the file and its folder writable, or choose \
             another file with --store"
        );
    }

    #[test]
    fn studies_are_found_by_name_only_once() {
        let folder = folder();
        let mut store = Store::open(&folder.path().join("s.db")).unwrap();
        assert_eq!(message(store.study("x"), &folder), "there is no study `x` in DIR/s.db; there are: none");
        store.create(&study("x")).unwrap();
        assert_eq!(
            message(store.create(&study("x")), &folder),
            "study `x` exists already in DIR/s.db: continue it with `aehost resume x`, or choose another name with --study"
        );
        assert_eq!(
            message(store.create(&study("../x")), &folder),
            "`../x` is no name for a study: use 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit"
        );
    }

    #[test]
    fn a_study_is_run_by_one_process_at_a_time() {
        let folder = folder();
        let path = folder.path().join("s.db");
        let mut store = Store::open(&path).unwrap();
        store.create(&study("s")).unwrap();
        store.create(&study("t")).unwrap();
        let lock = store.lock("s").unwrap();
        let other = Store::open(&path).unwrap();
        assert_eq!(
            message(other.lock("s"), &folder),
            format!(
                "study `s` is being run by another aehost (process {}): wait until it ends, or stop it first",
                std::process::id()
            )
        );
        other.lock("t").unwrap();
        drop(lock);
        other.lock("s").unwrap();
    }
}

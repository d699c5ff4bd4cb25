//! The embedded store: studies, their trials, and the log of every ask and tell, in one SQLite file. What belongs together
//! is committed together, so that a study killed at any moment resumes from a state that it really was in.
//!
//! Write-ahead logging with `synchronous = FULL`: a commit costs an fsync of a few milliseconds, next to trials of seconds,
//! and survives not only kill -9 but also a power cut.

mod error;
mod lock;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use lock::RunLock;

use crate::{Conditions, Event, StudyRecord, Trial, TrialId};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Marks the file as ours (`file(1)` and our own check): "AEHS".
const APPLICATION: i32 = 0x4145_4853;
/// Version of the tables below; a file of a newer one is refused.
const SCHEMA: i32 = 1;
/// How long another process may keep the database locked.
const PATIENCE: Duration = Duration::from_secs(10);
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
        // One statement sees one state, even while another process makes the tables.
        let state = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)
                     FROM pragma_user_version, pragma_application_id";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i32>(0)?, row.get::<_, i32>(1)?, row.get::<_, i32>(2)?));
        let state = || self.connection.query_row(state, [], read);
        self.connection.busy_timeout(PATIENCE).map_err(fail)?;
        let (schema, application, tables) = state().map_err(fail)?;
        if application != APPLICATION && (application != 0 || schema != 0 || tables != 0) {
            return Err(StoreError::Foreign { path: self.path.clone() });
        }
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: self.path.clone(), found: schema, known: SCHEMA });
        }
        if application == 0 {
            // Two processes may get here at once: the second waits, and finds the tables made.
            self.write_ahead().map_err(fail)?;
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(fail)?;
            let made = state().map_err(fail)?.1 == APPLICATION;
            let sql = format!("{TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT");
            let sql = if made { "ROLLBACK" } else { sql.as_str() };
            self.connection.execute_batch(sql).map_err(fail)?;
        }
        self.connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON").map_err(fail)
    }

    /// Turns on write-ahead logging. While this takes the lock that it needs, SQLite does not heed the busy timeout: two
    /// processes that open a new database at once would see one of them refused.
    fn write_ahead(&self) -> rusqlite::Result<()> {
        let begun = Instant::now();
        loop {
            match self.connection.execute_batch("PRAGMA journal_mode = WAL") {
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
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
            Some(json) => {
                let mut record: StudyRecord = self.read_json(&json, &format!("the record of study {name}"))?;
                if record.conditions == Conditions::default() {
                    record.conditions = Conditions::among_facts(&record.model_facts);
                }
                Ok(record)
            }
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

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
fn conditions_that_an_older_record_keeps_among_its_facts_are_found_there() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("s.db")).unwrap();
    let mut record = study("old");
    let facts = std::mem::take(&mut record.model_facts);
    record.model_facts =
        facts.with("run.calibration_data", "austen").with("run.watts_busy", 65.0).with("run.trial_seconds", 90.0);
    store.create(&record).unwrap();
    let mut json = serde_json::to_value(&record).unwrap();
    json.as_object_mut().unwrap().remove("conditions").unwrap();
    store.connection.execute("UPDATE studies SET record = ?", [json.to_string()]).unwrap();
    let read = store.study("old").unwrap();
    let expected = Conditions {
        calibration: Some("austen".into()),
        calibration_tokens: None,
        training: None,
        training_held_out: None,
        power: Some(crate::DeclaredPower { watts_busy: 65.0, watts_idle: None }),
        trial_seconds: Some(90.0),
        reference: Default::default(),
        companions: vec![],
    };
    assert_eq!((&read.conditions, &read.model_facts), (&expected, &record.model_facts));
    assert_eq!(store.list().unwrap().len(), 1);
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
fn a_new_store_can_be_opened_by_many_at_once() {
    for _ in 0..40 {
        let folder = folder();
        let path = folder.path().join("s.db");
        let start = std::sync::Barrier::new(8);
        let open = || {
            start.wait();
            Store::open(&path).map(drop)
        };
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }
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

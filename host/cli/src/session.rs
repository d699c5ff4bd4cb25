//! A study at work: the loop with a worker, a strategy, progress and Ctrl-C around it, and what is said when it ends.

use crate::ending::{Ending, usage};
use crate::feasibility::Shared;
use crate::output::Output;
use crate::plan::Plan;
use crate::plugins::{self, PluginArguments};
use crate::progress::Live;
use crate::{interrupt, results};
use aehost_plugins::Catalog;
use aehost_study::{Finished, Limits, PluginRecord, Session, Space, Stop, Store, StudyRecord};
use aehost_worker::{Description, Supervisor};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Goes on with a stored study, on the plugins and the model that it was begun with.
pub fn resume(
    store: &mut Store,
    name: &str,
    given: &PluginArguments,
    limits: Limits,
    store_flag: &str,
    output: &Output,
) -> Result<Ending> {
    let record = store.study(name)?;
    // Whoever runs it now is named before minutes are spent on setting up.
    drop(store.lock(name)?);
    let folders = recorded_folders(&record, &given.plugins)?;
    let options = given.options();
    let catalog = plugins::load(&folders, &options, output)?;
    let plan = Plan::of(&record);
    let supervisor = plan.start(plan.setup(folders, &options, output)?)?;
    check_unchanged(&record, supervisor.description())?;
    run(store, name, &catalog, supervisor, limits, store_flag, output)
}

/// The folders of the recorded plugins, unless others are given.
pub fn recorded_folders(record: &StudyRecord, given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if !given.is_empty() {
        return plugins::folders(given);
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in record.plugins.iter().filter_map(|p| Path::new(&p.path).parent()) {
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
    if let Some(gone) = folders.iter().find(|folder| !folder.is_dir()) {
        return Err(usage(format!(
            "the plugins of study `{}` were in {}, which is not there any more: say where they are with --plugins DIR",
            record.name,
            gone.display()
        )));
    }
    Ok(folders)
}

/// A study goes on only with what it was begun with: otherwise its trials could not be compared.
fn check_unchanged(record: &StudyRecord, found: &Description) -> Result<()> {
    let name = &record.name;
    if found.model_digest != record.model_digest {
        bail!(
            "the model {} is not the one that study `{name}` was begun with (its SHA-256 is {}, it was {}): bring that \
             one back, or start a new study",
            record.model_path,
            found.model_digest,
            record.model_digest
        );
    }
    for (companion, digest) in record.conditions.companions.iter().zip(&found.companion_digests) {
        if companion.digest != *digest {
            bail!(
                "the companion {} is not the one that study `{name}` was begun with (its SHA-256 is {digest}, it was {}): \
                 bring that one back, or start a new study",
                companion.model,
                companion.digest
            );
        }
    }
    let same = |a: &PluginRecord, b: &PluginRecord| a.kind == b.kind && a.id == b.id;
    for plugin in &record.plugins {
        let PluginRecord { kind, id, version, .. } = plugin;
        match found.plugins.iter().find(|p| same(p, plugin)) {
            Some(now) if now.digest == plugin.digest => {}
            Some(now) => bail!(
                "{kind} `{id}` has changed since study `{name}` was begun (version {version}, SHA-256 {}; now {}, {}): \
                 bring that one back, or start a new study",
                plugin.digest,
                now.version,
                now.digest
            ),
            None => {
                bail!("{kind} `{id}` {version} is gone, which study `{name}` needs: say where it is with --plugins DIR")
            }
        }
    }
    Ok(())
}

/// Runs the loop until the study is complete or stopped, and presents what it found.
pub fn run(
    store: &mut Store,
    name: &str,
    catalog: &Catalog,
    supervisor: Supervisor,
    limits: Limits,
    store_flag: &str,
    output: &Output,
) -> Result<Ending> {
    let record = store.study(name)?;
    let mut worker = Shared::new(supervisor);
    let strategy = catalog.strategy(&record.strategy)?.with_feasibility(worker.feasibility(Space::new(&record.space)?));
    let stop = Stop::default();
    let mut live = Live::new(&record, store.trials(name)?, output);
    interrupt::watch(&stop, live.speaker())?;
    let session =
        Session { store: &mut *store, factory: &strategy, runner: &mut worker, events: &mut live, stop, limits };
    let finished = aehost_study::run(name, session);
    live.finish();
    match finished? {
        Finished::Interrupted => {
            let hint = format!("aehost resume {name}{store_flag}");
            if output.json {
                let error =
                    serde_json::json!({"code": "interrupted", "message": "the study was stopped", "causes": []});
                eprintln!("{}", serde_json::json!({"error": error, "resume": hint}));
            }
            output.say(&format!("Stopped; every finished trial is stored. Go on with: {hint}"));
            Ok(Ending::Interrupted)
        }
        Finished::Complete(reason) => {
            output.say(&format!("Finished: {reason}.\n"));
            results::finish(store, name, store_flag, output)
        }
    }
}

//! The built-in plugins through the whole crate: load, cache, install, apply, and the conformance checks.

use crate::support::{self, built_in, built_ins, checkpoint, model, options, single};
use aehost_engine::Variant;
use aehost_plugins::{Catalog, LOCK, Limits, Options, conformance, install, remove};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files of a cache by their ending.
fn entries(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == ending)).collect()
}

#[test]
fn a_damaged_or_foreign_cache_entry_is_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("compiled");
    let options = Options { cache: Some(folder.clone()), ..Options::default() };
    let path = built_in("strategy-random");
    Catalog::inspect(&path, &options).unwrap();
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let files = || [entries(&folder, "cwasm"), entries(&folder, "json")].map(|found| found[0].clone());
    let whole = files().map(|file| std::fs::read(file).unwrap());
    for (file, whole) in files().iter().zip(&whole) {
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(file, &damaged).unwrap();
    }
    assert_eq!(Catalog::inspect(&path, &options).unwrap().id, "random");
    assert!(files().map(|file| std::fs::read(file).unwrap()) == whole, "a damaged entry was not replaced");
}

#[test]
fn a_plugin_that_is_known_is_compiled_only_when_it_is_called() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("compiled");
    let options = Options { cache: Some(folder.clone()), ..Options::default() };
    let plugins = [built_in("family-llama"), built_in("strategy-grid")];
    let asked = Catalog::load(&plugins, &options).unwrap();
    entries(&folder, "cwasm").iter().for_each(|code| std::fs::remove_file(code).unwrap());
    let known = Catalog::load(&plugins, &options).unwrap();
    assert!(known.plugins().eq(asked.plugins()));
    assert_eq!(entries(&folder, "cwasm").len(), 0, "nothing was called");
    let checkpoint = checkpoint();
    known.family("llama").unwrap().build(&checkpoint, &mut Variant::new(checkpoint.clone(), None)).unwrap();
    assert_eq!(entries(&folder, "cwasm").len(), 1);
}

#[test]
fn a_plugin_that_is_replaced_before_its_first_call_is_not_run() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { cache: Some(home.path().join("compiled")), ..Options::default() };
    let path = home.path().join("family.wasm");
    std::fs::copy(built_in("family-llama"), &path).unwrap();
    Catalog::inspect(&path, &options).unwrap();
    entries(&home.path().join("compiled"), "cwasm").iter().for_each(|code| std::fs::remove_file(code).unwrap());
    let known = Catalog::single(&path, &options).unwrap();
    std::fs::copy(built_in("family-qwen"), &path).unwrap();
    let checkpoint = checkpoint();
    let mut variant = Variant::new(checkpoint.clone(), None);
    let fault = known.family("llama").unwrap().build(&checkpoint, &mut variant).unwrap_err();
    assert!(fault.message.ends_with("is not the file any more that it was"), "{}", fault.message);
}

#[test]
fn permissions_are_the_imports() {
    let info = Catalog::inspect(&built_in("technique-depth-pruning"), &options()).unwrap();
    assert!(info.permissions.contains(&"calibration".to_owned()), "{:?}", info.permissions);
    assert!(!info.permissions.contains(&"common".to_owned()), "{:?}", info.permissions);
    assert_eq!(info.digest.len(), 64);
    let json = serde_json::to_value(&info).unwrap();
    for key in ["id", "kind", "version", "stage", "permissions", "digest", "path", "summary", "reference"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["stage"], "architecture");
}

#[test]
fn installed_plugins_are_locked_by_digest() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("plugins");
    let installed = install(&folder, &built_in("strategy-random"), &options()).unwrap();
    assert_eq!(installed.path, folder.join("strategy-random.wasm"));
    let load = || Catalog::load(std::slice::from_ref(&folder), &options()).unwrap();
    assert_eq!(load().plugins().count(), 1);
    let lock = std::fs::read_to_string(folder.join(LOCK)).unwrap();
    assert!(lock.contains(&installed.digest) && lock.contains("kind = \"strategy\""), "{lock}");

    std::fs::copy(built_in("strategy-grid"), &installed.path).unwrap();
    let refused = load().refused()[0].to_string();
    assert!(refused.contains("is not the plugin that was installed: its SHA-256 is "), "{refused}");

    std::fs::copy(built_in("strategy-grid"), folder.join("stray.wasm")).unwrap();
    let refused: Vec<String> = load().refused().iter().map(ToString::to_string).collect();
    let stray = refused.iter().find(|r| r.contains("stray")).unwrap().replace(&*folder.to_string_lossy(), "DIR");
    assert_eq!(stray, "`DIR/stray.wasm` is not in plugins.lock: install it with `aehost plugins install FILE`");

    assert_eq!(remove(&folder, "random").unwrap()[0].id, "random");
    assert!(!installed.path.exists());
    assert_eq!(remove(&folder, "random").unwrap_err().to_string(), "no plugin `random` is installed; installed: none");
}

#[test]
fn the_family_builds() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let base = model();
    assert!(base.graph().all_nodes().count() > 20);
    let error = catalog.family_for("mamba").map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("no family builds architecture `mamba`; known: ") && error.contains(", llama, "),
        "{error}"
    );
}

#[test]
fn built_ins_keep_the_contracts_promises() {
    let base = model();
    // Forty techniques are more than half a second's work.
    let options = Options { limits: Limits::default(), ..options() };
    let catalog = Catalog::load(&[built_ins()], &options).unwrap();
    for plugin in catalog.plugins() {
        let done = conformance(&plugin.path, &options, Some(&base)).unwrap();
        for check in &done.checks {
            println!(
                "{} {}: {} {} {}",
                plugin.kind,
                plugin.id,
                if check.kept { "ok" } else { "FAILED" },
                check.promise,
                check.detail
            );
        }
        assert!(done.passed(), "{}", plugin.id);
    }
}

#[test]
fn conformance_finds_a_strategy_that_leaves_the_search_space() {
    let done = conformance(&support::fault("strategy-bad-domain"), &options(), None).unwrap();
    let failed: Vec<String> =
        done.checks.iter().filter(|c| !c.kept).map(|c| format!("{}: {}", c.promise, c.detail)).collect();
    // It always proposes the same nonsense.
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[1].starts_with("proposes nothing twice"), "{failed:?}");
    assert!(
        failed[0].starts_with("stays inside the search space: trial 1: technique `drop`: layers = nonsense is outside"),
        "{failed:?}"
    );
}

#[test]
fn a_plugin_may_be_given_as_a_file() {
    assert_eq!(single(&built_in("evaluator-perplexity")).plugins().next().unwrap().id, "perplexity");
}

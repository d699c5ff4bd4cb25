//! What is not loaded, with the words that the user reads.

use crate::support::{built_in, fault, options};
use aehost_plugins::{Catalog, Options};
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn component(&self, name: &str, text: &str) -> PathBuf {
        self.file(name, &wat::parse_str(text).unwrap())
    }
}

fn refusal(path: &Path, options: &Options) -> String {
    let error = Catalog::inspect(path, options).unwrap_err().to_string();
    error.replace(&*path.parent().unwrap().to_string_lossy(), "DIR")
}

#[test]
fn garbage_is_no_component() {
    let folder = Folder::new();
    let text = folder.file("notes.wasm", b"dear diary");
    assert_eq!(refusal(&text, &options()), "`DIR/notes.wasm` is no WebAssembly at all, not a WebAssembly component");
    let empty = folder.file("empty.wasm", b"");
    assert_eq!(refusal(&empty, &options()), "`DIR/empty.wasm` is no WebAssembly at all, not a WebAssembly component");
    let module = folder.component("module.wasm", "(module)");
    assert_eq!(
        refusal(&module, &options()),
        "`DIR/module.wasm` is a core WebAssembly module, not a WebAssembly component: build it with the SDK, which makes \
         a component of it"
    );
}

#[test]
fn a_component_that_exports_no_plugin_is_told_what_is_missing() {
    let folder = Folder::new();
    let message =
        "is a component, but no plugin: it exports none of aehost:plugin/family, technique, evaluator, strategy";
    let empty = folder.component("tool.wasm", "(component)");
    assert_eq!(refusal(&empty, &options()), format!("`DIR/tool.wasm` {message}"));
    assert_eq!(refusal(&fault("not-a-plugin"), &options()), format!("`DIR/not-a-plugin.wasm` {message}"));
    let both = folder.component(
        "both.wasm",
        r#"(component
            (instance $i)
            (export "aehost:plugin/technique@0.1.0" (instance $i))
            (export "aehost:plugin/strategy@0.1.0" (instance $i)))"#,
    );
    assert_eq!(
        refusal(&both, &options()),
        "`DIR/both.wasm` is a component, but no plugin: it exports technique and strategy; a plugin exports one of them"
    );
}

#[test]
fn another_contract_version_says_who_must_upgrade() {
    assert_eq!(
        refusal(&fault("technique-future"), &options()),
        "plugin `technique-future` needs aehost:plugin@0.9.0, this host offers 0.1: upgrade aehost"
    );
    let folder = Folder::new();
    let old = folder
        .component("old.wasm", r#"(component (instance $i) (export "aehost:plugin/technique@0.0.3" (instance $i)))"#);
    assert_eq!(
        refusal(&old, &options()),
        "plugin `old` needs aehost:plugin@0.0.3, this host offers 0.1: rebuild the plugin with this aehost's SDK"
    );
}

#[test]
fn imports_that_were_not_granted_are_named() {
    assert_eq!(
        refusal(&fault("technique-unknown-import"), &options()),
        "plugin `technique-unknown-import` imports `aehost:plugin/telepathy@0.1.0`, which was not granted: this host does \
         not offer it; upgrade aehost"
    );
    let folder = Folder::new();
    let importing = |name: &str, import: &str| {
        let text = format!(
            r#"(component
                (import "{import}" (instance))
                (instance $i)
                (export "aehost:plugin/strategy@0.1.0" (instance $i)))"#
        );
        folder.component(name, &text)
    };
    let wasi = importing("curious.wasm", "wasi:filesystem/preopens@0.2.6");
    assert_eq!(
        refusal(&wasi, &options()),
        "plugin `curious` imports `wasi:filesystem/preopens@0.2.6`, which was not granted: `aehost plugins install --grant \
         wasi DIR/curious.wasm` grants it"
    );
    let granted = Options { granted: vec!["wasi".into()], ..options() };
    let message = refusal(&wasi, &granted);
    assert!(message.starts_with("plugin `curious` does not fit the contract: "), "{message}");
    let greedy = importing("greedy.wasm", "aehost:plugin/weights@0.1.0");
    assert_eq!(
        refusal(&greedy, &options()),
        "plugin `greedy` imports `aehost:plugin/weights@0.1.0`, which was not granted: no strategy may use `weights`"
    );
    let stranger = importing("stranger.wasm", "other:thing/disk@1.0.0");
    assert_eq!(
        refusal(&stranger, &options()),
        "plugin `stranger` imports `other:thing/disk@1.0.0`, which was not granted: this host does not have it"
    );
}

#[test]
fn a_damaged_component_never_panics() {
    let whole = std::fs::read(built_in("strategy-random")).unwrap();
    let folder = Folder::new();
    for cut in [9, 40, 1000, whole.len() / 2, whole.len() - 1] {
        let path = folder.file("cut.wasm", &whole[..cut]);
        let message = refusal(&path, &Options { cache: None, ..options() });
        assert!(
            message.contains("`DIR/cut.wasm` is a component") || message.contains("plugin `cut`"),
            "{cut}: {message}"
        );
    }
}

#[test]
fn one_bad_file_does_not_stop_the_others_and_is_named_when_something_is_missing() {
    let folder = Folder::new();
    folder.file("broken.wasm", b"oops");
    std::fs::copy(built_in("strategy-random"), folder.0.path().join("a.wasm")).unwrap();
    let catalog = Catalog::load(&[folder.0.path().to_owned()], &options()).unwrap();
    assert_eq!(catalog.plugins().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["random"]);
    let error = catalog.strategy("annealing").map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error.replace(&*folder.0.path().to_string_lossy(), "DIR"),
        "there is no strategy `annealing`; there are: random\n  not loaded: `DIR/broken.wasm` is no WebAssembly at all, not \
         a WebAssembly component"
    );
    let error = catalog.family_for("mamba").map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "no family builds architecture `mamba`; known: none, as no family plugin is loaded");
}

#[test]
fn the_same_id_twice_is_told_with_both_paths() {
    let folder = Folder::new();
    let mut bytes = std::fs::read(built_in("strategy-random")).unwrap();
    folder.file("a.wasm", &bytes);
    folder.file("b.wasm", &bytes);
    // An empty custom section: other content, the same plugin.
    bytes.extend([0, 2, 1, b'x']);
    folder.file("c.wasm", &bytes);
    let catalog = Catalog::load(&[folder.0.path().to_owned()], &options()).unwrap();
    assert_eq!(catalog.plugins().count(), 1);
    let refused: Vec<String> = catalog.refused().iter().map(ToString::to_string).collect();
    let refused = refused.join("\n").replace(&*folder.0.path().to_string_lossy(), "DIR");
    assert_eq!(refused, "strategy `random` is in `DIR/a.wasm` and in `DIR/c.wasm`: remove one of them");
}

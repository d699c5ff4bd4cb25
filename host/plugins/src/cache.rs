//! Compiled components on disk, and what they said of themselves, so that a plugin is compiled and asked once. An entry is
//! named by the component's digest and by everything of the runtime that it depends on. Machine code is only ever loaded
//! from a folder that nobody else can write to, and only when its own digest stands beside it.

use crate::PluginError;
use crate::install::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// What a description is an answer to: another contract may ask for more.
const CONTRACT: [&str; 5] = [
    env!("CARGO_PKG_VERSION"),
    include_str!("../../../wit/common.wit"),
    include_str!("../../../wit/model.wit"),
    include_str!("../../../wit/tensor.wit"),
    include_str!("../../../wit/worlds.wit"),
];

/// A folder of compiled components and their descriptions.
pub(crate) struct Cache {
    folder: PathBuf,
    /// Of the runtime's version, settings and machine, and of the contract.
    engine: u64,
}

impl Cache {
    /// Opens or makes the folder; none when it cannot be made safe, in which case plugins are compiled each time.
    pub fn open(folder: &Path, engine: &Engine) -> Option<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
        let meta = fs::symlink_metadata(folder).ok()?;
        // SAFETY: geteuid has no preconditions and cannot fail.
        let me = unsafe { libc::geteuid() };
        if !meta.is_dir() || meta.uid() != me {
            return None;
        }
        if meta.permissions().mode() & 0o022 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).ok()?;
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        CONTRACT.hash(&mut hasher);
        Some(Self { folder: folder.to_owned(), engine: hasher.finish() })
    }

    fn entry(&self, component: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{component}-{:016x}.{kind}", self.engine))
    }

    /// An entry, if it was kept and is intact.
    fn read(&self, component: &str, kind: &str) -> Option<Vec<u8>> {
        let path = self.entry(component, kind);
        let (bytes, kept) = (fs::read(&path).ok()?, fs::read_to_string(beside(&path)).ok()?);
        (digest(&bytes) == kept.trim()).then_some(bytes)
    }

    /// Keeps an entry. That it cannot is no error: it is made again next time.
    fn keep(&self, component: &str, kind: &str, bytes: &[u8]) {
        let path = self.entry(component, kind);
        let _ = write_whole(&beside(&path), digest(bytes).as_bytes()).and_then(|()| write_whole(&path, bytes));
    }

    /// The compiled component.
    pub fn component(&self, engine: &Engine, component: &str) -> Option<Component> {
        let code = self.read(component, "cwasm")?;
        // SAFETY: the bytes were made by this engine's `serialize` and written by `keep_component`: the folder belongs to
        // this user and nobody else may write to it (`open`), and the digest rules out a damaged or half-written file. The
        // checked bytes themselves are loaded, so that the file cannot change in between.
        unsafe { Component::deserialize(engine, &code) }.ok()
    }

    /// Keeps a compiled component.
    pub fn keep_component(&self, compiled: &Component, component: &str) {
        if let Ok(code) = compiled.serialize() {
            self.keep(component, "cwasm", &code);
        }
    }

    /// What a component said of itself.
    pub fn description<T: DeserializeOwned>(&self, component: &str) -> Option<T> {
        serde_json::from_slice(&self.read(component, "json")?).ok()
    }

    /// Keeps what a component said of itself.
    pub fn keep_description(&self, description: &impl Serialize, component: &str) {
        if let Ok(text) = serde_json::to_vec(description) {
            self.keep(component, "json", &text);
        }
    }
}

/// Where an entry's digest stands.
fn beside(entry: &Path) -> PathBuf {
    let mut name = entry.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

/// Writes a file that is either whole or not there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}-{}.partial", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let partial = PathBuf::from(partial);
    fs::write(&partial, bytes).map_err(PluginError::io("writing", &partial))?;
    fs::rename(&partial, path).map_err(PluginError::io("writing", path))
}

//! Compiled components on disk, so that a plugin is compiled once. An entry is named by the component's digest and by
//! everything of the runtime that its code depends on. Machine code is only ever loaded from a folder that nobody else
//! can write to, and only when its own digest stands beside it.

use crate::PluginError;
use crate::install::digest;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of compiled components.
pub(crate) struct Cache {
    folder: PathBuf,
    /// Of the runtime's version, settings and machine.
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
        Some(Self { folder: folder.to_owned(), engine: hasher.finish() })
    }

    fn entry(&self, component: &str) -> PathBuf {
        self.folder.join(format!("{component}-{:016x}.cwasm", self.engine))
    }

    /// The compiled component, if it was kept and is intact.
    pub fn load(&self, engine: &Engine, component: &str) -> Option<Component> {
        let path = self.entry(component);
        let (code, kept) = (fs::read(&path).ok()?, fs::read_to_string(path.with_extension("sha256")).ok()?);
        if digest(&code) != kept.trim() {
            return None;
        }
        // SAFETY: the bytes were made by this engine's `serialize` and written by `store`: the folder belongs to this
        // user and nobody else may write to it (`open`), and the digest rules out a damaged or half-written file. The
        // checked bytes themselves are loaded, so that the file cannot change in between.
        unsafe { Component::deserialize(engine, &code) }.ok()
    }

    /// Keeps a compiled component. That it cannot is no error: it is compiled again next time.
    pub fn store(&self, compiled: &Component, component: &str) {
        let path = self.entry(component);
        let Ok(code) = compiled.serialize() else { return };
        let _ = write_whole(&path.with_extension("sha256"), digest(&code).as_bytes())
            .and_then(|()| write_whole(&path, &code));
    }
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

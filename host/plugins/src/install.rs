//! Installed plugins: a folder of components with `plugins.lock`, which says of each who it is, its SHA-256 and what the
//! user granted it. Nothing in the folder is loaded that the lock does not list with the same digest.

use crate::cache::write_whole;
use crate::{Catalog, Options, PluginError, PluginInfo};
use aehost_common::PluginKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The lock file's name.
pub const LOCK: &str = "plugins.lock";

/// SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// One installed plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its id.
    pub id: String,
    /// What it is.
    pub kind: PluginKind,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// The component, beside the lock file.
    pub file: String,
    /// The interfaces that the user saw and granted.
    pub granted: Vec<String>,
}

/// The plugins of one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// By kind and id.
    #[serde(default)]
    pub plugin: Vec<Locked>,
}

impl Lock {
    /// The lock of a folder; none where there is no lock file.
    pub fn read(folder: &Path) -> Result<Option<Self>, PluginError> {
        let path = folder.join(LOCK);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(PluginError::io("reading", &path)(error)),
        };
        toml::from_str(&text).map(Some).map_err(|error| PluginError::Lock { path, why: error.message().to_owned() })
    }

    /// What the lock says of a component of its folder, after its digest was compared.
    pub(crate) fn verify(&self, path: &Path, found: &str) -> Result<&Locked, PluginError> {
        let file = path.file_name().map(|f| f.to_string_lossy());
        let locked = self
            .plugin
            .iter()
            .find(|p| file.as_ref().is_some_and(|f| p.file == *f))
            .ok_or_else(|| PluginError::NotInstalled { path: path.to_owned() })?;
        if locked.digest != found {
            let locked = locked.digest.clone();
            return Err(PluginError::Digest { path: path.to_owned(), found: found.to_owned(), locked });
        }
        Ok(locked)
    }

    fn write(&self, folder: &Path) -> Result<(), PluginError> {
        let path = folder.join(LOCK);
        let text = toml::to_string(self).map_err(|e| PluginError::Lock { path: path.clone(), why: e.to_string() })?;
        write_whole(&path, text.as_bytes())
    }
}

/// Where plugins are installed: `$AEHOST_HOME/plugins`, else `plugins` under `aehost` in the user's data folder.
pub fn installed_folder() -> PathBuf {
    home().join("plugins")
}

/// Where compiled plugins are kept, under the same folder.
pub fn cache_folder() -> PathBuf {
    home().join("compiled")
}

fn home() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("AEHOST_HOME")
        .or_else(|| set("XDG_DATA_HOME").map(|d| d.join("aehost")))
        .or_else(|| set("HOME").map(|h| h.join(".local/share/aehost")))
        .unwrap_or_else(|| PathBuf::from(".aehost"))
}

/// Copies a component into `folder` and locks its digest together with what was granted. The same plugin of another
/// version or content is replaced. The caller has shown [`Catalog::inspect`]'s permissions and asked.
pub fn install(folder: &Path, component: &Path, options: &Options) -> Result<PluginInfo, PluginError> {
    let info = Catalog::inspect(component, options)?;
    let bytes = fs::read(component).map_err(PluginError::io("reading", component))?;
    if digest(&bytes) != info.digest {
        let found = digest(&bytes);
        return Err(PluginError::Digest { path: component.to_owned(), found, locked: info.digest });
    }
    fs::create_dir_all(folder).map_err(PluginError::io("making", folder))?;
    let mut lock = Lock::read(folder)?.unwrap_or_default();
    let file = format!("{}-{}.wasm", info.kind, info.id);
    let path = folder.join(&file);
    write_whole(&path, &bytes)?;
    lock.plugin.retain(|p| (p.kind, &p.id) != (info.kind, &info.id));
    lock.plugin.push(Locked {
        id: info.id.clone(),
        kind: info.kind,
        version: info.version.clone(),
        digest: info.digest.clone(),
        file,
        granted: info.permissions.clone(),
    });
    lock.plugin.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    lock.write(folder)?;
    Ok(PluginInfo { path, ..info })
}

/// Removes an installed plugin by its id; all kinds are searched. Returns what was removed.
pub fn remove(folder: &Path, id: &str) -> Result<Vec<Locked>, PluginError> {
    let mut lock = Lock::read(folder)?.unwrap_or_default();
    let (gone, kept): (Vec<Locked>, Vec<Locked>) = lock.plugin.into_iter().partition(|p| p.id == id);
    if gone.is_empty() {
        let known: Vec<&str> = kept.iter().map(|p| p.id.as_str()).collect();
        return Err(PluginError::NotThere {
            id: id.to_owned(),
            known: if known.is_empty() { "none".into() } else { known.join(", ") },
        });
    }
    lock.plugin = kept;
    lock.write(folder)?;
    for plugin in &gone {
        let path = folder.join(&plugin.file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(PluginError::io("removing", &path)(error));
            }
            _ => {}
        }
    }
    Ok(gone)
}

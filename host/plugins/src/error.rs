//! Why a plugin is not loaded, installed or found. Each message names the file or the plugin and says what to do.

use aehost_common::{Code, Fault};
use std::path::PathBuf;

/// An error of the catalog or of an installation.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A file or folder that cannot be read or written.
    #[error("{what} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file that is no component.
    #[error("`{}` is {found}, not a WebAssembly component{advice}", path.display())]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
        /// What to do, with its separator.
        advice: &'static str,
    },
    /// A component that is no plugin of aehost.
    #[error("`{}` is a component, but no plugin: {why}", path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What is missing, or too much.
        why: String,
    },
    /// A plugin made for another contract.
    #[error("plugin `{plugin}` needs aehost:plugin@{needed}, this host offers {offered}: {advice}")]
    Version {
        /// The file's name.
        plugin: String,
        /// What it was built against.
        needed: String,
        /// What there is.
        offered: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// An import that was not granted.
    #[error("plugin `{plugin}` imports `{import}`, which was not granted: {advice}")]
    Ungranted {
        /// The file's name.
        plugin: String,
        /// The import.
        import: String,
        /// What to do.
        advice: String,
    },
    /// An import or export that does not fit the contract.
    #[error("plugin `{plugin}` does not fit the contract: {why}")]
    Contract {
        /// The file's name.
        plugin: String,
        /// What does not fit.
        why: String,
    },
    /// A plugin that fails to say who it is.
    #[error("{}", .0.full())]
    Describe(Fault),
    /// Two different plugins with one id.
    #[error("{kind} `{id}` is in `{}` and in `{}`: remove one of them", first.display(), second.display())]
    Duplicate {
        /// Their kind.
        kind: aehost_common::PluginKind,
        /// Their id.
        id: String,
        /// The one that is used.
        first: PathBuf,
        /// The one that is not.
        second: PathBuf,
    },
    /// An id that no plugin has.
    #[error("there is no {kind} `{id}`; there are: {known}{refused}")]
    Unknown {
        /// What was looked for.
        kind: aehost_common::PluginKind,
        /// Under which id.
        id: String,
        /// What there is instead.
        known: String,
        /// What could not be loaded, with its separator.
        refused: String,
    },
    /// An architecture that no family builds.
    #[error("no family builds architecture `{architecture}`; known: {known}")]
    Architecture {
        /// As the checkpoint names it.
        architecture: String,
        /// What the loaded families build.
        known: String,
    },
    /// A plugin that is not the one that was installed.
    #[error(
        "`{}` is not the plugin that was installed: its SHA-256 is {found}, plugins.lock says {locked}; install it again",
        path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest it should have.
        locked: String,
    },
    /// A component in the folder of installed plugins that was not installed.
    #[error("`{}` is not in plugins.lock: install it with `aehost plugins install FILE`", path.display())]
    NotInstalled {
        /// The file.
        path: PathBuf,
    },
    /// An id that is not installed.
    #[error("no plugin `{id}` is installed; installed: {known}")]
    NotThere {
        /// The id.
        id: String,
        /// What there is instead.
        known: String,
    },
    /// A lock file that cannot be understood.
    #[error("`{}` cannot be read: {why}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
    /// The runtime itself.
    #[error("the WebAssembly runtime cannot start: {0}")]
    Runtime(String),
}

impl PluginError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| PluginError::Io { what, path, source }
    }
}

impl From<PluginError> for Fault {
    fn from(error: PluginError) -> Self {
        let code = match &error {
            PluginError::Describe(fault) => return fault.clone(),
            PluginError::Ungranted { .. } => Code::Denied,
            PluginError::Version { .. } => Code::Unsupported,
            PluginError::Runtime(_) => Code::Internal,
            _ => Code::InvalidInput,
        };
        Fault::new(code, error.to_string())
    }
}

//! Where things lie when no flag says otherwise: beside the installed plugins, in `$AEHOST_HOME` or the user's data folder.

use aehost_study::{Store, StoreError};
use std::path::{Path, PathBuf};

/// `--store`, for every command that reads or writes studies.
#[derive(Debug, Clone, clap::Args)]
pub struct StoreArguments {
    /// Database of studies [default: aehost.db in $AEHOST_HOME or the data folder]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
}

impl StoreArguments {
    /// Opens the store.
    pub fn open(&self) -> Result<Store, StoreError> {
        let default = || aehost_plugins::installed_folder().with_file_name("aehost.db");
        Store::open(&self.store.clone().unwrap_or_else(default))
    }

    /// The flag again, for commands that are suggested to the user.
    pub fn flag(&self) -> String {
        self.store.as_ref().map_or_else(String::new, |store| format!(" --store {}", store.display()))
    }
}

/// Where studies at work keep the weights that their trials share.
pub fn variants() -> PathBuf {
    aehost_plugins::installed_folder().with_file_name("variants")
}

/// Where the results of training are kept.
pub fn trained() -> PathBuf {
    aehost_plugins::installed_folder().with_file_name("trained")
}

/// Where the report of a study is written, `html` or `svg`, beside its store.
pub fn report(store: &Path, study: &str, extension: &str) -> PathBuf {
    store.with_extension("reports").join(format!("{study}.{extension}"))
}

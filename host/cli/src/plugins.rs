//! Which plugins a command uses: the folders of `--plugins`, else the installed ones. Says what to do where a folder holds
//! sources that were not built, or nothing at all.

use crate::ending::usage;
use crate::output::Output;
use aehost_plugins::{Catalog, Options, cache_folder, installed_folder};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Folders below a given one that are searched for components and sources.
const DEPTH: usize = 4;

/// `--plugins` and `--grant`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PluginArguments {
    /// Folder of plugins (*.wasm), or one of them; repeatable [default: the installed ones]
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
    /// Grants plugins of --plugins an import beyond the contract; only `wasi` exists (no files, no network)
    #[arg(long, value_name = "NAME")]
    pub grant: Vec<String>,
}

impl PluginArguments {
    /// How plugins are loaded.
    pub fn options(&self) -> Options {
        Options { granted: self.grant.clone(), cache: Some(cache_folder()), ..Options::default() }
    }
}

/// Loads what is in `folders`, and warns of what cannot be loaded.
pub fn load(folders: &[PathBuf], options: &Options, output: &Output) -> Result<Catalog> {
    let catalog = Catalog::load(folders, options)?;
    for error in catalog.refused() {
        output.warn(&format!("not loaded: {error}"));
    }
    Ok(catalog)
}

/// The folders of plugins: those given, else the installed ones. Each holds at least one component.
pub fn folders(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if given.is_empty() {
        let installed = installed_folder();
        if !holds(&installed, DEPTH, &is_component) {
            return Err(usage(format!(
                "no plugins are installed in {}: give a folder with --plugins DIR, or install some with \
                 `aehost plugins install FILE`",
                installed.display()
            )));
        }
        return Ok(vec![installed]);
    }
    given.iter().map(|folder| check(folder)).collect()
}

fn check(folder: &Path) -> Result<PathBuf> {
    let shown = folder.display();
    if !folder.exists() {
        return Err(usage(format!("the plugin folder {shown} does not exist: check --plugins")));
    }
    if !holds(folder, DEPTH, &is_component) {
        let source = |path: &Path| path.file_name().is_some_and(|name| name == "Cargo.toml");
        return Err(usage(if holds(folder, DEPTH, &source) {
            format!("{shown} holds sources of plugins, but no built ones: run `cargo xtask plugins`, then this again")
        } else {
            format!("{shown} holds no plugin: a plugin is a WebAssembly component, a file *.wasm")
        }));
    }
    Ok(std::path::absolute(folder)?)
}

fn is_component(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
}

/// Whether a file at or below `path` is `wanted`.
fn holds(path: &Path, depth: usize, wanted: &dyn Fn(&Path) -> bool) -> bool {
    if path.is_file() {
        return wanted(path);
    }
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    depth > 0 && entries.filter_map(Result::ok).any(|entry| holds(&entry.path(), depth - 1, wanted))
}

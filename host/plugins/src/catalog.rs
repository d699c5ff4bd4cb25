//! The set of plugins that is loaded: found in folders, checked, compiled once, and once asked who they are. A file that
//! cannot be loaded does not stop the others: it is kept with its reason, and named when something is looked for in vain.

use crate::bindings::evaluator::EvaluatorPluginPre;
use crate::bindings::family::FamilyPluginPre;
use crate::bindings::strategy::StrategyPluginPre;
use crate::bindings::technique::TechniquePluginPre;
use crate::cache::Cache;
use crate::evaluator::Evaluator;
use crate::family::Family;
use crate::install::{Lock, digest};
use crate::limits::Limits;
use crate::plugin::{Code, Event, Name, Observer, Plugin, PluginInfo, Runtime};
use crate::strategy::LoadedStrategy;
use crate::technique::Technique;
use crate::{PluginError, binary, convert};
use aehost_common::{EvaluatorDescription, FamilyDescription, PluginKind, StrategyDescription, TechniqueDescription};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How a catalog is loaded.
#[derive(Clone, Default)]
pub struct Options {
    /// Grants beyond the contract's own interfaces: `wasi`.
    pub granted: Vec<String>,
    /// What each call may use.
    pub limits: Limits,
    /// Where compiled plugins are kept; nowhere when none is given.
    pub cache: Option<PathBuf>,
    /// Hears what plugins say.
    pub observer: Option<Observer>,
}

/// A plugin that was loaded, by kind.
#[derive(Clone)]
enum Entry {
    Technique(Technique),
    Evaluator(Evaluator),
    Strategy(LoadedStrategy),
    Family(Family),
}

/// The loaded plugins.
pub struct Catalog {
    entries: Vec<(PluginInfo, Entry)>,
    refused: Vec<PluginError>,
}

/// All `*.wasm` under a folder, in order; a path that is a file is itself.
fn components(root: &Path) -> Result<Vec<PathBuf>, PluginError> {
    if root.is_file() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(PluginError::io("reading", &folder))? {
            let entry = entry.map_err(PluginError::io("reading", &folder))?;
            let (path, ty) = (entry.path(), entry.file_type().map_err(PluginError::io("reading", &folder))?);
            if ty.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "wasm") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

struct Loader<'a> {
    options: &'a Options,
    runtime: Arc<Runtime>,
    cache: Option<Arc<Cache>>,
}

impl<'a> Loader<'a> {
    fn new(options: &'a Options) -> Result<Self, PluginError> {
        let runtime = Arc::new(Runtime::start()?);
        let cache = options.cache.as_deref().and_then(|folder| Cache::open(folder, &runtime.engine)).map(Arc::new);
        Ok(Self { options, runtime, cache })
    }

    /// All of them, in order. wasmtime compiles the functions of a component side by side, but much of its work is done by one
    /// thread: several components at once keep the processor busy.
    fn load_all(&self, paths: &[PathBuf], lock: Option<&Lock>) -> Vec<Result<(PluginInfo, Entry), PluginError>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mine = std::iter::from_fn(|| {
                let index = next.fetch_add(1, Ordering::Relaxed);
                Some((index, paths.get(index)?))
            });
            mine.map(|(index, path)| (index, self.load(path, lock))).collect::<Vec<_>>()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(paths.len());
        let mut loaded: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        loaded.sort_by_key(|(index, _)| *index);
        loaded.into_iter().map(|(_, loaded)| loaded).collect()
    }

    fn load(&self, path: &Path, lock: Option<&Lock>) -> Result<(PluginInfo, Entry), PluginError> {
        let bytes = fs::read(path).map_err(PluginError::io("reading", path))?;
        let digest = digest(&bytes);
        let mut granted = self.options.granted.clone();
        if let Some(lock) = lock {
            let locked = lock.verify(path, &digest)?;
            if locked.granted.iter().any(|g| g.starts_with("wasi:")) {
                granted.push("wasi".into());
            }
        }
        let outline = binary::outline(path, &bytes, &granted)?;
        let code = Code {
            runtime: self.runtime.clone(),
            cache: self.cache.clone(),
            path: path.to_owned(),
            digest: digest.clone(),
            ready: OnceLock::new(),
        };
        let plugin = Plugin {
            name: Arc::new(Name { kind: outline.kind, id: binary::stem(path), version: String::new() }),
            code: Arc::new(code),
            limits: self.options.limits,
            observer: self.options.observer.clone().unwrap_or_else(|| Arc::new(|_: &Name, _: Event| {})),
        };
        let description = match self.cache.as_ref().and_then(|cache| cache.description(&digest)) {
            Some(known) => known,
            None => {
                let told = describe(&plugin)?;
                self.cache.iter().for_each(|cache| cache.keep_description(&told, &digest));
                told
            }
        };
        Ok(loaded(plugin, description, outline.permissions))
    }
}

/// What a plugin says of itself, by kind.
#[derive(Serialize, Deserialize)]
enum Description {
    Technique(TechniqueDescription),
    Evaluator(EvaluatorDescription),
    Strategy(StrategyDescription),
    Family(FamilyDescription),
}

/// Compiles a plugin, links it, and asks it who it is.
fn describe(plugin: &Plugin) -> Result<Description, PluginError> {
    let contract =
        |error: wasmtime::Error| PluginError::Contract { plugin: plugin.name.id.clone(), why: format!("{error:#}") };
    let code = plugin.code.get().map_err(contract)?;
    let told = match plugin.name.kind {
        PluginKind::Technique => {
            TechniquePluginPre::new(code).map_err(contract)?;
            Technique::ask(plugin).map(Description::Technique)
        }
        PluginKind::Evaluator => {
            EvaluatorPluginPre::new(code).map_err(contract)?;
            Evaluator::ask(plugin).map(Description::Evaluator)
        }
        PluginKind::Strategy => {
            StrategyPluginPre::new(code).map_err(contract)?;
            LoadedStrategy::ask(plugin).map(Description::Strategy)
        }
        PluginKind::Family => {
            FamilyPluginPre::new(code).map_err(contract)?;
            Family::ask(plugin).map(Description::Family)
        }
    };
    told.map_err(PluginError::Describe)
}

/// A plugin that has said who it is.
fn loaded(plugin: Plugin, description: Description, permissions: Vec<String>) -> (PluginInfo, Entry) {
    let identity = match &description {
        Description::Technique(d) => &d.identity,
        Description::Evaluator(d) => &d.identity,
        Description::Strategy(d) => &d.identity,
        Description::Family(d) => &d.identity,
    };
    let plugin = plugin.named(identity);
    let mut info = PluginInfo {
        id: identity.id.clone(),
        kind: plugin.name.kind,
        version: identity.version.clone(),
        stage: None,
        permissions,
        digest: plugin.code.digest.clone(),
        path: plugin.code.path.clone(),
        summary: identity.summary.clone(),
        reference: identity.reference.clone(),
        parameters: None,
        metrics: Vec::new(),
        architectures: Vec::new(),
    };
    let entry = match description {
        Description::Technique(description) => {
            info.stage = Some(description.stage);
            Entry::Technique(Technique::new(plugin, description))
        }
        Description::Evaluator(description) => {
            info.parameters = Some(description.parameters.clone());
            info.metrics = description.metrics.clone();
            Entry::Evaluator(Evaluator::new(plugin, description))
        }
        Description::Strategy(description) => {
            info.parameters = Some(description.parameters.clone());
            Entry::Strategy(LoadedStrategy::new(plugin, description))
        }
        Description::Family(description) => {
            info.architectures = description.architectures.clone();
            Entry::Family(Family::new(plugin, description))
        }
    };
    (info, entry)
}

impl Catalog {
    /// Loads every `*.wasm` under the folders; a path may also be a single component. A folder with a `plugins.lock`
    /// gives only what the lock lists. What cannot be loaded is in [`Catalog::refused`].
    ///
    /// # Errors
    /// A folder that cannot be read, a damaged lock file, or a runtime that cannot start.
    pub fn load(folders: &[PathBuf], options: &Options) -> Result<Self, PluginError> {
        let loader = Loader::new(options)?;
        let mut catalog = Self { entries: Vec::new(), refused: Vec::new() };
        for folder in folders {
            let lock = Lock::read(folder)?;
            for loaded in loader.load_all(&components(folder)?, lock.as_ref()) {
                match loaded {
                    Ok((info, entry)) => catalog.add(info, entry),
                    Err(error) => catalog.refused.push(error),
                }
            }
        }
        catalog.entries.sort_by(|(a, _), (b, _)| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        Ok(catalog)
    }

    /// Loads one component and says what it is, for `plugins inspect` and before an installation.
    pub fn inspect(component: &Path, options: &Options) -> Result<PluginInfo, PluginError> {
        Ok(Loader::new(options)?.load(component, None)?.0)
    }

    /// A catalog of one component.
    pub fn single(component: &Path, options: &Options) -> Result<Self, PluginError> {
        let entry = Loader::new(options)?.load(component, None)?;
        Ok(Self { entries: vec![entry], refused: Vec::new() })
    }

    fn add(&mut self, info: PluginInfo, entry: Entry) {
        match self.entries.iter().find(|(known, _)| (known.kind, &known.id) == (info.kind, &info.id)) {
            Some((known, _)) if known.digest == info.digest => {}
            Some((known, _)) => self.refused.push(PluginError::Duplicate {
                kind: info.kind,
                id: info.id,
                first: known.path.clone(),
                second: info.path,
            }),
            None => self.entries.push((info, entry)),
        }
    }

    /// What was loaded, by kind and id.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginInfo> {
        self.entries.iter().map(|(info, _)| info)
    }

    /// What could not be loaded, and why.
    pub fn refused(&self) -> &[PluginError] {
        &self.refused
    }

    fn find<T>(&self, kind: PluginKind, id: &str, pick: impl Fn(&Entry) -> Option<&T>) -> Result<&T, PluginError> {
        let of_kind = || self.entries.iter().filter(|(info, _)| info.kind == kind);
        let found = of_kind().find(|(info, _)| info.id == id).and_then(|(_, entry)| pick(entry));
        found.ok_or_else(|| {
            let known: Vec<&str> = of_kind().map(|(info, _)| info.id.as_str()).collect();
            let refused: String = self.refused.iter().map(|error| format!("\n  not loaded: {error}")).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            PluginError::Unknown { kind, id: id.to_owned(), known, refused }
        })
    }

    /// A technique by id.
    pub fn technique(&self, id: &str) -> Result<&Technique, PluginError> {
        self.find(PluginKind::Technique, id, |e| if let Entry::Technique(t) = e { Some(t) } else { None })
    }

    /// An evaluator by id.
    pub fn evaluator(&self, id: &str) -> Result<&Evaluator, PluginError> {
        self.find(PluginKind::Evaluator, id, |e| if let Entry::Evaluator(t) = e { Some(t) } else { None })
    }

    /// A strategy by id.
    pub fn strategy(&self, id: &str) -> Result<&LoadedStrategy, PluginError> {
        self.find(PluginKind::Strategy, id, |e| if let Entry::Strategy(t) = e { Some(t) } else { None })
    }

    /// A family by id.
    pub fn family(&self, id: &str) -> Result<&Family, PluginError> {
        self.find(PluginKind::Family, id, |e| if let Entry::Family(t) = e { Some(t) } else { None })
    }

    /// All techniques, by id.
    pub fn techniques(&self) -> impl Iterator<Item = &Technique> {
        self.entries.iter().filter_map(|(_, e)| if let Entry::Technique(t) = e { Some(t) } else { None })
    }

    /// All families, by id.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.entries.iter().filter_map(|(_, e)| if let Entry::Family(t) = e { Some(t) } else { None })
    }

    /// The family that builds an architecture, as GGUF or config.json names it.
    pub fn family_for(&self, architecture: &str) -> Result<&Family, PluginError> {
        let builds = |f: &&Family| f.description().architectures.iter().any(|a| a == architecture);
        self.families().find(builds).ok_or_else(|| {
            let known: Vec<&str> =
                self.families().flat_map(|f| f.description().architectures.iter().map(String::as_str)).collect();
            PluginError::Architecture {
                architecture: convert::text(architecture.to_owned()),
                known: if known.is_empty() { "none, as no family plugin is loaded".into() } else { known.join(", ") },
            }
        })
    }
}

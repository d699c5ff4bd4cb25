//! What a component's binary says before anything is compiled: which contract it was built against, which kind of plugin
//! it is, and what it imports. Its imports are its permissions.

use crate::PluginError;
use aehost_common::PluginKind;
use std::path::Path;
use wasmparser::{Encoding, Parser, Payload};

/// The contract's version; every 0.1.x is offered.
pub(crate) const CONTRACT: (u64, u64) = (0, 1);
const OFFERED: &str = "0.1";
const KINDS: [PluginKind; 4] = [PluginKind::Family, PluginKind::Technique, PluginKind::Evaluator, PluginKind::Strategy];
const PACKAGE: &str = "aehost:plugin/";

/// What was read from the binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outline {
    pub kind: PluginKind,
    /// Interfaces of the contract by their bare names (`calibration`), others in full (`wasi:cli/exit@0.2.6`); in order.
    pub permissions: Vec<String>,
}

/// The interfaces that a world of the contract lets a kind of plugin import.
fn world(kind: PluginKind) -> &'static [&'static str] {
    match kind {
        PluginKind::Technique => &["log", "tensor", "graph", "weights", "calibration", "training", "runtime-policy"],
        PluginKind::Evaluator => &["log", "session", "dataset"],
        PluginKind::Strategy => &["log", "feasibility"],
        PluginKind::Family => &["log", "graph", "checkpoint"],
    }
}

/// Top-level names of imports and exports.
fn names(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| e.message().to_owned())? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(|e| e.message().to_owned())?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(|e| e.message().to_owned())?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// `aehost:plugin/graph@0.1.0` to (`graph`, `0.1.0`).
fn of_contract(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The file's name without its ending, for messages about plugins that could not say who they are.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |s| s.to_string_lossy().into_owned())
}

/// Reads the outline. The contract's version is checked before everything else. Imports outside the contract are
/// refused unless one of `granted` covers them (`wasi` covers `wasi:cli/exit@0.2.6`).
pub(crate) fn outline(path: &Path, bytes: &[u8], granted: &[String]) -> Result<Outline, PluginError> {
    let not_a_component = |found, advice| PluginError::NotAComponent { path: path.to_owned(), found, advice };
    let first = Parser::new(0).parse_all(bytes).next();
    match first {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {}
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => {
            return Err(not_a_component(
                "a core WebAssembly module",
                ": build it with the SDK, which makes a component of it",
            ));
        }
        _ => return Err(not_a_component("no WebAssembly at all", "")),
    }
    let not_a_plugin = |why: String| PluginError::NotAPlugin { path: path.to_owned(), why };
    let (imports, exports) = names(bytes).map_err(|why| not_a_plugin(format!("its binary is damaged ({why})")))?;
    check_version(path, imports.iter().chain(&exports))?;
    let kinds: Vec<PluginKind> =
        [PluginKind::Family, PluginKind::Technique, PluginKind::Evaluator, PluginKind::Strategy]
            .into_iter()
            .filter(|kind| exports.iter().filter_map(|e| of_contract(e)).any(|(name, _)| name == kind.to_string()))
            .collect();
    let kind = match kinds.as_slice() {
        [kind] => *kind,
        [] => {
            return Err(not_a_plugin("it exports none of aehost:plugin/family, technique, evaluator, strategy".into()));
        }
        many => {
            let many: Vec<String> = many.iter().map(PluginKind::to_string).collect();
            return Err(not_a_plugin(format!("it exports {}; a plugin exports one of them", many.join(" and "))));
        }
    };
    let mut permissions = Vec::new();
    for import in &imports {
        match of_contract(import) {
            Some(("common", _)) => {}
            Some((name, _)) if world(kind).contains(&name) => permissions.push(name.to_owned()),
            Some((name, _)) => {
                return Err(PluginError::Ungranted {
                    plugin: stem(path),
                    import: import.clone(),
                    advice: match KINDS.iter().any(|k| world(*k).contains(&name)) {
                        true => format!("no {kind} may use `{name}`"),
                        false => "this host does not offer it; upgrade aehost".into(),
                    },
                });
            }
            None if granted.iter().any(|g| covers(g, import)) => permissions.push(import.clone()),
            None => {
                let advice = match import.split_once(':') {
                    Some(("wasi", _)) => format!("`aehost plugins install --grant wasi {}` grants it", path.display()),
                    _ => "this host does not have it".to_owned(),
                };
                return Err(PluginError::Ungranted { plugin: stem(path), import: import.clone(), advice });
            }
        }
    }
    permissions.sort();
    Ok(Outline { kind, permissions })
}

fn covers(grant: &str, import: &str) -> bool {
    grant == "wasi" && import.starts_with("wasi:")
}

fn check_version<'a>(path: &Path, names: impl Iterator<Item = &'a String>) -> Result<(), PluginError> {
    for (_, version) in names.filter_map(|n| of_contract(n)) {
        let found = numbers(version);
        if found == Some(CONTRACT) {
            continue;
        }
        let newer = found.is_none_or(|found| found > CONTRACT);
        return Err(PluginError::Version {
            plugin: stem(path),
            needed: version.to_owned(),
            offered: OFFERED,
            advice: if newer { "upgrade aehost" } else { "rebuild the plugin with this aehost's SDK" },
        });
    }
    Ok(())
}

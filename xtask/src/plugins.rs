//! Plugins as components: one nested cargo build for WebAssembly makes core modules, which become components that import
//! exactly the interfaces their code reaches. Files are written only when their bytes change, so that a host's cache stays
//! warm.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "wasm32-unknown-unknown";

/// What to build, and where to put it.
pub struct Options {
    set: Set,
    only: Option<String>,
    out: Option<PathBuf>,
    quiet: bool,
}

/// Plugins that are built together.
#[derive(Clone, Copy)]
enum Set {
    BuiltIn,
    Examples,
    Faults,
}

impl Set {
    /// The folder of the set's packages.
    fn source(self) -> &'static str {
        match self {
            Set::BuiltIn => "plugins",
            Set::Examples => "examples/plugins",
            Set::Faults => "tests/plugins",
        }
    }

    /// Where its components go unless `--out` says otherwise; nothing else lives there.
    fn folder(self) -> &'static str {
        match self {
            Set::BuiltIn => "plugins/dist",
            Set::Examples => "target/example-plugins",
            Set::Faults => "target/fault-plugins",
        }
    }
}

impl Options {
    /// Reads the words after `cargo xtask plugins`.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Options { set: Set::BuiltIn, only: None, out: None, quiet: false };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--set" => {
                    options.set = match words.next().as_deref() {
                        Some("built-in") => Set::BuiltIn,
                        Some("examples") => Set::Examples,
                        Some("faults") => Set::Faults,
                        other => bail!("--set is built-in, examples or faults, not {}", other.unwrap_or("nothing")),
                    }
                }
                "--only" => options.only = Some(words.next().context("--only needs a plugin, as technique-gptq")?),
                "--out" => options.out = Some(words.next().context("--out needs a folder")?.into()),
                "--quiet" => options.quiet = true,
                other => bail!("unknown option `{other}`\n\n{}", crate::HELP),
            }
        }
        Ok(options)
    }
}

/// One plugin package.
struct Package {
    name: String,
    /// The core module's file name.
    module: String,
}

/// Builds a set.
pub fn build(options: &Options) -> Result<()> {
    let metadata = metadata()?;
    let source = root().join(options.set.source());
    let mut packages = packages(&metadata, &source)?;
    if let Some(only) = &options.only {
        packages.retain(|package| package.name == *only);
        ensure!(!packages.is_empty(), "no plugin package `{only}` under {}", source.display());
    }
    ensure!(!packages.is_empty(), "no plugin packages under {}", source.display());
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    let guests = Path::new(target).join("guests");
    compile(&packages, &guests, toolchain()?.as_deref(), options.quiet)?;

    let out = options.out.clone().unwrap_or_else(|| root().join(options.set.folder()));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut written = BTreeSet::new();
    for package in &packages {
        let module = guests.join(TARGET).join("plugin").join(&package.module);
        let component = encode(&module).with_context(|| format!("cannot make a component of {}", package.name))?;
        let file = format!("{}.wasm", package.name);
        let path = out.join(&file);
        if std::fs::read(&path).ok().as_deref() != Some(&component) {
            // Renamed into place: a host that loads plugins meanwhile sees the old file or the new one.
            let partial = out.join(format!("{file}.partial"));
            std::fs::write(&partial, &component)
                .and_then(|()| std::fs::rename(&partial, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !options.quiet {
            println!("{file:38} {:4} KB  {}", component.len().div_ceil(1024), imports(&component)?.join(" "));
        }
        written.insert(file);
    }
    if options.out.is_none() && options.only.is_none() {
        remove_others(&out, &written)?;
    }
    Ok(())
}

/// Removes components of plugins that no longer exist.
fn remove_others(folder: &Path, written: &BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|e| e == "wasm") && !written.contains(&*name) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn metadata() -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Packages below `source` that build a C dynamic library, which is what a plugin compiles to.
fn packages(metadata: &Value, source: &Path) -> Result<Vec<Package>> {
    let all = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut packages = Vec::new();
    for package in all {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let targets = package["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let library = targets
            .iter()
            .find(|t| t["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib")));
        if let (true, Some(library), Some(name)) =
            (Path::new(manifest).starts_with(source), library, package["name"].as_str())
        {
            let crate_name = library["name"].as_str().unwrap_or(name).replace('-', "_");
            packages.push(Package { name: name.to_owned(), module: format!("{crate_name}.wasm") });
        }
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// Makes the target available; the toolchain to use, when it is not the default one.
fn toolchain() -> Result<Option<String>> {
    let script = root().join("scripts/setup-wasm-target.sh");
    let output = outside_cargo(Command::new("bash").arg(&script))
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(
        output.status.success(),
        "{TARGET} is not available and could not be set up; run `rustup target add {TARGET}` and try again"
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().and_then(|line| line.trim().strip_prefix('+')).map(str::to_owned))
}

fn compile(packages: &[Package], guests: &Path, toolchain: Option<&str>, quiet: bool) -> Result<()> {
    let mut cargo = Command::new("cargo");
    outside_cargo(&mut cargo)
        .args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"])
        .arg(guests)
        .args(packages.iter().flat_map(|p| ["-p", p.name.as_str()]))
        // The profile strips only packages whose profile has no overrides.
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-C target-feature=+simd128 -C strip=symbols")
        .current_dir(root());
    if quiet {
        cargo.arg("--quiet");
    }
    if let Some(toolchain) = toolchain {
        cargo.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    let status = cargo.status().context("cannot run cargo build")?;
    ensure!(status.success(), "the plugins did not compile");
    Ok(())
}

/// Takes away what an outer cargo or rustup set for its own build, and keeps how the user reaches registries.
fn outside_cargo(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_cargo = name == "CARGO" || name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if of_cargo || name.starts_with("RUSTC") || name == "RUSTFLAGS" || name == "RUSTUP_TOOLCHAIN" {
            command.env_remove(name);
        }
    }
    command
}

fn encode(module: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    wit_component::ComponentEncoder::default().validate(true).module(&bytes)?.encode()
}

/// The interfaces that a component imports, without package and version; those of another package in full.
fn imports(component: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut depth = 0u32;
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload? {
            wasmparser::Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import?.name.name.to_owned();
                    let short = name.strip_prefix("aehost:plugin/").and_then(|rest| rest.split('@').next());
                    names.push(short.unwrap_or(&name).to_owned());
                }
            }
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(names)
}

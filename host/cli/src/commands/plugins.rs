//! `aehost plugins`: what is loaded, what a component asks for, and the installed ones.

use crate::ending::{Ending, fault, usage};
use crate::output::Output;
use crate::plan::Plan;
use crate::plugins::{self, PluginArguments};
use aehost_common::{Condition, Parameter, PluginKind, Value};
use aehost_plugins::{Catalog, Conformance, PluginInfo, installed_folder};
use aehost_study::Configuration;
use aehost_worker::Workbench;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

const DRIVE: &str = "\
Lines, in the forms of `aehost export-json`:
  {\"start\": PROBLEM}              {\"started\": true}
  {\"tell\": [OBSERVATION, ...]}    {\"told\": N, \"seconds\": S}
  {\"ask\": COUNT}                  {\"proposals\": [PROPOSAL, ...], \"seconds\": S}
  \"outlook\"                       {\"outlook\": {...}, \"seconds\": S}
What cannot be done is answered with {\"error\": MESSAGE}. Trial 0, the baseline with
the empty configuration, is told first.";

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List plugins with their permissions, digests and papers
    List {
        /// Also show what a search may choose of each technique on this model (path or name)
        #[arg(long, value_name = "PATH|NAME")]
        model: Option<String>,
        #[command(flatten)]
        plugins: PluginArguments,
    },
    /// Show who a component is and what it may do, without installing it
    Inspect {
        /// The component, a file *.wasm
        file: PathBuf,
        /// Grants an import beyond the contract, to look further
        #[arg(long, value_name = "NAME")]
        grant: Vec<String>,
    },
    /// Install components, after showing what they ask for
    Install {
        /// Components (*.wasm), or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Grant what they ask for without being asked
        #[arg(long)]
        yes: bool,
        /// Grants an import beyond the contract; only `wasi` exists (no files, no network)
        #[arg(long, value_name = "NAME")]
        grant: Vec<String>,
    },
    /// Remove an installed plugin
    Remove {
        /// Its id
        id: String,
    },
    /// Let a strategy search what another program measures: a JSON document a line, asked on standard input and answered on standard
    /// output
    #[command(after_help = DRIVE)]
    Drive {
        /// Its id, or a file *.wasm
        strategy: String,
        #[command(flatten)]
        plugins: PluginArguments,
    },
    /// Check that a component keeps the promises of the contract, for authors of plugins
    Test {
        /// The component, a file *.wasm
        file: PathBuf,
        /// Also try a technique on this model (path or name), which needs a family among the plugins
        #[arg(long, value_name = "PATH|NAME")]
        model: Option<String>,
        #[command(flatten)]
        plugins: PluginArguments,
    },
}

/// Runs it.
pub fn run(command: &Command, output: &Output) -> Result<Ending> {
    let granting = |grant: &[String]| PluginArguments { plugins: Vec::new(), grant: grant.to_vec() }.options();
    match command {
        Command::List { model, plugins } => list(model.as_deref(), plugins, output)?,
        Command::Inspect { file, grant } => {
            let info = Catalog::inspect(file, &granting(grant))?;
            output.result(&info, || card(&info))?;
        }
        Command::Install { files, yes, grant } => install(files, *yes, &granting(grant), output)?,
        Command::Remove { id } => {
            let gone = aehost_plugins::remove(&installed_folder(), id)?;
            output.result(&gone, || {
                gone.iter()
                    .fold(String::new(), |text, p| text + &format!("Removed {} {} {}.\n", p.kind, p.id, p.version))
            })?;
        }
        Command::Drive { strategy, plugins } => super::drive::run(strategy, plugins, output)?,
        Command::Test { file, model, plugins } => return test(file, model.as_deref(), plugins, output),
    }
    Ok(Ending::Done)
}

fn list(model: Option<&str>, arguments: &PluginArguments, output: &Output) -> Result<()> {
    let (infos, not_applicable) = match model {
        Some(model) => on_model(model, arguments, output)?,
        None => {
            let folders = plugins::folders(&arguments.plugins)?;
            let catalog = plugins::load(&folders, &arguments.options(), output)?;
            (catalog.plugins().cloned().collect(), BTreeMap::new())
        }
    };
    output.result(&infos, || {
        let mut text = String::new();
        for info in &infos {
            let stage = info.stage.map(|stage| format!("{stage}")).unwrap_or_default();
            let (kind, id, version, digest) = (info.kind, &info.id, &info.version, short(&info.digest));
            text += format!("{kind:<10} {id:<24} {version:<8} {stage:<13} {digest} {}", info.reference).trim_end();
            text += &format!("\n{:>37}{}\n", "", info.permissions.join(", "));
            if model.is_some() && info.kind == PluginKind::Technique {
                info.parameters.iter().flatten().for_each(|known| text += &format!("    {}\n", parameter(known)));
                not_applicable.get(id).into_iter().for_each(|why| text += &format!("    {why}\n"));
            }
        }
        text
    })
}

/// All plugins, techniques with what a search may choose on a model; and why others have nothing to choose, by id.
fn on_model(
    model: &str,
    arguments: &PluginArguments,
    output: &Output,
) -> Result<(Vec<PluginInfo>, BTreeMap<String, String>)> {
    let mut bench = workbench(model, arguments, output)?;
    let found = bench.describe().map_err(fault)?;
    let of = |info: &PluginInfo| found.space.iter().find(|t| t.description.identity.id == info.id);
    let infos = bench.plugins().cloned().map(|info| match info.kind {
        PluginKind::Technique => PluginInfo { parameters: of(&info).map(|t| t.parameters.clone()), ..info },
        _ => info,
    });
    Ok((infos.collect(), found.not_applicable.into_iter().collect()))
}

fn workbench(model: &str, arguments: &PluginArguments, output: &Output) -> Result<Workbench> {
    let folders = plugins::folders(&arguments.plugins)?;
    let setup = Plan::new(Some(model), None, None)?.setup(folders, &arguments.options(), output)?;
    Workbench::open(&setup, None).map_err(fault)
}

/// A parameter in words.
fn parameter(parameter: &Parameter) -> String {
    let condition = |condition: &Condition| {
        let values: Vec<String> = condition.values.iter().map(Value::to_string).collect();
        format!("; while {} is {}", condition.parameter, values.join(" or "))
    };
    let conditions: String = parameter.active_when.iter().map(condition).collect();
    format!("{} = {}: {} ({}{conditions})", parameter.name, parameter.default, parameter.summary, parameter.domain)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Who a plugin is and what it asks for.
fn card(info: &PluginInfo) -> String {
    let mut text = format!("{} {} {}\n  {}\n", info.kind, info.id, info.version, info.summary);
    let mut line = |name: &str, words: String| {
        if !words.is_empty() {
            text += &format!("  {name:<14}{words}\n");
        }
    };
    line("follows", info.reference.clone());
    line("stage", info.stage.map(|stage| stage.to_string()).unwrap_or_default());
    line("permissions", info.permissions.join(", "));
    line("architectures", info.architectures.join(", "));
    line("metrics", info.metrics.iter().map(|m| format!("{} ({})", m.name, m.unit)).collect::<Vec<_>>().join(", "));
    for known in info.parameters.iter().flatten() {
        line("setting", parameter(known));
    }
    line("SHA-256", info.digest.clone());
    line("file", info.path.display().to_string());
    text
}

fn test(file: &Path, model: Option<&str>, plugins: &PluginArguments, output: &Output) -> Result<Ending> {
    let options = plugins.options();
    let base = match model {
        Some(model) => {
            let mut bench = workbench(model, plugins, output)?;
            Some(bench.variant(&Configuration::default()).map_err(fault)?)
        }
        None => None,
    };
    let conformance = aehost_plugins::conformance(file, &options, base.as_ref())?;
    output.result(&conformance, || verdict(&conformance))?;
    Ok(if conformance.passed() { Ending::Done } else { Ending::Failed })
}

fn verdict(conformance: &Conformance) -> String {
    let PluginInfo { kind, id, version, .. } = &conformance.plugin;
    let mut text = format!("{kind} {id} {version}\n");
    for check in &conformance.checks {
        let detail = if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
        text += &format!("  {} {}{detail}\n", if check.kept { "kept  " } else { "BROKEN" }, check.promise);
    }
    let broken = conformance.checks.iter().filter(|check| !check.kept).count();
    match broken {
        0 => text + "It keeps all of them.\n",
        _ => text + &format!("It breaks {broken} of {}.\n", conformance.checks.len()),
    }
}

fn install(files: &[PathBuf], yes: bool, options: &aehost_plugins::Options, output: &Output) -> Result<()> {
    let mut infos = Vec::new();
    for file in files {
        if file.is_dir() {
            let catalog = plugins::load(&plugins::folders(std::slice::from_ref(file))?, options, output)?;
            infos.extend(catalog.plugins().cloned());
        } else {
            infos.push(Catalog::inspect(file, options)?);
        }
    }
    for info in &infos {
        output.say(&card(info));
    }
    if !yes && !agreed(infos.len())? {
        return Err(usage("nothing was installed"));
    }
    let folder = installed_folder();
    let installed = infos.iter().map(|info| aehost_plugins::install(&folder, &info.path, options));
    let installed = installed.collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = installed.iter().map(|info| info.id.as_str()).collect();
    let json = json!({"folder": folder, "installed": installed});
    output.result(&json, || format!("Installed {} in {}.\n", names.join(", "), folder.display()))
}

/// Asks on the terminal; a script must have said --yes.
fn agreed(plugins: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(usage("installing grants the permissions above: repeat the command with --yes to agree"));
    }
    let them = if plugins == 1 { "this plugin" } else { "these plugins" };
    eprint!("Install {them} with these permissions? [y/N] ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

//! `aehost run`: a study file and flags become a study, which is run to its end.

use crate::commands::resume;
use crate::ending::{Ending, usage};
use crate::home::StoreArguments;
use crate::output::Output;
use crate::plan::{self, Plan};
use crate::plugins::{self, PluginArguments};
use crate::{hardware, session};
use aehost_study::{Constraint, Limits, Overrides, Reference, Store, StudyFile, StudyRecord, TimeLimit};
use anyhow::Result;
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Examples:
  aehost run --plugins plugins
  aehost run --model my.gguf --evaluator multiple-choice:piqa
  aehost run --constraint 'memory.peak <= 150 MiB' --trials 40 --time 1h
  aehost run study.toml --study nightly --resume

Flags lie over the study file, which lies over the defaults; examples/full.toml
shows every key.

Metrics of objectives and constraints:
  latency.ttft, latency.tpot, latency.e2e            ms, s
  throughput.prefill, throughput.decode              tokens/s
  memory.peak, memory.weights, memory.cache          B, KiB, MiB, GiB, KB, MB, GB
  energy                                             J (per generated token)
  accuracy drop                                      %
  multiple-choice.acc, perplexity.token_perplexity   and the other evaluators'";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// Study file; everything in it is optional
    #[arg(value_name = "STUDY.toml")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub plugins: PluginArguments,
    /// Path of a .gguf file or a folder with safetensors, or a name from `aehost model list`
    #[arg(long, value_name = "PATH|NAME")]
    pub model: Option<String>,
    /// A model with the same vocabulary that techniques may use beside it, as to draft tokens; repeatable
    #[arg(long, value_name = "PATH|NAME")]
    pub companion: Vec<String>,
    /// What techniques that train learn from (path or name); without it they take no part
    #[arg(long, value_name = "DATA")]
    pub training: Option<String>,
    /// What measures quality, and on which data (path or name); repeatable, the first one's main metric is the accuracy
    #[arg(long, value_name = "ID[:DATA]")]
    pub evaluator: Vec<String>,
    /// A technique, or all of a stage, that takes part, and what its parameters are limited to, as in
    /// lora:rank=8|16,learning-rate=1e-4..1e-3; repeatable [default: all]
    #[arg(long, value_name = "ID[:NAME=VALUES,...]")]
    pub technique: Vec<String>,
    /// What to improve; repeatable [default: accuracy, latency.e2e, memory.peak]
    #[arg(long, value_name = "METRIC")]
    pub objective: Vec<String>,
    /// A hard limit; repeatable [default: 'accuracy drop <= 1.2 %']
    #[arg(long, value_name = "METRIC <= BOUND")]
    pub constraint: Vec<Constraint>,
    /// What counts in the efficiency score, and how much, as in latency.e2e=2; repeatable [default: latency, memory
    /// and measured energy, equally]
    #[arg(long, value_name = "METRIC=WEIGHT")]
    pub weight: Vec<String>,
    /// Who proposes configurations [default: ae-llm]
    #[arg(long, value_name = "ID")]
    pub strategy: Option<String>,
    /// Tell the strategy nothing of the earlier studies in the store
    #[arg(long)]
    pub cold: bool,
    /// Trials at most, the baseline included, confirmations apart [default: 24, or 200 with --until-converged]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Time at most, confirmations included: 90s, 30m, 1h30m, or none [default: 15m, or none with --until-converged]
    #[arg(long, value_name = "TIME")]
    pub time: Option<TimeLimit>,
    /// Also end the search when the strategy expects little more
    #[arg(long)]
    pub until_converged: bool,
    /// Time that one trial may take [default: 30m]
    #[arg(long, value_name = "TIME")]
    pub trial_time: Option<TimeLimit>,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// What matrices are kept as before techniques apply: float16, float32, bfloat16 or file [default: float16]
    #[arg(long, value_name = "TYPE")]
    pub reference: Option<Reference>,
    /// Where to run: cpu or cuda:N [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads of the engine [default: all physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Measure the front again on more data at the end (the default)
    #[arg(long, overrides_with = "no_confirm")]
    pub confirm: bool,
    /// Leave the front at the screening's figures
    #[arg(long, overrides_with = "confirm")]
    pub no_confirm: bool,
    /// Name of the study [default: the model's name and a number]
    #[arg(long, value_name = "NAME")]
    pub study: Option<String>,
    /// Go on with the study of that name where there is one
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub store: StoreArguments,
}

impl Arguments {
    /// The flags as the study file knows them.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            name: self.study.clone(),
            model: self.model.clone(),
            companions: self.companion.clone(),
            training: self.training.clone(),
            reference: self.reference,
            device: self.device.clone(),
            threads: self.threads,
            seed: self.seed,
            plugins: self.plugins.plugins.clone(),
            evaluators: self.evaluator.clone(),
            techniques: self.technique.clone(),
            objectives: self.objective.clone(),
            constraints: self.constraint.clone(),
            weights: self.weight.clone(),
            strategy: self.strategy.clone(),
            cold: self.cold,
            trials: self.trials,
            time: self.time,
            until_converged: self.until_converged,
            confirm: (self.confirm || self.no_confirm).then_some(!self.no_confirm),
        }
    }

    /// The study as the file and the flags describe it.
    pub fn study_file(&self) -> Result<StudyFile> {
        let file = self.file.as_deref().map_or_else(|| Ok(StudyFile::default()), StudyFile::read)?;
        Ok(file.resolve(&self.overrides())?)
    }
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let file = arguments.study_file()?;
    let mut store = arguments.store.open()?;
    let store_flag = arguments.store.flag();
    let name = match &file.study.name {
        Some(name) => name.clone(),
        None if arguments.resume => {
            return Err(usage(
                "--resume needs the name of the study: give it with --study NAME, or use `aehost resume NAME`",
            ));
        }
        None => free_name(&store, &file.study.model)?,
    };
    if store.list()?.iter().any(|study| study.name == name) {
        if !arguments.resume {
            return Err(usage(format!(
                "study `{name}` exists already in {}: continue it with `aehost resume {name}{store_flag}`, or choose \
                 another name with --study",
                store.path().display()
            )));
        }
        let limits = resume::limits(arguments.trials, arguments.time);
        return session::resume(&mut store, &name, &arguments.plugins, limits, &store_flag, output);
    }

    let folders = plugins::folders(&file.study.plugins)?;
    let options = arguments.plugins.options();
    let catalog = plugins::load(&folders, &options, output)?;
    plan::strategy_settings(&file, &catalog)?;
    let mut plan = Plan::from_file(&file, plan::evaluators(&file.evaluator, &catalog)?)?;
    if let Some(TimeLimit(limit)) = arguments.trial_time {
        plan.trial_seconds = limit.unwrap_or(f64::from(u32::MAX));
    }
    let setup = plan.setup(folders, &options, output)?;
    let supervisor = plan.start(setup.clone())?;
    let mut record = plan.record(name.clone(), &file, &catalog, &setup, supervisor.description())?;
    if file.strategy.warm_start {
        record.earlier = store.earlier(&record)?;
    }
    introduce(&record, &supervisor.description().not_applicable, output);
    store.create(&record)?;
    let ending = session::run(&mut store, &name, &catalog, supervisor, Limits::default(), &store_flag, output);
    if ending.is_err() && store.trials(&name)?.is_empty() {
        // Not even its baseline could be measured: there is nothing to resume.
        store.delete(&name)?;
    }
    ending
}

/// What is about to happen, before it does.
fn introduce(record: &StudyRecord, not_applicable: &[(String, String)], output: &Output) {
    let list = |words: Vec<&str>| words.join(", ");
    output.say(&format!("Study    {}", record.name));
    output.say(&format!("Model    {} ({})", record.model, record.reference));
    if let Some(line) = hardware::stored(&record.hardware) {
        output.say(&format!("Machine  {line}"));
    }
    output.say(&format!("Runs on  {}, threads: {}", record.device, record.threads));
    let techniques = record.space.iter().map(|t| t.description.identity.id.as_str()).collect();
    output.say(&format!("Searches {} with {}, seed {}", list(techniques), record.strategy, record.seed));
    output.say(&format!("Improves {}", list(record.objectives.iter().map(|o| o.metric.as_str()).collect())));
    if !record.constraints.is_empty() {
        output.say(&format!("Requires {}", list(record.constraints.iter().map(|c| c.text.as_str()).collect())));
    }
    let time = record.budget_seconds.map(|s| format!(", {:.0} min", s / 60.0)).unwrap_or_default();
    output.say(&format!("Budget   {} trials{time}", record.budget_trials));
    if !record.earlier.is_empty() {
        let trials: usize = record.earlier.iter().map(|study| study.observations.len()).sum();
        let studies = list(record.earlier.iter().map(|study| study.name.as_str()).collect());
        output.say(&format!("Knows    {trials} trials of earlier studies ({studies}); not with --cold"));
    }
    output.say("");
    for (techniques, why) in by_reason(not_applicable) {
        let are = if techniques.len() == 1 { "is" } else { "are" };
        output.say(&format!("{} {are} left out: {why}", list(techniques)));
    }
}

/// Techniques that have no use here, by the reason that they give.
fn by_reason(not_applicable: &[(String, String)]) -> Vec<(Vec<&str>, &str)> {
    let mut reasons: Vec<(Vec<&str>, &str)> = Vec::new();
    for (technique, why) in not_applicable {
        // The technique stands before it already.
        let named = why.strip_prefix(&format!("technique `{technique}` ")).and_then(|rest| rest.split_once(": "));
        let reason = named.map_or(why.as_str(), |(_, reason)| reason);
        match reasons.iter_mut().find(|(_, known)| *known == reason) {
            Some((techniques, _)) => techniques.push(technique),
            None => reasons.push((vec![technique], reason)),
        }
    }
    reasons
}

/// The model's name with the first number that no study has.
fn free_name(store: &Store, model: &str) -> Result<String> {
    let stem = Path::new(model).file_stem().map_or(model.into(), |stem| stem.to_string_lossy());
    let letters = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let base: String = letters.collect::<String>().trim_matches('-').chars().take(48).collect();
    let base = if base.is_empty() { "study" } else { &base };
    let taken: Vec<String> = store.list()?.into_iter().map(|study| study.name).collect();
    let names = (1u32..).map(|number| format!("{base}-{number}"));
    Ok(names.into_iter().find(|name| !taken.contains(name)).expect("there are more numbers than studies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn techniques_are_left_out_by_reason() {
        let of = |technique: &str, why: &str| (technique.to_owned(), format!("technique `{technique}` 0.1.0: {why}"));
        let all = [of("a", "no data: name some"), of("b", "no experts"), of("c", "no data: name some")];
        assert_eq!(by_reason(&all), [(vec!["a", "c"], "no data: name some"), (vec!["b"], "no experts")]);
    }

    #[test]
    fn a_study_without_a_name_is_called_after_its_model() {
        let folder = std::env::temp_dir().join(format!("aehost-name-{}", std::process::id()));
        let store = Store::open(&folder.join("s.db")).unwrap();
        assert_eq!(free_name(&store, "smollm2-135m-instruct").unwrap(), "smollm2-135m-instruct-1");
        assert_eq!(free_name(&store, "/models/My Model v2.gguf").unwrap(), "my-model-v2-1");
        assert_eq!(free_name(&store, "..").unwrap(), "study-1");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

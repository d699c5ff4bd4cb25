//! What `generate`, `evaluate`, `bench` and `finetune` work on: a trial of a study, or a model as it is.

use crate::ending::{fault, usage};
use crate::home::StoreArguments;
use crate::output::Output;
use crate::plan::Plan;
use crate::plugins::{self, PluginArguments};
use crate::results::Results;
use crate::session::recorded_folders;
use aehost_engine::Image;
use aehost_plugins::{Catalog, Event, Level, Name, Observer, Options};
use aehost_study::{Configuration, Reference, Space, StudyRecord, TrialId};
use aehost_worker::{Setup, Workbench};
use anyhow::Result;
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::sync::Arc;

/// The flags that name it.
#[derive(Debug, Clone, clap::Args)]
pub struct SubjectArguments {
    /// Name or path of the model [default: the study's, else smollm2-135m-instruct]
    #[arg(long, value_name = "PATH|NAME")]
    pub model: Option<String>,
    /// A model with the same vocabulary that techniques may use beside it, as to draft tokens; repeatable [default: the
    /// study's]
    #[arg(long, value_name = "PATH|NAME")]
    pub companion: Vec<String>,
    /// A study whose trial is used; without it the model is used as it is
    #[arg(long, value_name = "NAME")]
    pub study: Option<String>,
    /// The trial [default: the recommended one]
    #[arg(long, value_name = "N", requires = "study")]
    pub trial: Option<u64>,
    /// A technique to apply, with settings that differ from its defaults, as in gptq:bits=3,group=32; repeatable
    #[arg(long, value_name = "ID[:NAME=VALUE,...]", conflicts_with = "trial")]
    pub apply: Vec<String>,
    /// What techniques that train learn from (path or name) [default: the study's]
    #[arg(long, value_name = "DATA")]
    pub training: Option<String>,
    /// Where to run: cpu or cuda:N [default: the study's, else cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads of the engine [default: the study's, else all physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// What matrices are kept as before techniques apply: float16, float32, bfloat16, or file [default: the study's, else
    /// float16]
    #[arg(long, value_name = "TYPE")]
    pub reference: Option<Reference>,
    #[command(flatten)]
    pub store: StoreArguments,
    #[command(flatten)]
    pub plugins: PluginArguments,
}

/// A model, a configuration, and the plugins that make one of the other.
pub struct Subject {
    /// The study, if one was named.
    pub record: Option<StudyRecord>,
    /// The trial, if a study was named.
    pub trial: Option<TrialId>,
    /// What is on; known when it is opened where techniques were named.
    pub configuration: Configuration,
    apply: Vec<String>,
    /// What is run on what.
    pub plan: Plan,
    folders: Vec<PathBuf>,
    options: Options,
}

impl Subject {
    /// Finds out what is meant; nothing is opened yet.
    pub fn of(arguments: &SubjectArguments) -> Result<Self> {
        let options = arguments.plugins.options();
        let Some(name) = &arguments.study else {
            let mut plan = Plan::new(arguments.model.as_deref(), arguments.device.as_deref(), arguments.threads)?;
            plan.reference = arguments.reference.unwrap_or_default();
            plan.replace_companions(&arguments.companion);
            plan.replace_training(arguments.training.as_deref());
            let folders = plugins::folders(&arguments.plugins.plugins)?;
            return Ok(Self {
                record: None,
                trial: None,
                configuration: Configuration::default(),
                apply: arguments.apply.clone(),
                plan,
                folders,
                options,
            });
        };
        let results = Results::read(&arguments.store.open()?, name)?;
        let folders = recorded_folders(&results.record, &arguments.plugins.plugins)?;
        let mut plan = Plan::of(&results.record);
        if arguments.model.is_some() || arguments.device.is_some() || arguments.threads.is_some() {
            let device = arguments.device.as_deref().unwrap_or(&results.record.device);
            let threads = arguments.threads.unwrap_or(results.record.threads);
            let given = Plan::new(arguments.model.as_deref(), Some(device), Some(threads))?;
            if arguments.model.is_some() {
                plan.model = given.model;
            }
            (plan.device, plan.threads) = (given.device, given.threads);
        }
        plan.reference = arguments.reference.unwrap_or(plan.reference);
        plan.replace_companions(&arguments.companion);
        plan.replace_training(arguments.training.as_deref());
        let apply = arguments.apply.clone();
        // Named techniques stand for themselves: of the study only model, data and plugins are used.
        let trial = if apply.is_empty() { Some(trial(&results, arguments.trial)?) } else { None };
        let configuration = results.trials.iter().find(|t| Some(t.id) == trial).map(|t| t.configuration.clone());
        let configuration = configuration.unwrap_or_default();
        Ok(Self { record: Some(results.record), trial, configuration, apply, plan, folders, options })
    }

    /// Its plugins, for those who need their descriptions first.
    pub fn catalog(&self, output: &Output) -> Result<Catalog> {
        plugins::load(&self.folders, &self.options, output)
    }

    /// Opens model, plugins and data; `bar` shows how far plugins are, and what they have to say is said.
    pub fn open(&mut self, bar: &ProgressBar, output: &Output) -> Result<Workbench> {
        let setup: Setup = self.plan.setup(self.folders.clone(), &self.options, output)?;
        let mut workbench = Workbench::open(&setup, Some(observer(bar.clone(), *output))).map_err(fault)?;
        if !self.apply.is_empty() {
            let description = workbench.describe().map_err(fault)?;
            let named = |id: &str| self.apply.iter().any(|words| words.split(':').next() == Some(id));
            if let Some((id, why)) = description.not_applicable.iter().find(|(id, _)| named(id)) {
                return Err(usage(format!("--apply: `{id}` has no use for this model: {why}")));
            }
            let space = Space::new(&description.space)?;
            let choices = self.apply.iter().map(|words| space.parse(words)).collect::<Result<Vec<_>, _>>();
            let configuration = choices.and_then(|choices| space.complete(&Configuration(choices)));
            self.configuration = configuration.map_err(|e| usage(format!("--apply: {e}")))?;
        }
        Ok(workbench)
    }

    /// In a few words, for people.
    pub fn words(&self) -> String {
        match (&self.record, self.trial) {
            (Some(record), Some(trial)) => format!("trial {trial} of {}: {}", record.name, self.configuration),
            _ if self.apply.is_empty() => format!("{} as it is", self.plan.model),
            _ => format!("{} with {}", self.plan.model, self.apply.join(" + ")),
        }
    }
}

/// The pictures of `--image`.
pub fn pictures(files: &[PathBuf]) -> Result<Vec<Image>> {
    let read = files.iter().map(|path| Image::open(path)).collect::<Result<Vec<_>, _>>();
    read.map_err(|e| usage(format!("--image: {e}")))
}

/// Shows progress on a line that is redrawn, and what plugins have to say.
fn observer(bar: ProgressBar, output: Output) -> Observer {
    Arc::new(move |name: &Name, event| match event {
        Event::Progress { what, .. } => bar.set_message(format!("{}: {what}", name.id)),
        Event::Log { level: Level::Debug, .. } => {}
        Event::Log { message, .. } => bar.suspend(|| output.say(&format!("{}: {message}", name.id))),
    })
}

/// The trial asked for, else the recommended one.
fn trial(results: &Results, asked: Option<u64>) -> Result<TrialId> {
    let name = &results.record.name;
    let Some(asked) = asked.map(TrialId) else {
        let recommended = results.analysis.recommended.map(|r| r.trial);
        return recommended
            .ok_or_else(|| usage(format!("study `{name}` recommends no trial: choose one with --trial N")));
    };
    if results.trials.iter().any(|t| t.id == asked) {
        return Ok(asked);
    }
    Err(usage(format!("study `{name}` has no trial {asked}: `aehost show {name}` lists them")))
}

//! What is run on what: model, device, scenario, evaluators and their data. A plan is made from a study file with its
//! flags, or from the record of a stored study; it makes the worker's setup and, with what the worker found, the record.

use crate::ending::{fault, usage};
use crate::output::Output;
use crate::{fetch, home};
use aehost_common::{Parameter, PluginKind, Settings};
use aehost_engine::FloatType;
use aehost_hub::Kind;
use aehost_meter::HardwareProfile;
use aehost_plugins::{Catalog, Options};
use aehost_study::{
    Companion, Conditions, Constraint, DeclaredPower, EvaluatorSection, EvaluatorUse, Objective, PluginRecord,
    Reference, Scenario, StudyFile, StudyRecord, TechniqueSpace, Weight, narrowed,
};
use aehost_worker::{CalibrationSetup, Description, PowerModelSetup, Setup, Supervisor, TrainingSetup};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::PathBuf;

/// Evaluators of running text, and calibration, take these unless told otherwise.
const TEXT: &str = "grimm";
const CALIBRATION: &str = "andersen";
/// One of so many examples is held out.
const HELD_OUT: u32 = 20;
/// Seconds that one trial may take unless told otherwise.
pub const TRIAL_SECONDS: f64 = 1800.0;

/// What is run on what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name or path of the model.
    pub model: String,
    /// Names or paths of models that techniques may use beside it.
    pub companions: Vec<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads of the engine.
    pub threads: u32,
    /// How the model will be used.
    pub scenario: Scenario,
    /// What measures quality.
    pub evaluators: Vec<EvaluatorUse>,
    /// Name or path of the calibration text.
    pub calibration: String,
    /// Tokens of it at most.
    pub calibration_tokens: Option<u32>,
    /// Name or path of what is trained on; nothing is trained where it is none.
    pub training: Option<String>,
    /// One of so many examples is held out.
    pub training_held_out: u32,
    /// The declared power model.
    pub power: Option<PowerModelSetup>,
    /// Seconds that one trial may take.
    pub trial_seconds: f64,
    /// What the model's matrices are kept as before techniques apply.
    pub reference: Reference,
}

impl Plan {
    /// A plan without evaluators, as a default study would have it.
    pub fn new(model: Option<&str>, device: Option<&str>, threads: Option<u32>) -> Result<Self> {
        let mut file = StudyFile::default();
        let study = &mut file.study;
        study.threads = threads;
        for (over, value) in [(model, &mut study.model), (device, &mut study.device)] {
            if let Some(over) = over {
                *value = over.to_owned();
            }
        }
        Self::from_file(&file, Vec::new())
    }

    /// The plan of a resolved study file.
    pub fn from_file(file: &StudyFile, evaluators: Vec<EvaluatorUse>) -> Result<Self> {
        let study = &file.study;
        let device: aehost_meter::Device = study.device.parse().map_err(|e| usage(format!("--device: {e}")))?;
        let calibration = file.calibration.data.as_deref().unwrap_or(CALIBRATION);
        Ok(Self {
            model: fetch::lasting(&study.model, Kind::Model),
            companions: study.companions.iter().map(|word| fetch::lasting(word, Kind::Model)).collect(),
            device: device.to_string(),
            threads: study.threads.unwrap_or_else(physical_cores),
            scenario: file.scenario.clone(),
            evaluators,
            calibration: fetch::lasting(calibration, Kind::Data),
            calibration_tokens: file.calibration.tokens,
            training: file.training.data.as_deref().map(|data| fetch::lasting(data, Kind::Data)),
            training_held_out: file.training.held_out.unwrap_or(HELD_OUT),
            power: file.energy.map(|e| PowerModelSetup { watts_busy: e.watts_busy, watts_idle: Some(e.watts_idle) }),
            trial_seconds: TRIAL_SECONDS,
            reference: file.study.reference,
        })
    }

    /// The plan of a stored study.
    pub fn of(record: &StudyRecord) -> Self {
        let conditions = &record.conditions;
        let power =
            conditions.power.map(|DeclaredPower { watts_busy, watts_idle }| PowerModelSetup { watts_busy, watts_idle });
        Self {
            model: record.model.clone(),
            companions: conditions.companions.iter().map(|c| c.model.clone()).collect(),
            device: record.device.clone(),
            threads: record.threads,
            scenario: record.scenario.clone(),
            evaluators: record.evaluators.clone(),
            calibration: conditions.calibration.as_deref().unwrap_or(CALIBRATION).to_owned(),
            calibration_tokens: conditions.calibration_tokens,
            training: conditions.training.clone(),
            training_held_out: conditions.training_held_out.unwrap_or(HELD_OUT),
            power,
            trial_seconds: conditions.trial_seconds.unwrap_or(TRIAL_SECONDS),
            reference: conditions.reference,
        }
    }

    fn conditions(&self, found: &Description) -> Conditions {
        let companions = self.companions.iter().cloned().zip(found.companion_digests.iter().cloned());
        Conditions {
            calibration: Some(self.calibration.clone()),
            calibration_tokens: self.calibration_tokens,
            training: self.training.clone(),
            training_held_out: Some(self.training_held_out),
            power: self
                .power
                .map(|PowerModelSetup { watts_busy, watts_idle }| DeclaredPower { watts_busy, watts_idle }),
            trial_seconds: Some(self.trial_seconds),
            reference: self.reference,
            companions: companions.map(|(model, digest)| Companion { model, digest }).collect(),
        }
    }

    /// Other models that techniques may use beside it, if any are named.
    pub fn replace_companions(&mut self, words: &[String]) {
        if !words.is_empty() {
            self.companions = words.iter().map(|word| fetch::lasting(word, Kind::Model)).collect();
        }
    }

    /// What techniques that train learn from, if it is named.
    pub fn replace_training(&mut self, word: Option<&str>) {
        if let Some(word) = word {
            self.training = Some(fetch::lasting(word, Kind::Data));
        }
    }

    /// What a worker needs, with model and data fetched where they are missing.
    pub fn setup(&self, plugin_dirs: Vec<PathBuf>, options: &Options, output: &Output) -> Result<Setup> {
        let model_path = fetch::model(&self.model, output)?;
        let companions = self.companions.iter().map(|word| fetch::model(word, output)).collect::<Result<_>>()?;
        let mut evaluators = self.evaluators.clone();
        for evaluator in &mut evaluators {
            let path = fetch::data(&evaluator.data, output)
                .with_context(|| format!("evaluator `{}` has no data", evaluator.label))?;
            evaluator.data = path.display().to_string();
        }
        let data = fetch::data(&self.calibration, output).context("there is no calibration text")?;
        let training = self.training.as_ref().map(|data| fetch::data(data, output)).transpose();
        let training = training.context("there is no training data")?;
        let tokens = self.calibration_tokens.map_or(usize::MAX, |n| n as usize);
        Ok(Setup {
            model_path,
            companions,
            plugin_dirs,
            plugin_cache: options.cache.clone(),
            variants: Some(home::variants()),
            granted: options.granted.clone(),
            device: self.device.clone(),
            threads: self.threads as usize,
            reference: match self.reference {
                Reference::Float16 => Some(FloatType::F16),
                Reference::Float32 => Some(FloatType::F32),
                Reference::Bfloat16 => Some(FloatType::BF16),
                Reference::File => None,
            },
            scenario: self.scenario.clone(),
            evaluators,
            calibration: Some(CalibrationSetup { data, tokens }),
            training: training.map(|data| TrainingSetup {
                data,
                held_out: self.training_held_out as usize,
                results: Some(home::trained()),
            }),
            energy: self.power,
            trial_seconds: self.trial_seconds,
            lease: true,
        })
    }

    /// Starts a worker of this program.
    pub fn start(&self, setup: Setup) -> Result<Supervisor> {
        let executable = std::env::current_exe().context("cannot find the program's own file")?;
        Supervisor::start(&executable, setup).map_err(fault)
    }

    /// The record of a new study. Errors: unknown metrics in objectives or constraints, settings that the strategy does
    /// not have, and a model that no technique applies to.
    pub fn record(
        &self,
        name: String,
        file: &StudyFile,
        catalog: &Catalog,
        setup: &Setup,
        found: &Description,
    ) -> Result<StudyRecord> {
        let first = self.evaluators.first().context("a study needs an evaluator")?;
        let main =
            first.description.metrics.first().with_context(|| format!("evaluator `{}` has no metric", first.id))?;
        let accuracy_metric = format!("{}.{}", first.label, main.name);
        let objectives =
            file.study.objectives.iter().map(|words| Objective::resolve(words, &accuracy_metric, &found.metrics));
        let objectives = objectives.collect::<Result<Vec<_>, _>>()?;
        file.study.constraints.iter().try_for_each(|c: &Constraint| c.check(&found.metrics))?;
        let weights = file.study.weights.iter().map(|text| Weight::resolve(text, &accuracy_metric, &found.metrics));
        let weights = weights.collect::<Result<_, _>>().map_err(|e| usage(e.to_string()))?;
        if found.space.is_empty() {
            let reasons: String = found.not_applicable.iter().map(|(id, why)| format!("\n  {id}: {why}")).collect();
            return Err(usage(format!("no technique applies to this model, so there is nothing to search{reasons}")));
        }
        let space = self.space(file, found)?;
        let mut model_facts = found.model_facts.clone();
        model_facts.0.extend(found.hardware_facts.iter().cloned());
        Ok(StudyRecord {
            name,
            model: self.model.clone(),
            model_path: setup.model_path.display().to_string(),
            model_digest: found.model_digest.clone(),
            reference: found.reference.clone(),
            model_facts,
            device: self.device.clone(),
            threads: self.threads,
            hardware: found.hardware.clone(),
            scenario: self.scenario.clone(),
            conditions: self.conditions(found),
            evaluators: self.evaluators.clone(),
            accuracy_metric,
            objectives,
            constraints: file.study.constraints.clone(),
            weights,
            strategy: file.strategy.id.clone(),
            strategy_settings: strategy_settings(file, catalog)?,
            budget_trials: file.budget.trials(),
            budget_seconds: file.budget.time().0,
            until_converged: file.budget.until_converged,
            earlier: Vec::new(),
            confirm: file.study.confirm,
            seed: file.study.seed,
            plugins: used_plugins(found, &space, &self.evaluators, &file.strategy.id),
            space,
            metrics: found.metrics.clone(),
            aehost_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: std::time::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64()),
        })
    }

    /// What is searched: all that applies to the model, or what the file names of it.
    fn space(&self, file: &StudyFile, found: &Description) -> Result<Vec<TechniqueSpace>> {
        let words = &file.study.techniques;
        let named = |id: &str| words.iter().any(|words| words.split(':').next() == Some(id));
        if let Some((id, why)) = found.not_applicable.iter().find(|(id, _)| named(id)) {
            return Err(usage(format!("--technique: `{id}` has no use for this model: {why}")));
        }
        narrowed(&found.space, words).map_err(|e| usage(format!("--technique: {e}")))
    }
}

/// The strategy's settings, complete; an unknown strategy or setting is refused before anything is started.
pub fn strategy_settings(file: &StudyFile, catalog: &Catalog) -> Result<Settings> {
    let strategy = catalog.strategy(&file.strategy.id)?;
    Parameter::complete(&strategy.description().parameters, &file.strategy.settings)
        .with_context(|| format!("the settings of strategy `{}` are wrong", file.strategy.id))
}

/// The evaluators of a study file as the study uses them: settings complete, data named, labels unique.
pub fn evaluators(sections: &[EvaluatorSection], catalog: &Catalog) -> Result<Vec<EvaluatorUse>> {
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for section in sections {
        *uses.entry(&section.id).or_default() += 1;
    }
    let mut made: Vec<EvaluatorUse> = Vec::new();
    for section in sections {
        let id = &section.id;
        let description = catalog.evaluator(id)?.description().clone();
        let settings = Parameter::complete(&description.parameters, &section.settings)
            .with_context(|| format!("the settings of evaluator `{id}` are wrong"))?;
        let text = matches!(id.as_str(), "perplexity" | "divergence").then_some(TEXT);
        let data = section.data.as_deref().or(text).ok_or_else(|| {
            usage(format!("evaluator `{id}` has no default data: name some, as in --evaluator {id}:FILE.jsonl"))
        })?;
        let stem = std::path::Path::new(data).file_stem().map_or(data.into(), |s| s.to_string_lossy());
        let label = if uses[id.as_str()] > 1 { format!("{id}@{stem}") } else { id.clone() };
        if made.iter().any(|e| e.label == label) {
            return Err(usage(format!("evaluator `{label}` is there twice: give each use another data set")));
        }
        let items = section.items.unwrap_or(u32::MAX);
        made.push(EvaluatorUse {
            label,
            id: id.clone(),
            data: fetch::lasting(data, Kind::Data),
            items,
            confirm_items: section.confirm_items.unwrap_or(items),
            settings,
            description,
        });
    }
    Ok(made)
}

/// Families, the techniques of the space, the evaluators and the strategy.
fn used_plugins(
    found: &Description,
    space: &[TechniqueSpace],
    evaluators: &[EvaluatorUse],
    strategy: &str,
) -> Vec<PluginRecord> {
    let used = |plugin: &&PluginRecord| match plugin.kind {
        PluginKind::Family => true,
        PluginKind::Technique => space.iter().any(|t| t.description.identity.id == plugin.id),
        PluginKind::Evaluator => evaluators.iter().any(|e| e.id == plugin.id),
        PluginKind::Strategy => plugin.id == strategy,
    };
    found.plugins.iter().filter(used).cloned().collect()
}

/// Cores without hyper-threads; what the system lets this process use where it does not tell.
fn physical_cores() -> u32 {
    let available = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    HardwareProfile::read().cpu.physical_cores.value().map_or(available, |cores| (*cores).clamp(1, available))
}

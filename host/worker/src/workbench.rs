//! A model, plugins and a device in one process: applies configurations, predicts, and prepares trials for other
//! processes to measure, or measures them itself.

use crate::bench::{BenchPlan, BenchResult};
use crate::companions;
use crate::made::Made;
use crate::protocol::{Prepared, SavedTrial};
use crate::rig::{Found, Rig, Stopwatch, Subject, built, saying, unreadable};
use crate::setup::{Description, Setup};
use crate::training::{opened, trainer};
use aehost_common::{Curve, Fault, Metric, Setting, Settings, Value};
use aehost_engine::{Calibration, EngineError, LanguageModel, Shelf, Variant};
use aehost_formats::{Dataset, Tokenizer};
use aehost_meter::HardwareProfile;
use aehost_plugins::{Fidelity, Observer, Surroundings};
use aehost_study::{
    Configuration, Items, Job, Measurements, Outcome, Progress, Scenario, TechniqueSpace, Timings, metrics,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Facts that change from one minute to the next; the search space must not depend on them.
const VOLATILE: [&str; 5] = ["available", "bandwidth", "bytes_per_s", "load", "free"];

/// Bytes of weights that a shelf keeps, unless one trial alone needs more.
const SHELF_BYTES: u64 = 8 << 30;

/// Everything that trials need, opened once. What configurations have in common, variants and what was collected on
/// calibration text, they share while it lives.
pub struct Workbench {
    pub(crate) rig: Rig,
    base: Variant,
    surroundings: Surroundings,
    /// Tokens of the calibration text, once they were needed.
    text: Option<Arc<[u32]>>,
    made: Made,
    /// Where trials are kept for other processes, or why they cannot be.
    shelf: Result<Shelf, String>,
}

/// The text of every row, as tokens, up to a number.
fn text_tokens(data: &Dataset, tokenizer: &Tokenizer, limit: usize) -> Result<Vec<u32>, Fault> {
    let mut tokens = Vec::new();
    for i in 0..data.len() {
        let row: serde_json::Value = serde_json::from_str(data.row(i)).map_err(|e| Fault::invalid(e.to_string()))?;
        let text = row.get("text").and_then(|t| t.as_str()).ok_or_else(|| {
            Fault::invalid(format!("data set `{}`, row {i}: calibration needs a `text` in each row", data.name()))
        })?;
        tokens.extend(tokenizer.encode(text, false).map_err(|e| Fault::invalid(e.to_string()))?);
        if tokens.len() >= limit {
            break;
        }
    }
    tokens.truncate(limit);
    Ok(tokens)
}

fn scenario_facts(scenario: &Scenario) -> [Setting; 3] {
    [
        Setting::new("scenario.prompt_tokens", i64::from(scenario.prompt_tokens)),
        Setting::new("scenario.output_tokens", i64::from(scenario.output_tokens)),
        Setting::new("scenario.batch", i64::from(scenario.batch)),
    ]
}

impl Workbench {
    /// Opens model, plugins and data; `observer` hears what plugins say.
    pub fn open(setup: &Setup, observer: Option<Observer>) -> Result<Self, Fault> {
        let found = Found::open(setup, observer)?;
        let base = built(&found.catalog, &found.checkpoint, setup.reference)?;
        let rig = Rig::new(setup, found)?;
        let companions = companions::opened(&rig, &setup.companions)?;
        let mut facts: Settings =
            base.graph().facts().map(|f| Setting::new(format!("model.{}", f.name), f.value.clone())).collect();
        facts.0.extend(scenario_facts(&setup.scenario));
        if let Some(training) = &setup.training {
            facts.set("training.data", training.data.display().to_string());
        }
        if !companions.is_empty() {
            facts.set("companions", Value::Texts(companions.keys().cloned().collect()));
        }
        for fact in HardwareProfile::read().facts() {
            if !VOLATILE.iter().any(|word| fact.name.contains(word)) {
                let value = match fact.value {
                    aehost_meter::hardware::FactValue::Number(n) => Value::Real(n),
                    aehost_meter::hardware::FactValue::Text(t) => Value::Text(t),
                };
                facts.set(&fact.name, value);
            }
        }
        let shelf = Err("it was given no folder for them".to_owned());
        let device = Some(rig.device.clone());
        let surroundings = Surroundings {
            device,
            calibration: None,
            trainer: None,
            fidelity: Fidelity::default(),
            companions: Arc::new(companions),
            facts,
        };
        // In all, preparing takes about twice what the model does.
        let made = Made::new(base.weight_bytes() as usize / 2);
        Ok(Self { rig, base, surroundings, text: None, made, shelf })
    }

    /// The calibration text, which is read when it is first needed: to answer a prompt takes none.
    pub(crate) fn text(&mut self) -> Result<Arc<[u32]>, Fault> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let Setup { calibration, threads, .. } = &self.rig.setup;
        let text = match calibration {
            Some(calibration) => {
                let data = Dataset::open(&calibration.data).map_err(unreadable)?;
                text_tokens(&data, &*self.rig.tokenizer()?, calibration.tokens)?
            }
            None => vec![],
        };
        if !text.is_empty() {
            let calibration = Calibration::new(text.clone(), self.base.clone(), self.rig.device.clone(), *threads);
            let calibration = calibration.on_release(|| _ = aehost_meter::memory::trim());
            self.surroundings.calibration = Some(Arc::new(calibration));
        }
        Ok(self.text.insert(text.into()).clone())
    }

    /// Data that quality is measured on.
    fn evaluated(&self) -> Vec<Arc<Dataset>> {
        self.rig.data.values().cloned().collect()
    }

    /// What techniques need besides the model, ready.
    fn surround(&mut self) -> Result<(), Fault> {
        self.text()?;
        if let (Some(training), None) = (&self.rig.setup.training, &self.surroundings.trainer) {
            let data = self.evaluated();
            let trainer = trainer(training, &self.base, self.rig.setup.threads, self.rig.tokenizer()?, data);
            self.surroundings.trainer = Some(Arc::new(trainer));
        }
        Ok(())
    }

    /// Keeps what it prepares in a folder from now on.
    pub(crate) fn keep_in(&mut self, folder: &Path) {
        self.shelf = Shelf::open(folder, SHELF_BYTES).map_err(|e| format!("cannot use {}: {e}", folder.display()));
    }

    /// What was found: the search space above all.
    pub fn describe(&mut self) -> Result<Description, Fault> {
        // What cannot be read is told now.
        self.rig.tokenizer()?;
        self.text()?;
        if let Some(training) = &self.rig.setup.training {
            opened(&training.data, &self.evaluated())?;
        }
        let mut space = Vec::new();
        let mut not_applicable = Vec::new();
        for technique in self.rig.catalog.techniques() {
            match technique.parameters(&self.base, &self.surroundings.facts) {
                Ok(parameters) => {
                    space.push(TechniqueSpace { description: technique.description().clone(), parameters })
                }
                Err(f) if f.code == aehost_common::Code::NotApplicable => {
                    not_applicable.push((technique.description().identity.id.clone(), f.full()));
                }
                Err(f) => return Err(f),
            }
        }
        let plugins = self
            .rig
            .catalog
            .plugins()
            .map(|p| aehost_study::PluginRecord {
                id: p.id.clone(),
                kind: p.kind,
                version: p.version.clone(),
                stage: p.stage,
                digest: p.digest.clone(),
                path: p.path.display().to_string(),
            })
            .collect();
        let evaluated = self.rig.setup.evaluators.iter().flat_map(|e| {
            e.description.metrics.iter().map(|m| Metric { name: format!("{}.{}", e.label, m.name), ..m.clone() })
        });
        let companion_digest = |path: &PathBuf| {
            let companion = &self.surroundings.companions[&companions::name(path)];
            companion.checkpoint().digest().map_err(unreadable)
        };
        let companion_digests = self.rig.setup.companions.iter().map(companion_digest).collect::<Result<_, _>>()?;
        Ok(Description {
            model_digest: self.rig.checkpoint.digest().map_err(|e| Fault::invalid(e.to_string()))?,
            companion_digests,
            reference: self.reference(),
            model_facts: self.base.graph().facts().cloned().collect(),
            hardware: serde_json::to_value(HardwareProfile::probe()).expect("a hardware profile has a JSON form"),
            hardware_facts: self
                .surroundings
                .facts
                .iter()
                .filter(|f| f.name.starts_with("hardware."))
                .cloned()
                .collect(),
            space,
            not_applicable,
            plugins,
            metrics: metrics::built_in()
                .into_iter()
                .chain(self.rig.setup.training.as_ref().map(|_| metrics::of_training()))
                .chain(evaluated)
                .collect(),
        })
    }

    /// How the reference was made, in words: most of the checkpoint's weight bytes decide what the file is called.
    fn reference(&self) -> String {
        let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in self.rig.checkpoint.tensors() {
            *bytes.entry(tensor.encoding.name()).or_default() += tensor.size_bytes();
        }
        let mut kinds: Vec<(&str, usize)> = bytes.into_iter().collect();
        kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
        let kinds: Vec<&str> = kinds.into_iter().map(|k| k.0).filter(|k| *k != "F32").collect();
        let file = if kinds.is_empty() { "F32".to_owned() } else { kinds.join(" and ") };
        match self.rig.setup.reference {
            Some(ty) => format!("the {file} file, its matrices as {}", ty.name()),
            None => format!("the {file} file as it is"),
        }
    }

    /// The variant that a configuration makes. Configurations with a common beginning share its work.
    pub fn variant(&mut self, configuration: &Configuration) -> Result<Variant, Fault> {
        Ok(self.trained(configuration, 1.0)?.0)
    }

    /// The same with a share of calibration and training, and how losses fell in what was trained on the way to it.
    pub fn trained(&mut self, configuration: &Configuration, fidelity: f64) -> Result<(Variant, Vec<Curve>), Fault> {
        let choices = &configuration.0;
        if !choices.is_empty() {
            self.surround()?;
        }
        self.surroundings.fidelity = Fidelity(fidelity);
        let nothing = || (0, (self.base.clone(), vec![]));
        let (start, (mut variant, mut curves)) = self.made.beginning(choices, fidelity).unwrap_or_else(nothing);
        for (i, choice) in choices.iter().enumerate().skip(start) {
            let technique = self.rig.catalog.technique(&choice.technique).map_err(|e| Fault::invalid(e.to_string()))?;
            let applied = technique.apply(&mut variant, &self.surroundings, &choice.settings);
            if let Some(calibration) = &self.surroundings.calibration {
                calibration.release_reference();
            }
            applied?;
            curves.extend(self.surroundings.trainer.iter().flat_map(|trainer| trainer.take_curves()));
            self.made.keep(&choices[..=i], fidelity, (variant.clone(), curves.clone()));
        }
        Ok((variant, curves))
    }

    /// A configuration, ready to run.
    pub fn language_model(&mut self, configuration: &Configuration) -> Result<LanguageModel, Fault> {
        let variant = self.variant(configuration)?;
        self.rig.load(&variant)
    }

    /// Metrics that follow without running: bytes of weights and caches.
    pub fn predict(&mut self, configuration: &Configuration, fidelity: f64) -> Result<BTreeMap<String, f64>, Fault> {
        let (variant, _) = self.trained(configuration, fidelity)?;
        Ok(self.rig.predict(&variant))
    }

    /// Applies a configuration, and keeps what it makes for another process to measure. Weights that were kept before, for
    /// whichever configuration, are not encoded again.
    pub(crate) fn prepare(
        &mut self,
        configuration: &Configuration,
        fidelity: f64,
        progress: &dyn Fn(Progress),
    ) -> (Result<Prepared, Fault>, Timings) {
        let mut watch = Stopwatch::default();
        let say = saying(progress);
        say("apply", "applying techniques");
        let made = watch.time("apply.techniques", || self.trained(configuration, fidelity));
        let prepared = made.and_then(|made| {
            say("apply", "encoding weights");
            watch.time("apply.encode", || self.save(configuration, fidelity, made))
        });
        // Another process is about to be measured: it may need what this one has freed.
        self.rig.checkpoint.release_pages();
        aehost_meter::memory::trim();
        (prepared, watch.0)
    }

    fn save(
        &mut self,
        configuration: &Configuration,
        fidelity: f64,
        (variant, training): (Variant, Vec<Curve>),
    ) -> Result<Prepared, Fault> {
        let text = self.text()?;
        let shelf = match &mut self.shelf {
            Ok(shelf) => shelf,
            Err(why) => return Ok(Prepared::NotKept(why.clone())),
        };
        let threads = self.rig.setup.threads;
        shelf.turn();
        let base = self.base.save(shelf, threads);
        match base.and_then(|base| variant.save(shelf, threads).map(|variant| (base, variant))) {
            Ok((base, variant)) => {
                let scenario = &self.rig.setup.scenario;
                let tokens = scenario.prompt_tokens as usize * scenario.batch as usize;
                let text = text.iter().copied().take(tokens).collect();
                let shelf = shelf.folder().to_owned();
                // From now on its numbers are read from there.
                let restored = self.base.restored(&variant, &shelf)?;
                self.made.keep(&configuration.0, fidelity, (restored, training.clone()));
                Ok(Prepared::Kept(Box::new(SavedTrial { base, variant, shelf, text, training })))
            }
            Err(EngineError::Disk(why)) => Ok(Prepared::NotKept(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// One whole trial in this process.
    pub(crate) fn run(&mut self, job: &Job, progress: &dyn Fn(Progress)) -> (Outcome, Timings) {
        let mut watch = Stopwatch::default();
        saying(progress)("apply", "applying techniques");
        let made = watch.time("apply.techniques", || self.trained(&job.configuration, job.fidelity));
        let measured = made.and_then(|(variant, training)| {
            let text = self.text()?;
            let subject = Subject { base: &self.base, variant: &variant, text: &text };
            let measured = self.rig.run(&subject, &job.items, &mut watch, progress)?;
            Ok(self.rig.with_training(measured, training))
        });
        (measured.map_or_else(Outcome::from_fault, |measurements| Outcome::Ok { measurements }), watch.0)
    }

    /// Speed and memory on their own, as `aehost bench` prints them.
    pub fn bench(&mut self, configuration: &Configuration, plan: &BenchPlan) -> Result<BenchResult, Fault> {
        let start = Instant::now();
        let variant = self.variant(configuration)?;
        let apply_ms = start.elapsed().as_secs_f64() * 1e3;
        let text = self.text()?;
        crate::bench::bench(&self.rig, &variant, &text, apply_ms, plan)
    }

    /// Quality on its own, as `aehost evaluate` prints it.
    pub fn evaluate_configuration(
        &mut self,
        configuration: &Configuration,
        items: &[Items],
    ) -> Result<Measurements, Fault> {
        let model = Arc::new(self.language_model(configuration)?);
        self.rig.evaluate(&model, &self.base, items, &mut Stopwatch::default(), &|_, _| {})
    }

    /// What was loaded.
    pub fn plugins(&self) -> impl Iterator<Item = &aehost_plugins::PluginInfo> {
        self.rig.catalog.plugins()
    }
}

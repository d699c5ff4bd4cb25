//! A model, plugins and a device in one process: makes variants, predicts, measures and evaluates them.

use crate::bench::{BenchPlan, BenchResult};
use crate::setup::{Description, Setup};
use aehost_common::{Fault, Metric, PluginKind, Setting, Settings, Value};
use aehost_engine::{Calibration, Device, LanguageModel, Variant};
use aehost_formats::{Checkpoint, Dataset, Tokenizer};
use aehost_meter::HardwareProfile;
use aehost_plugins::{Baseline, Catalog, Observer, Options};
use aehost_study::{
    Configuration, Items, Measurement, Measurements, Outcome, Progress, Provenance, Scenario, TechniqueSpace, Timings,
    metrics,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Facts that change from one minute to the next; the search space must not depend on them.
const VOLATILE: [&str; 5] = ["available", "bandwidth", "bytes_per_s", "load", "free"];

/// Everything a trial needs, opened once.
pub struct Workbench {
    pub(crate) setup: Setup,
    catalog: Catalog,
    checkpoint: Arc<Checkpoint>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) device: Device,
    base: Variant,
    calibration: Option<Arc<Calibration>>,
    pub(crate) text: Vec<u32>,
    facts: Settings,
    pub(crate) hardware: HardwareProfile,
    data: HashMap<String, Arc<Dataset>>,
    /// Variants by the configuration that made them; descriptions of weights, not numbers.
    variants: HashMap<String, Variant>,
}

/// Seconds by phase, added up.
#[derive(Default)]
pub(crate) struct Stopwatch(pub Timings);

impl Stopwatch {
    /// Runs work and adds its time to a phase.
    pub fn time<R>(&mut self, phase: &str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        *self.0.0.entry(phase.to_owned()).or_default() += start.elapsed().as_secs_f64();
        result
    }
}

fn key(configuration: &[aehost_study::Choice]) -> String {
    serde_json::to_string(configuration).expect("a configuration has a JSON form")
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
        let format = |e: aehost_formats::FormatError| Fault::invalid(e.to_string());
        let device = aehost_engine::device(&setup.device)?;
        let checkpoint = Arc::new(Checkpoint::open(&setup.model_path).map_err(format)?);
        let options = Options {
            granted: setup.granted.clone(),
            cache: setup.plugin_cache.clone(),
            observer,
            ..Options::default()
        };
        let catalog = Catalog::load(&setup.plugin_dirs, &options).map_err(|e| Fault::invalid(e.to_string()))?;
        let family = catalog
            .family_for(checkpoint.architecture().map_err(format)?)
            .map_err(|e| Fault::unsupported(e.to_string()))?;
        let mut base = Variant::new(checkpoint.clone(), setup.reference);
        family.build(&checkpoint, &mut base)?;
        base.check()?;
        let tokenizer = Arc::new(checkpoint.tokenizer().map_err(format)?);
        let hardware = HardwareProfile::probe();
        let mut facts: Settings =
            base.graph().facts().map(|f| Setting::new(format!("model.{}", f.name), f.value.clone())).collect();
        facts.0.extend(scenario_facts(&setup.scenario));
        for fact in hardware.facts() {
            if !VOLATILE.iter().any(|word| fact.name.contains(word)) {
                let value = match fact.value {
                    aehost_meter::hardware::FactValue::Number(n) => Value::Real(n),
                    aehost_meter::hardware::FactValue::Text(t) => Value::Text(t),
                };
                facts.set(&fact.name, value);
            }
        }
        let mut data = HashMap::new();
        for evaluator in &setup.evaluators {
            catalog.evaluator(&evaluator.id).map_err(|e| Fault::invalid(e.to_string()))?;
            if !data.contains_key(&evaluator.data) {
                let opened = Dataset::open(evaluator.data.as_ref()).map_err(format)?;
                data.insert(evaluator.data.clone(), Arc::new(opened));
            }
        }
        let text = match &setup.calibration {
            Some(calibration) => {
                text_tokens(&Dataset::open(&calibration.data).map_err(format)?, &tokenizer, calibration.tokens)?
            }
            None => vec![],
        };
        let calibration = (!text.is_empty())
            .then(|| Arc::new(Calibration::new(text.clone(), base.clone(), device.clone(), setup.threads)));
        Ok(Self {
            setup: setup.clone(),
            catalog,
            checkpoint,
            tokenizer,
            device,
            base,
            calibration,
            text,
            facts,
            hardware,
            data,
            variants: HashMap::new(),
        })
    }

    /// What was found: the search space above all.
    pub fn describe(&self) -> Result<Description, Fault> {
        let mut space = Vec::new();
        let mut not_applicable = Vec::new();
        for technique in self.catalog.techniques() {
            match technique.parameters(&self.base, &self.facts) {
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
        let evaluated = self.setup.evaluators.iter().flat_map(|e| {
            e.description.metrics.iter().map(|m| Metric { name: format!("{}.{}", e.label, m.name), ..m.clone() })
        });
        Ok(Description {
            model_digest: self.checkpoint.digest().map_err(|e| Fault::invalid(e.to_string()))?,
            reference: self.reference(),
            model_facts: self.base.graph().facts().cloned().collect(),
            hardware: serde_json::to_value(&self.hardware).expect("a hardware profile has a JSON form"),
            hardware_facts: self.facts.iter().filter(|f| f.name.starts_with("hardware.")).cloned().collect(),
            space,
            not_applicable,
            plugins,
            metrics: metrics::built_in().into_iter().chain(evaluated).collect(),
        })
    }

    /// How the reference was made, in words: most of the checkpoint's weight bytes decide what the file is called.
    fn reference(&self) -> String {
        let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in self.checkpoint.tensors() {
            *bytes.entry(tensor.encoding.name()).or_default() += tensor.size_bytes();
        }
        let mut kinds: Vec<(&str, usize)> = bytes.into_iter().collect();
        kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
        let kinds: Vec<&str> = kinds.into_iter().map(|k| k.0).filter(|k| *k != "F32").collect();
        let file = if kinds.is_empty() { "F32".to_owned() } else { kinds.join(" and ") };
        match self.setup.reference {
            Some(ty) => format!("the {file} file, its matrices as {}", ty.name()),
            None => format!("the {file} file as it is"),
        }
    }

    /// The variant that a configuration makes. Configurations with a common beginning share work while this process lives.
    pub fn variant(&mut self, configuration: &Configuration) -> Result<Variant, Fault> {
        let choices = &configuration.0;
        let start = (1..=choices.len()).rev().find(|n| self.variants.contains_key(&key(&choices[..*n]))).unwrap_or(0);
        let mut variant = if start == 0 { self.base.clone() } else { self.variants[&key(&choices[..start])].clone() };
        for (i, choice) in choices.iter().enumerate().skip(start) {
            let technique = self.catalog.technique(&choice.technique).map_err(|e| Fault::invalid(e.to_string()))?;
            technique.apply(&mut variant, self.calibration.as_ref(), &self.device, &self.facts, &choice.settings)?;
            if self.variants.len() >= 256 {
                self.variants.clear();
            }
            self.variants.insert(key(&choices[..=i]), variant.clone());
        }
        Ok(variant)
    }

    /// A configuration, ready to run.
    pub fn language_model(&mut self, configuration: &Configuration) -> Result<LanguageModel, Fault> {
        let variant = self.variant(configuration)?;
        self.load(&variant)
    }

    pub(crate) fn load(&self, variant: &Variant) -> Result<LanguageModel, Fault> {
        let model = LanguageModel::new(variant, self.tokenizer.clone(), &self.device, self.setup.threads)?;
        // What encoding needed is not part of the model: neither its temporaries nor the file's pages.
        self.checkpoint.release_pages();
        aehost_meter::memory::trim();
        Ok(model)
    }

    /// Metrics that follow without running: bytes of weights and caches.
    pub fn predict(&mut self, configuration: &Configuration) -> Result<BTreeMap<String, f64>, Fault> {
        let variant = self.variant(configuration)?;
        Ok(self.predict_variant(&variant))
    }

    pub(crate) fn predict_variant(&self, variant: &Variant) -> BTreeMap<String, f64> {
        let scenario = &self.setup.scenario;
        let tokens = u64::from(scenario.prompt_tokens) + u64::from(scenario.output_tokens);
        BTreeMap::from([
            (metrics::WEIGHTS_MEMORY.to_owned(), variant.weight_bytes() as f64),
            (metrics::CACHE_MEMORY.to_owned(), variant.cache_bytes(u64::from(scenario.batch), tokens) as f64),
        ])
    }

    /// One whole trial.
    pub fn run(
        &mut self,
        configuration: &Configuration,
        items: &[Items],
        progress: &dyn Fn(Progress),
    ) -> (Outcome, Timings) {
        let mut watch = Stopwatch::default();
        let outcome = match self.trial(configuration, items, progress, &mut watch) {
            Ok(measurements) => Outcome::Ok { measurements },
            Err(fault) => Outcome::from_fault(fault),
        };
        (outcome, watch.0)
    }

    fn trial(
        &mut self,
        configuration: &Configuration,
        items: &[Items],
        progress: &dyn Fn(Progress),
        watch: &mut Stopwatch,
    ) -> Result<Measurements, Fault> {
        let say = |phase: &str, what: &str| progress(Progress { phase: phase.into(), what: what.into(), done: None });
        say("apply", "applying techniques");
        let variant = watch.time("apply.techniques", || self.variant(configuration))?;
        say("apply", "encoding and loading weights");
        let model = Arc::new(watch.time("apply.load", || self.load(&variant))?);
        let mut measurements = self.measure(&model, &variant, watch, &say)?;
        let evaluated = self.evaluate(&model, items, watch, &say)?;
        measurements.metrics.extend(evaluated.metrics);
        measurements.warnings.extend(evaluated.warnings);
        Ok(measurements)
    }

    /// Quality of a model on the chosen items of each evaluator's data.
    pub(crate) fn evaluate(
        &self,
        model: &Arc<LanguageModel>,
        items: &[Items],
        watch: &mut Stopwatch,
        say: &dyn Fn(&str, &str),
    ) -> Result<Measurements, Fault> {
        let mut measurements = Measurements::default();
        let baseline = self.baseline();
        for used in &self.setup.evaluators {
            let Some(items) = items.iter().find(|i| i.evaluator == used.label) else { continue };
            let data = &self.data[&used.data];
            let subset = aehost_study::subset(data.len() as u32, items.count, items.seed);
            say("evaluate", &format!("{} on {} items", used.label, subset.len()));
            let evaluator = self.catalog.evaluator(&used.id).map_err(|e| Fault::invalid(e.to_string()))?;
            let results = watch.time(&format!("evaluate.{}", used.label), || {
                evaluator.evaluate(model, &baseline, data, &subset, &used.settings)
            })?;
            for result in results {
                let declared = used.description.metrics.iter().find(|m| m.name == result.metric);
                let declared = declared.ok_or_else(|| {
                    Fault::internal(format!("{} measured the undeclared `{}`", used.id, result.metric))
                })?;
                let estimate = aehost_study::transformed_mean(&result.samples, &result.weights, &result.transform);
                let measurement = Measurement {
                    value: result.value,
                    unit: declared.unit.clone(),
                    direction: declared.direction,
                    standard_error: estimate.map_or(0.0, |e| e.standard_error),
                    samples: result.samples,
                    weights: result.weights,
                    transform: result.transform,
                    provenance: Provenance::Measured,
                };
                measurements.metrics.insert(format!("{}.{}", used.label, result.metric), measurement);
            }
        }
        Ok(measurements)
    }

    /// Makes the reference when an evaluator first compares with it, once an evaluation.
    fn baseline(&self) -> Baseline {
        let (variant, tokenizer, device, threads) =
            (self.base.clone(), self.tokenizer.clone(), self.device.clone(), self.setup.threads);
        let made: std::sync::Mutex<Option<Arc<LanguageModel>>> = std::sync::Mutex::default();
        Arc::new(move || {
            let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if made.is_none() {
                *made = Some(Arc::new(LanguageModel::new(&variant, tokenizer.clone(), &device, threads)?));
            }
            Ok(made.clone().expect("it was just made"))
        })
    }

    /// Speed and memory on their own, as `aehost bench` prints them.
    pub fn bench(&mut self, configuration: &Configuration, plan: &BenchPlan) -> Result<BenchResult, Fault> {
        let variant = self.variant(configuration)?;
        crate::bench::bench(self, &variant, plan)
    }

    /// Quality on its own, as `aehost evaluate` prints it.
    pub fn evaluate_configuration(
        &mut self,
        configuration: &Configuration,
        items: &[Items],
    ) -> Result<Measurements, Fault> {
        let model = Arc::new(self.language_model(configuration)?);
        self.evaluate(&model, items, &mut Stopwatch::default(), &|_, _| {})
    }

    /// What was loaded, of one kind.
    pub fn plugins(&self, kind: PluginKind) -> impl Iterator<Item = &aehost_plugins::PluginInfo> {
        self.catalog.plugins().filter(move |p| p.kind == kind)
    }
}

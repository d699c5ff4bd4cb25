//! What one trial is measured and evaluated with: the checkpoint, its tokenizer, the evaluators and their data. It neither
//! applies techniques nor knows of any.

use crate::protocol::SavedTrial;
use crate::setup::Setup;
use aehost_common::{Curve, Fault, Metric};
use aehost_engine::{Device, FloatType, LanguageModel, Model, Variant};
use aehost_formats::{Checkpoint, Dataset, FormatError, Tokenizer};
use aehost_plugins::{Baseline, Catalog, Observer, Options};
use aehost_study::{Items, Measurement, Measurements, Outcome, Progress, Provenance, Timings, metrics};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// Opened once, for one trial or many.
pub(crate) struct Rig {
    pub setup: Setup,
    pub catalog: Catalog,
    pub checkpoint: Arc<Checkpoint>,
    tokenizer: Awaited<Result<Arc<Tokenizer>, Fault>>,
    pub device: Device,
    pub data: HashMap<String, Arc<Dataset>>,
}

/// What another thread reads meanwhile; it is waited for when it is first needed.
type Awaited<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

fn begin(checkpoint: Arc<Checkpoint>) -> Awaited<Result<Arc<Tokenizer>, Fault>> {
    let reader = std::thread::spawn(move || checkpoint.tokenizer().map(Arc::new).map_err(unreadable));
    LazyLock::new(Box::new(move || {
        reader.join().unwrap_or_else(|_| Err(Fault::internal("the thread that reads the tokenizer panicked")))
    }))
}

/// A variant to be measured.
pub(crate) struct Subject<'a> {
    /// The study's base model.
    pub base: &'a Variant,
    pub variant: &'a Variant,
    /// What the prompts of the scenario are made of.
    pub text: &'a [u32],
}

/// Seconds by phase, added up.
#[derive(Default)]
pub(crate) struct Stopwatch(pub Timings);

impl Stopwatch {
    /// Runs work and adds its time to a phase.
    pub fn time<R>(&mut self, phase: &str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.0.add(phase, start.elapsed().as_secs_f64());
        result
    }
}

/// An error of a file as the fault of whoever named it.
pub(crate) fn unreadable(error: FormatError) -> Fault {
    Fault::invalid(error.to_string())
}

/// Tells how far a trial is.
pub(crate) fn saying(progress: &dyn Fn(Progress)) -> impl Fn(&str, &str) {
    |phase, what| progress(Progress { phase: phase.into(), what: what.into(), done: None })
}

/// A checkpoint and the plugins that may know what it is.
pub(crate) struct Found {
    pub checkpoint: Arc<Checkpoint>,
    pub catalog: Catalog,
    tokenizer: Awaited<Result<Arc<Tokenizer>, Fault>>,
    device: Device,
}

impl Found {
    /// Opens checkpoint and plugins; `observer` hears what plugins say.
    pub fn open(setup: &Setup, observer: Option<Observer>) -> Result<Self, Fault> {
        let device = aehost_engine::device(&setup.device)?;
        let checkpoint = Arc::new(Checkpoint::open(&setup.model_path).map_err(unreadable)?);
        let tokenizer = begin(checkpoint.clone());
        let options = Options {
            granted: setup.granted.clone(),
            cache: setup.plugin_cache.clone(),
            observer,
            ..Options::default()
        };
        let catalog = Catalog::load(&setup.plugin_dirs, &options).map_err(|e| Fault::invalid(e.to_string()))?;
        Ok(Self { checkpoint, catalog, tokenizer, device })
    }
}

/// A checkpoint as its family builds it, its matrices as `reference`, or as the file has them.
pub(crate) fn built(
    catalog: &Catalog,
    checkpoint: &Arc<Checkpoint>,
    reference: Option<FloatType>,
) -> Result<Variant, Fault> {
    let architecture = checkpoint.architecture().map_err(unreadable)?;
    let family = catalog.family_for(architecture).map_err(|e| Fault::unsupported(e.to_string()))?;
    let mut variant = Variant::new(checkpoint.clone(), reference);
    family.build(checkpoint, &mut variant)?;
    variant.check()?;
    Ok(variant)
}

impl Rig {
    /// Opens the data, too.
    pub fn new(setup: &Setup, found: Found) -> Result<Self, Fault> {
        let Found { checkpoint, catalog, tokenizer, device } = found;
        let mut data = HashMap::new();
        for evaluator in &setup.evaluators {
            catalog.evaluator(&evaluator.id).map_err(|e| Fault::invalid(e.to_string()))?;
            if !data.contains_key(&evaluator.data) {
                let opened = Dataset::open(evaluator.data.as_ref()).map_err(unreadable)?;
                data.insert(evaluator.data.clone(), Arc::new(opened));
            }
        }
        Ok(Self { setup: setup.clone(), catalog, checkpoint, tokenizer, device, data })
    }

    /// The checkpoint's tokenizer.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>, Fault> {
        (*self.tokenizer).clone()
    }

    /// A variant in memory, ready to run.
    pub fn load(&self, variant: &Variant) -> Result<LanguageModel, Fault> {
        let model = Model::new(variant, &self.device, self.setup.threads)?;
        let mut model = LanguageModel::of(model, self.tokenizer()?);
        if model.model().takes_images() {
            let architecture = self.checkpoint.architecture().map_err(unreadable)?;
            let family = self.catalog.family_for(architecture).map_err(|e| Fault::unsupported(e.to_string()))?.clone();
            let of = variant.clone();
            model = model.with_images(variant, Arc::new(move |width, height| family.layout(&of, width, height)))?;
        }
        // What encoding needed is not part of the model: neither its temporaries nor the file's pages.
        self.checkpoint.release_pages();
        aehost_meter::memory::trim();
        Ok(model)
    }

    /// Metrics that follow without running: bytes of weights and caches.
    pub fn predict(&self, variant: &Variant) -> BTreeMap<String, f64> {
        let scenario = &self.setup.scenario;
        let tokens = u64::from(scenario.prompt_tokens) + u64::from(scenario.output_tokens);
        BTreeMap::from([
            (metrics::WEIGHTS_MEMORY.to_owned(), variant.weight_bytes() as f64),
            (metrics::CACHE_MEMORY.to_owned(), variant.cache_bytes(u64::from(scenario.batch), tokens) as f64),
        ])
    }

    /// One trial, but for the applying of techniques, which another process did.
    pub fn run_saved(&self, trial: &SavedTrial, items: &[Items], progress: &dyn Fn(Progress)) -> (Outcome, Timings) {
        let mut watch = Stopwatch::default();
        let measured = (|| {
            let SavedTrial { base, variant, shelf, text, training } = trial;
            let empty = Variant::new(self.checkpoint.clone(), self.setup.reference);
            let restored = |saved| empty.restored(saved, Path::new(shelf)).map_err(Fault::from);
            let (base, variant) = (restored(base)?, restored(variant)?);
            let subject = Subject { base: &base, variant: &variant, text };
            let measured = self.run(&subject, items, &mut watch, progress)?;
            Ok(self.with_training(measured, training.clone()))
        })();
        (measured.map_or_else(Outcome::from_fault, |measurements| Outcome::Ok { measurements }), watch.0)
    }

    /// The same, with how losses fell and what that took.
    pub fn with_training(&self, mut measured: Measurements, curves: Vec<Curve>) -> Measurements {
        if self.setup.training.is_some() {
            let Metric { name, unit, direction } = metrics::of_training();
            let tokens: u64 = curves.iter().map(|curve| curve.tokens).sum();
            measured.metrics.insert(name, Measurement::exact(tokens as f64, &unit, direction));
        }
        Measurements { training: curves, ..measured }
    }

    /// Loads, measures and evaluates a variant.
    pub fn run(
        &self,
        subject: &Subject<'_>,
        items: &[Items],
        watch: &mut Stopwatch,
        progress: &dyn Fn(Progress),
    ) -> Result<Measurements, Fault> {
        let say = saying(progress);
        say("apply", "loading weights");
        let model = Arc::new(watch.time("apply.load", || self.load(subject.variant))?);
        let mut measurements = self.measure(&model, subject, watch, &say)?;
        let evaluated = self.evaluate(&model, subject.base, items, watch, &say)?;
        measurements.metrics.extend(evaluated.metrics);
        measurements.warnings.extend(evaluated.warnings);
        Ok(measurements)
    }

    /// Quality of a model on the chosen items of each evaluator's data.
    pub fn evaluate(
        &self,
        model: &Arc<LanguageModel>,
        base: &Variant,
        items: &[Items],
        watch: &mut Stopwatch,
        say: &dyn Fn(&str, &str),
    ) -> Result<Measurements, Fault> {
        let mut measurements = Measurements::default();
        let baseline = self.baseline(base);
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
    fn baseline(&self, base: &Variant) -> Baseline {
        let (variant, tokenizer, device, threads) =
            (base.clone(), self.tokenizer(), self.device.clone(), self.setup.threads);
        let made: std::sync::Mutex<Option<Arc<LanguageModel>>> = std::sync::Mutex::default();
        Arc::new(move || {
            let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if made.is_none() {
                *made = Some(Arc::new(LanguageModel::new(&variant, tokenizer.clone()?, &device, threads)?));
            }
            Ok(made.clone().expect("it was just made"))
        })
    }
}

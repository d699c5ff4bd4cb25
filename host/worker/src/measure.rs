//! A trial's latency, memory and energy on the device, while nothing else of aehost runs on it.

use crate::rig::{Rig, Stopwatch, Subject};
use aehost_common::{Direction, Fault};
use aehost_engine::{Cache, Continuation, EngineError, LanguageModel, Model, Part, Rows, Sequence};
use aehost_meter::energy::Windows;
use aehost_meter::latency::{self, LatencyError, Plan, Workload};
use aehost_meter::{DeviceLease, Energy, EnergyMeter, OtherWork, PeakMemory, PowerModel, Reading, Summary, noise};
use aehost_study::{Measurement, Measurements, Provenance, metrics};
use std::ops::ControlFlow;
use std::time::Duration;

/// The study's scenario as work: a batch of prompts of real text, then greedy decoding to a fixed length.
pub(crate) struct Scenario<'a> {
    pub model: &'a Model,
    pub prompts: Vec<Vec<u32>>,
    pub output_tokens: usize,
    /// Of the last time that it was generated.
    pub tokens_per_step: f64,
}

impl<'a> Scenario<'a> {
    /// Prompts from calibration text where there is some, else tokens spread over the vocabulary.
    pub fn new(model: &'a Model, text: &[u32], prompt_tokens: usize, output_tokens: usize, batch: usize) -> Self {
        let vocabulary = model.vocabulary().max(1);
        let token = |i: usize| match text.len() {
            0 => (i.wrapping_mul(2_654_435_761) % vocabulary) as u32,
            n => text[i % n],
        };
        let prompts = (0..batch).map(|b| (0..prompt_tokens).map(|i| token(b * prompt_tokens + i)).collect()).collect();
        Self { model, prompts, output_tokens, tokens_per_step: 1.0 }
    }

    /// Fills caches with the prompts in chunks, all sequences together; gives the first new token of each.
    pub fn prefill(&self, caches: &mut [Cache]) -> Result<Vec<u32>, EngineError> {
        let length = self.prompts.first().map_or(0, Vec::len);
        let chunk = (self.model.prefill_chunk() / self.prompts.len().max(1)).max(1);
        let mut next = Vec::new();
        for start in (0..length).step_by(chunk) {
            let end = (start + chunk).min(length);
            let rows = if end == length { Rows::Last } else { Rows::None };
            let mut sequences: Vec<Sequence<'_>> = self
                .prompts
                .iter()
                .zip(caches.iter_mut())
                .map(|(p, cache)| Sequence { tokens: &p[start..end], branches: None, cache, rows: rows.clone() })
                .collect();
            let logits = self.model.forward(&mut sequences)?;
            if end == length {
                next = greedy(&logits)?;
            }
        }
        Ok(next)
    }

    /// Decodes after the prompts, from the first new token of each on, to the length that is wanted.
    pub fn decode(&mut self, caches: Vec<Cache>, next: Vec<u32>, on_step: &mut dyn FnMut()) -> Result<(), EngineError> {
        let runs = self.prompts.iter().zip(caches).zip(next);
        let mut runs: Vec<Continuation> = runs.map(|((p, cache), next)| Continuation::new(p, cache, next)).collect();
        let length = self.prompts.first().map_or(0, Vec::len);
        let made = |run: &Continuation| run.tokens().len() - length;
        let mut told = 1;
        while told < self.output_tokens {
            let mut parts = Vec::with_capacity(runs.len());
            for run in runs.iter_mut().filter(|run| made(run) < self.output_tokens) {
                parts.push(Part { most: self.output_tokens - made(run), continuation: run, drafts: true });
            }
            self.model.continue_all(&mut parts, &mut |_, logits| Ok(aehost_engine::greedy(logits)))?;
            // A step of the batch is done when the slowest sequence has its token.
            let slowest = runs.iter().map(made).min().unwrap_or(self.output_tokens);
            (told..slowest).for_each(|_| on_step());
            told = told.max(slowest);
        }
        let (steps, tokens) = runs.iter().map(Continuation::steps).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        self.tokens_per_step = tokens as f64 / steps.max(1) as f64;
        Ok(())
    }

    pub fn caches(&self) -> Vec<Cache> {
        let tokens = self.prompts.first().map_or(0, Vec::len) + self.output_tokens;
        let cache = || {
            let mut cache = self.model.cache();
            cache.reserve(tokens);
            cache
        };
        self.prompts.iter().map(|_| cache()).collect()
    }
}

fn greedy(logits: &aehost_engine::Tensor) -> Result<Vec<u32>, EngineError> {
    Ok(logits.argmax(aehost_engine::D::Minus1)?.to_vec1()?)
}

impl Workload for Scenario<'_> {
    type Error = EngineError;

    fn generate(&mut self, on_step: &mut dyn FnMut()) -> Result<u32, EngineError> {
        let mut caches = self.caches();
        let next = self.prefill(&mut caches)?;
        on_step();
        self.decode(caches, next, on_step)?;
        Ok(self.output_tokens as u32)
    }
}

fn counted(value: f64, unit: &str) -> Measurement {
    Measurement {
        value,
        unit: unit.into(),
        direction: Direction::Minimize,
        standard_error: 0.0,
        samples: vec![],
        weights: vec![],
        transform: "identity".into(),
        provenance: Provenance::Measured,
    }
}

fn summarised(summary: Summary, unit: &str, direction: Direction) -> Measurement {
    Measurement {
        direction,
        standard_error: summary.standard_error.unwrap_or(0.0),
        samples: summary.samples,
        ..counted(summary.median, unit)
    }
}

fn engine_fault(error: LatencyError<EngineError>) -> Fault {
    match error {
        LatencyError::Workload { cause, .. } => cause.into(),
        other => Fault::invalid(other.to_string()),
    }
}

impl Rig {
    /// Latency, memory and energy of a loaded model in the study's scenario.
    pub fn measure(
        &self,
        model: &LanguageModel,
        subject: &Subject<'_>,
        watch: &mut Stopwatch,
        say: &dyn Fn(&str, &str),
    ) -> Result<Measurements, Fault> {
        let scenario = &self.setup.scenario;
        let _lease = match self.setup.lease {
            false => None,
            true => Some(watch.time("wait.lease", || {
                DeviceLease::acquire(&self.setup.device, |waiting| {
                    say("measure", &waiting.to_string());
                    ControlFlow::Continue(())
                })
                .map_err(|e| Fault::invalid(e.to_string()))
            })?),
        };
        say("measure", "latency and memory");
        let mut result = Measurements::default();
        let mut work = Scenario::new(
            model.model(),
            subject.text,
            scenario.prompt_tokens as usize,
            scenario.output_tokens as usize,
            scenario.batch as usize,
        );
        let plan = Plan {
            warmup: scenario.warmup,
            batch: scenario.batch,
            ..Plan::new(scenario.prompt_tokens, scenario.output_tokens, scenario.repeats)
        };
        let (latency, peak, others) = watch.time("measure.latency", || {
            let (memory, others) = (PeakMemory::start(), OtherWork::start());
            let latency = latency::measure(&mut work, &plan).map_err(engine_fault);
            (latency, memory.finish(), others.and_then(|others| others.finish(self.setup.threads)))
        });
        let latency = latency?;
        let mut put = |name: &str, m: Measurement| result.metrics.insert(name.to_owned(), m);
        put("latency.ttft_ms", summarised(latency.ttft_ms, "ms", Direction::Minimize));
        put(metrics::END_TO_END, summarised(latency.e2e_ms, "ms", Direction::Minimize));
        put(
            "throughput.prefill_tokens_per_s",
            summarised(latency.prefill_tokens_per_s, "tokens/s", Direction::Maximize),
        );
        for (name, value) in self.predict(subject.variant) {
            put(&name, counted(value, "bytes"));
        }
        let single = "one token was generated: there is no decoding to time";
        match latency.tpot_ms {
            Some(tpot) => _ = put("latency.tpot_ms", summarised(tpot, "ms", Direction::Minimize)),
            None => _ = result.unavailable.insert("latency.tpot_ms".into(), single.into()),
        }
        match latency.decode_tokens_per_s {
            Some(decode) => {
                let name = "throughput.decode_tokens_per_s".to_owned();
                result.metrics.insert(name, summarised(decode, "tokens/s", Direction::Maximize));
            }
            None => _ = result.unavailable.insert("throughput.decode_tokens_per_s".into(), single.into()),
        }
        let per_step = "throughput.tokens_per_step".to_owned();
        match scenario.output_tokens > 1 {
            true => {
                let measured = counted(work.tokens_per_step, "tokens/step");
                result.metrics.insert(per_step, Measurement { direction: Direction::Maximize, ..measured });
            }
            false => _ = result.unavailable.insert(per_step, single.into()),
        }
        match peak {
            Reading::Measured { value, .. } => {
                result.metrics.insert(metrics::PEAK_MEMORY.into(), counted(value.peak_bytes as f64, "bytes"));
            }
            Reading::Unavailable { reason } => _ = result.unavailable.insert(metrics::PEAK_MEMORY.into(), reason),
        }
        let busy = others.and_then(noise::busy_machine);
        result.warnings.extend(busy.into_iter().chain(latency.warnings).map(|w| w.message));
        say("measure", "energy");
        self.measure_energy(&mut work, watch, &mut result)?;
        Ok(result)
    }

    fn measure_energy(
        &self,
        work: &mut Scenario<'_>,
        watch: &mut Stopwatch,
        result: &mut Measurements,
    ) -> Result<(), Fault> {
        let device = self
            .setup
            .device
            .parse()
            .map_err(|e: aehost_meter::device::UnknownDevice| Fault::invalid(e.to_string()))?;
        let declared = self.setup.energy.map(|e| PowerModel { watts_busy: e.watts_busy, watts_idle: e.watts_idle });
        let mut meter = EnergyMeter::open(device, declared).map_err(|e| Fault::invalid(e.to_string()))?;
        let windows = Windows { count: 3, length: Duration::from_secs(1) };
        let run = watch
            .time("measure.energy", || meter.measure(windows, || work.generate(&mut || {}).map(|_| ())))
            .map_err(Fault::from)?;
        let tokens = (work.output_tokens * work.prompts.len()).max(1) as f64;
        let name = metrics::ENERGY.to_owned();
        match run.energy {
            Energy::Unavailable { reason } => _ = result.unavailable.insert(name, reason),
            Energy::Measured { joules, .. } => {
                let samples: Vec<f64> =
                    run.joules.map(|s| s.samples.iter().map(|j| j / tokens).collect()).unwrap_or_default();
                let error = Summary::of(samples.clone()).and_then(|s| s.standard_error).unwrap_or(0.0);
                result
                    .metrics
                    .insert(name, Measurement { standard_error: error, samples, ..counted(joules / tokens, "J") });
            }
            Energy::Estimated { joules, formula, mut inputs } => {
                inputs.insert("generated_tokens".into(), tokens);
                let provenance = Provenance::Estimated { formula: format!("{formula} / generated_tokens"), inputs };
                result.metrics.insert(name, Measurement { provenance, ..counted(joules / tokens, "J") });
            }
        }
        Ok(())
    }
}

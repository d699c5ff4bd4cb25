//! Speed and memory of one configuration, phase by phase: what `aehost bench` prints and kept benches compare.

use crate::measure::Scenario;
use crate::rig::Rig;
use aehost_common::Fault;
use aehost_engine::{Image, LanguageModel, Variant};
use aehost_meter::hardware::{Arithmetic, Bandwidth, HardwareProfile};
use aehost_meter::{PeakMemory, Reading, Summary};
use serde::Serialize;
use std::time::Instant;

/// What to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchPlan {
    /// Tokens of the timed prompt.
    pub prompt_tokens: usize,
    /// Tokens generated after it.
    pub output_tokens: usize,
    /// Tokens in the cache before the timed prompt; not timed.
    pub depth: usize,
    /// Counted repeats, each with a model loaded afresh, after one that is discarded.
    pub repeat: usize,
    /// Pictures that are made rows of the stream, all together; none are timed where there are none.
    pub images: Vec<Image>,
}

/// What pictures take.
#[derive(Debug, Clone, Serialize)]
pub struct ImageFigures {
    /// Views that the pictures become.
    pub views: usize,
    /// Tokens that they are in a prompt.
    pub tokens: usize,
    /// From pixels in memory to the patches of all views.
    pub prepare_ms: Summary,
    /// From patches to rows of the stream: the encoder and what projects.
    pub encode_ms: Summary,
}

/// Samples of the same, repeat by repeat.
#[derive(Default)]
struct ImageSamples {
    views: usize,
    tokens: usize,
    prepare_ms: Vec<f64>,
    encode_ms: Vec<f64>,
}

impl ImageSamples {
    fn add(&mut self, language: &LanguageModel, images: &[Image]) -> Result<(), Fault> {
        let start = Instant::now();
        let mut views = Vec::new();
        for image in images {
            views.extend(language.views(image)?.1);
        }
        self.prepare_ms.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let encoded = language.model().encode_views(&views)?;
        self.encode_ms.push(start.elapsed().as_secs_f64() * 1e3);
        (self.views, self.tokens) = (views.len(), encoded.ids().iter().map(ExactSizeIterator::len).sum());
        Ok(())
    }

    fn figures(self) -> Option<ImageFigures> {
        let (prepare_ms, encode_ms) = (Summary::of(self.prepare_ms)?, Summary::of(self.encode_ms)?);
        Some(ImageFigures { views: self.views, tokens: self.tokens, prepare_ms, encode_ms })
    }
}

/// The figures of all repeats.
#[derive(Debug, Clone, Serialize)]
pub struct BenchResult {
    /// Prompt tokens over the time to the first token.
    pub prefill_tokens_per_second: Summary,
    /// Generated tokens after the first, over the time after the first; none when one token was asked for.
    pub decode_tokens_per_second: Option<Summary>,
    /// Time to first token.
    pub ttft_ms: Summary,
    /// Time per output token after the first; none when one token was asked for.
    pub tpot_ms: Option<Summary>,
    /// Tokens that a decoding step gave: more than one where drafts were kept.
    pub tokens_per_step: f64,
    /// From the model as it is to the configuration's, without encoding weights.
    pub apply_ms: f64,
    /// From an opened checkpoint to a model in memory.
    pub load_ms: Summary,
    /// Largest resident memory of the process while it generates; none where the system does not tell.
    pub peak_memory_bytes: Option<Summary>,
    /// What pictures take; absent where none were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageFigures>,
    /// How near the machine's limits that is; none where they cannot be measured.
    pub roofline: Option<Roofline>,
}

/// Limits of the machine, and the share of them that is reached.
#[derive(Debug, Clone, Serialize)]
pub struct Roofline {
    /// Reading memory, with as many threads.
    pub read_bytes_per_s: f64,
    /// Multiplications and additions, of float32 and of bytes, with AVX2 and as many threads.
    pub float32_operations_per_s: f64,
    /// As above.
    pub integer8_operations_per_s: f64,
    /// Weights, keys and values that a generated token reads once.
    pub decode_bytes_per_token: f64,
    /// Their share of the bandwidth; none when one token was asked for.
    pub decode_share: Option<f64>,
    /// Multiplications and additions with weights that a token of the prompt takes.
    pub prefill_operations_per_token: f64,
    /// The time that they would take at the peaks, as a share of the time that they took.
    pub prefill_share: f64,
}

impl Roofline {
    fn of(
        variant: &Variant,
        plan: &BenchPlan,
        (threads, bandwidth): (usize, &Bandwidth),
        prefill: f64,
        decode: Option<f64>,
    ) -> Option<Self> {
        let peaks = Arithmetic::probe(threads);
        let peaks = peaks.value()?;
        let read = if threads == 1 { bandwidth.read_one_thread_bytes_per_s } else { bandwidth.read_bytes_per_s };
        let middle = plan.depth + plan.prompt_tokens + plan.output_tokens / 2;
        let decode_bytes = variant.token_work(true).weight_bytes + variant.cache_bytes(1, middle as u64) as f64;
        let work = variant.token_work(false);
        let float = work.multiply_adds - work.integer_multiply_adds;
        let at_peak = 2.0 * float / peaks.float32_operations_per_s
            + 2.0 * work.integer_multiply_adds / peaks.integer8_operations_per_s;
        Some(Self {
            read_bytes_per_s: read,
            float32_operations_per_s: peaks.float32_operations_per_s,
            integer8_operations_per_s: peaks.integer8_operations_per_s,
            decode_bytes_per_token: decode_bytes,
            decode_share: decode.map(|decode| decode * decode_bytes / read),
            prefill_operations_per_token: 2.0 * work.multiply_adds,
            prefill_share: at_peak * prefill,
        })
    }
}

pub(crate) fn bench(
    rig: &Rig,
    variant: &Variant,
    text: &[u32],
    apply_ms: f64,
    plan: &BenchPlan,
) -> Result<BenchResult, Fault> {
    if plan.prompt_tokens == 0 || plan.output_tokens == 0 || plan.repeat == 0 {
        return Err(Fault::invalid("a bench needs at least 1 prompt token, 1 output token and 1 repeat"));
    }
    // Before anything is loaded: the memory that a probe takes must not add to the model's.
    let hardware = HardwareProfile::probe();
    let (mut load, mut ttft, mut tpot, mut peak) = (vec![], vec![], vec![], vec![]);
    let mut images = ImageSamples::default();
    let mut tokens_per_step = 1.0;
    for repeat in 0..=plan.repeat {
        let start = Instant::now();
        let model = rig.load(variant)?;
        let loaded = start.elapsed().as_secs_f64() * 1e3;
        let mut work = Scenario::new(model.model(), text, plan.depth + plan.prompt_tokens, plan.output_tokens, 1);
        let memory = PeakMemory::start();
        let mut caches = work.caches();
        let part =
            |tokens: &[u32]| Scenario { prompts: vec![tokens.to_vec()], ..Scenario::new(model.model(), &[], 0, 0, 0) };
        let (deep, prompt) = work.prompts[0].split_at(plan.depth);
        if plan.depth > 0 {
            part(deep).prefill(&mut caches)?;
        }
        let prompt = part(prompt);
        let start = Instant::now();
        let token = prompt.prefill(&mut caches)?;
        let first = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        work.decode(caches, token, &mut || {})?;
        let rest = start.elapsed().as_secs_f64() * 1e3;
        tokens_per_step = work.tokens_per_step;
        let highest = memory.finish();
        if !plan.images.is_empty() {
            // The first time memory is mapped, too.
            let mut discarded = ImageSamples::default();
            let samples = if repeat == 0 { &mut discarded } else { &mut images };
            samples.add(&model, &plan.images)?;
        }
        if repeat == 0 {
            continue;
        }
        load.push(loaded);
        ttft.push(first);
        if plan.output_tokens > 1 {
            tpot.push(rest / (plan.output_tokens - 1) as f64);
        }
        if let Reading::Measured { value, .. } = highest {
            peak.push(value.peak_bytes as f64);
        }
    }
    let all = |samples: Vec<f64>| Summary::of(samples).ok_or_else(|| Fault::internal("a bench has no samples"));
    let prefill = all(ttft.iter().map(|ms| plan.prompt_tokens as f64 / ms * 1e3).collect())?;
    let decode = Summary::of(tpot.iter().map(|ms| 1e3 / ms).collect());
    let threads = variant.policy().threads.unwrap_or(rig.setup.threads);
    // The weights are read once a step.
    let steps_per_second = decode.as_ref().map(|decode| decode.median / tokens_per_step);
    Ok(BenchResult {
        roofline: hardware
            .bandwidth
            .value()
            .and_then(|bandwidth| Roofline::of(variant, plan, (threads, bandwidth), prefill.median, steps_per_second)),
        prefill_tokens_per_second: prefill,
        decode_tokens_per_second: decode,
        ttft_ms: all(ttft)?,
        tpot_ms: Summary::of(tpot),
        tokens_per_step,
        apply_ms,
        load_ms: all(load)?,
        images: images.figures(),
        peak_memory_bytes: Summary::of(peak),
    })
}

//! Text generation, greedy or sampled, several prompts in one step.

use crate::decoding::{Continuation, Part};
use crate::images::PreparedImages;
use crate::language_model::{LanguageModel, Prompt, logits_rows};
use crate::{Cache, EngineError, Rows, Sequence};
use aehost_common::{Settings, Value};
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};

/// A prompt and how to go on: max-tokens, temperature (0 is greedy), top-k, top-p, seed, stop (texts).
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// What comes before.
    pub prompt: Prompt,
    /// The settings.
    pub settings: Settings,
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text, without the stop text.
    pub text: String,
    /// Tokens generated.
    pub tokens: u32,
    /// `stop` (a stop text or an end token) or `length`.
    pub finish: String,
}

struct Running {
    continuation: Continuation,
    sampler: LogitsProcessor,
    /// Whether the same logits always give the same token.
    greedy: bool,
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens accepted.
    tokens: usize,
    text: String,
    limit: usize,
    stops: Vec<String>,
    finish: Option<&'static str>,
}

/// Prompts that decode together.
const TOGETHER: usize = 16;
const KNOWN: [&str; 6] = ["max-tokens", "temperature", "top-k", "top-p", "seed", "stop"];

fn sampler(settings: &Settings) -> Result<LogitsProcessor, EngineError> {
    let real = |name: &str| settings.get(name).and_then(Value::as_real);
    let temperature = real("temperature").unwrap_or(0.0);
    let seed = settings.get("seed").and_then(Value::as_integer).unwrap_or(0) as u64;
    let (k, p) = (real("top-k").map(|k| k as usize), real("top-p"));
    if temperature < 0.0 || k == Some(0) || p.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(EngineError::Invalid(
            "temperature must be at least 0, top-k at least 1, and top-p from 0 to 1".into(),
        ));
    }
    let sampling = match (k, p) {
        _ if temperature == 0.0 => Sampling::ArgMax,
        (None, None) => Sampling::All { temperature },
        (Some(k), None) => Sampling::TopK { k, temperature },
        (None, Some(p)) => Sampling::TopP { p, temperature },
        (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
    };
    Ok(LogitsProcessor::from_sampling(seed, sampling))
}

impl LanguageModel {
    /// Generates for every request.
    pub fn generate(&self, requests: &[GenerationRequest]) -> Result<Vec<Generated>, EngineError> {
        self.generate_streaming(requests, &mut |_, _| true)
    }

    /// As [`LanguageModel::generate`]; `piece` gets each request's index and its new text as it comes, and returns whether
    /// to go on.
    pub fn generate_streaming(
        &self,
        requests: &[GenerationRequest],
        piece: &mut dyn FnMut(usize, &str) -> bool,
    ) -> Result<Vec<Generated>, EngineError> {
        let mut results = Vec::with_capacity(requests.len());
        for (group, requests) in requests.chunks(TOGETHER).enumerate() {
            let images = self.prepare_images(requests.iter().map(|r| &r.prompt))?;
            let mut running = requests.iter().map(|r| self.start(r, &images)).collect::<Result<Vec<_>, _>>()?;
            let mut streams: Vec<_> = requests.iter().map(|_| self.tokenizer.stream()).collect();
            loop {
                for (i, r) in running.iter_mut().enumerate().filter(|(_, r)| r.finish.is_none()) {
                    self.accept(r, &mut streams[i], &mut |text| piece(group * TOGETHER + i, text))?;
                }
                let mut active: Vec<&mut Running> = running.iter_mut().filter(|r| r.finish.is_none()).collect();
                if active.is_empty() {
                    break;
                }
                let mut samplers = Vec::with_capacity(active.len());
                let mut parts = Vec::with_capacity(active.len());
                for r in &mut active {
                    samplers.push(&mut r.sampler);
                    let most = r.limit - r.tokens;
                    parts.push(Part { continuation: &mut r.continuation, most, drafts: r.greedy });
                }
                self.model.continue_all(&mut parts, &mut |part, logits| sample(samplers[part], logits))?;
            }
            for (r, stream) in running.into_iter().zip(streams) {
                let mut text = r.text;
                if r.finish == Some("length") {
                    text.push_str(&stream.finish()?);
                }
                results.push(Generated { text, tokens: r.tokens as u32, finish: r.finish.unwrap_or("length").into() });
            }
        }
        Ok(results)
    }

    fn start(&self, request: &GenerationRequest, images: &PreparedImages<'_>) -> Result<Running, EngineError> {
        let settings = &request.settings;
        if let Some(stray) = settings.iter().find(|s| !KNOWN.contains(&s.name.as_str())) {
            return Err(EngineError::Invalid(format!(
                "unknown generation setting `{}`; known: {}",
                stray.name,
                KNOWN.join(", ")
            )));
        }
        let (text, special) = self.render(&request.prompt)?;
        let mut prompt = self.tokenizer.encode(&images.expand(text, &request.prompt)?, special)?;
        images.place(&mut prompt, &request.prompt)?;
        if prompt.is_empty() {
            prompt.extend(self.first_token());
        }
        if let Some(limit) = self.model.context().filter(|limit| prompt.len() > *limit) {
            return Err(EngineError::Invalid(format!(
                "a prompt of {} tokens is longer than the model's context of {limit}",
                prompt.len()
            )));
        }
        let room = self.model.context().map_or(usize::MAX, |limit| limit - prompt.len() + 1);
        let limit = settings.get("max-tokens").and_then(Value::as_integer).unwrap_or(256).max(1) as usize;
        let stops = match settings.get("stop") {
            Some(Value::Texts(texts)) => texts.clone(),
            Some(Value::Text(text)) => vec![text.clone()],
            _ => vec![],
        };
        let mut cache = self.model.cache();
        cache.reserve(prompt.len() + limit.min(room));
        let logits = self.model.prefill(&prompt, &mut cache)?;
        let mut sampler = sampler(settings)?;
        let next = sample(&mut sampler, &logits)?;
        Ok(Running {
            continuation: Continuation::new(&prompt, cache, next),
            sampler,
            greedy: settings.get("temperature").and_then(Value::as_real).unwrap_or(0.0) == 0.0,
            prompt: prompt.len(),
            tokens: 0,
            text: String::new(),
            limit: limit.min(room),
            stops,
            finish: None,
        })
    }

    /// Takes over the tokens that were chosen since the last time.
    fn accept(
        &self,
        r: &mut Running,
        stream: &mut aehost_formats::StreamDecoder<'_>,
        piece: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), EngineError> {
        for at in r.prompt + r.tokens..r.continuation.tokens().len() {
            let token = r.continuation.tokens()[at];
            if self.tokenizer.end_tokens().contains(&token) {
                r.finish = Some("stop");
                return Ok(());
            }
            r.tokens += 1;
            let new = stream.push(token)?;
            r.text.push_str(&new);
            if let Some(at) = r.stops.iter().filter_map(|s| r.text.find(s.as_str())).min() {
                r.text.truncate(at);
                r.finish = Some("stop");
            } else if (!new.is_empty() && !piece(&new)) || r.tokens >= r.limit {
                r.finish = Some("length");
            }
            if r.finish.is_some() {
                break;
            }
        }
        Ok(())
    }
}

fn sample(sampler: &mut LogitsProcessor, row: &[f32]) -> Result<u32, EngineError> {
    if row.iter().any(|v| !v.is_finite()) {
        return Err(EngineError::Diverged("the model's logits are not finite".into()));
    }
    Ok(sampler.sample(&Tensor::from_slice(row, row.len(), &Device::Cpu)?)?)
}

impl crate::Model {
    /// Computes a prompt in chunks and returns the logits after its last token.
    pub fn prefill(&self, prompt: &[u32], cache: &mut Cache) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        let chunks = prompt.len().div_ceil(self.prefill_chunk());
        for (i, tokens) in prompt.chunks(self.prefill_chunk()).enumerate() {
            let rows = if i + 1 == chunks { Rows::Last } else { Rows::None };
            let out = self.forward(&mut [Sequence { tokens, branches: None, cache, rows }])?;
            if i + 1 == chunks {
                logits = logits_rows(&out)?;
            }
        }
        if logits.is_empty() {
            return Err(EngineError::Invalid("the prompt has no tokens".into()));
        }
        Ok(logits)
    }
}

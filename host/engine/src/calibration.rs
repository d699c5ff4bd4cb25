//! Statistics of a variant's values on calibration text, for techniques that decide by data. What was collected once for
//! the same content is never collected again.

use crate::language_model::logits_rows;
use crate::model::Observer;
use crate::{EngineError, Model, Rows, Sequence, Variant, kernels};
use aehost_common::{Settings, Value};
use aehost_graph::ValueId;
use candle_core::{D, DType, Device, Tensor};
use std::collections::HashMap;
use std::sync::Mutex;

/// Calibration text is run in sequences of this many tokens.
const SEQUENCE: usize = 512;

/// One statistic of one value; see the contract's `calibration.wanted`.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// mean, mean-absolute, maximum-absolute, second-moment, gram, cross, cosine, rows.
    pub statistic: String,
    /// The value.
    pub at: ValueId,
    /// The other value, for cross and cosine.
    pub against: Option<ValueId>,
    /// `count`, for rows.
    pub settings: Settings,
}

/// What was collected.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Tokens that went in.
    pub tokens: u64,
    /// One float32 tensor for each thing wanted.
    pub values: Vec<Tensor>,
}

/// Calibration text and what has been collected on it.
pub struct Calibration {
    tokens: Vec<u32>,
    device: Device,
    threads: usize,
    base: Variant,
    memo: Mutex<HashMap<String, Statistics>>,
}

struct Collector<'a> {
    wanted: &'a Wanted,
    sum: Option<Tensor>,
    rows: Vec<Tensor>,
    have: usize,
}

impl Calibration {
    /// Over tokens of the calibration text (none: the study has no text) and the study's base model.
    pub fn new(tokens: Vec<u32>, base: Variant, device: Device, threads: usize) -> Self {
        Self { tokens, device, threads, base, memo: Mutex::default() }
    }

    fn text(&self, tokens: usize) -> Result<&[u32], EngineError> {
        if self.tokens.is_empty() {
            return Err(EngineError::Unsupported(
                "the study has no calibration text: give one under [calibration] data".into(),
            ));
        }
        Ok(&self.tokens[..tokens.clamp(1, self.tokens.len())])
    }

    /// Runs the variant on that many calibration tokens (fewer where the text is shorter) and collects.
    pub fn collect(&self, variant: &Variant, wanted: &[Wanted], tokens: usize) -> Result<Statistics, EngineError> {
        let text = self.text(tokens)?;
        for w in wanted {
            check(variant, w)?;
        }
        let key = format!("{}|{}|{wanted:?}", variant.key(), text.len());
        let lock = || self.memo.lock().expect("no panic happens while the memo is locked");
        if let Some(known) = lock().get(&key) {
            return Ok(known.clone());
        }
        let mut values: Vec<ValueId> = wanted.iter().flat_map(|w| [Some(w.at), w.against]).flatten().collect();
        values.sort_unstable();
        values.dedup();
        let model = Model::observing(variant, &self.device, self.threads, &values)?;
        let mut collectors: Vec<Collector<'_>> =
            wanted.iter().map(|wanted| Collector { wanted, sum: None, rows: vec![], have: 0 }).collect();
        for sequence in text.chunks(model.context().map_or(SEQUENCE, |limit| limit.clamp(1, SEQUENCE))) {
            let mut seen: HashMap<ValueId, Tensor> = HashMap::new();
            let mut observe = |value: ValueId, tensor: &Tensor| {
                seen.insert(value, tensor.clone());
                Ok(())
            };
            let mut cache = model.cache();
            let part = Sequence { tokens: sequence, branches: None, cache: &mut cache, rows: Rows::None };
            model.observe(&mut [part], &mut observe as &mut Observer<'_>)?;
            for collector in &mut collectors {
                collector.add(&seen)?;
            }
        }
        let values = collectors.into_iter().map(|c| c.finish(text.len())).collect::<Result<Vec<_>, _>>()?;
        let statistics = Statistics { tokens: text.len() as u64, values };
        lock().insert(key, statistics.clone());
        Ok(statistics)
    }

    /// Mean KL divergence (nats) of the variant's next-token distribution from the base model's.
    pub fn divergence(&self, variant: &Variant, tokens: usize) -> Result<f64, EngineError> {
        let text = self.text(tokens)?;
        let base = Model::new(&self.base, &self.device, self.threads)?;
        let model = Model::new(variant, &self.device, self.threads)?;
        let mut sum = 0f64;
        for sequence in text.chunks(base.context().map_or(SEQUENCE, |limit| limit.clamp(1, SEQUENCE))) {
            let run = |model: &Model| {
                let mut cache = model.cache();
                logits_rows(&model.forward(&mut [Sequence {
                    tokens: sequence,
                    branches: None,
                    cache: &mut cache,
                    rows: Rows::All,
                }])?)
            };
            let (p, q) = (run(&base)?, run(&model)?);
            let vocabulary = model.vocabulary();
            sum += p
                .chunks_exact(vocabulary)
                .zip(q.chunks_exact(vocabulary))
                .map(|(p, q)| f64::from(kernels::divergence(p, q)))
                .sum::<f64>();
        }
        Ok(sum / text.len() as f64)
    }
}

fn check(variant: &Variant, wanted: &Wanted) -> Result<(), EngineError> {
    const KNOWN: [&str; 8] =
        ["mean", "mean-absolute", "maximum-absolute", "second-moment", "gram", "cross", "cosine", "rows"];
    if !KNOWN.contains(&wanted.statistic.as_str()) {
        return Err(EngineError::Invalid(format!(
            "statistic `{}` is unknown; known: {}",
            wanted.statistic,
            KNOWN.join(", ")
        )));
    }
    for value in [Some(wanted.at), wanted.against].into_iter().flatten() {
        if variant.graph().value_type(value).is_none() {
            return Err(EngineError::Invalid(format!("there is no value {} to collect at", value.0)));
        }
    }
    if ["cross", "cosine"].contains(&wanted.statistic.as_str()) && wanted.against.is_none() {
        return Err(EngineError::Invalid(format!("statistic `{}` needs `against`", wanted.statistic)));
    }
    Ok(())
}

impl Collector<'_> {
    fn add(&mut self, seen: &HashMap<ValueId, Tensor>) -> Result<(), EngineError> {
        let value = |id: ValueId| {
            seen.get(&id)
                .ok_or_else(|| EngineError::Invalid(format!("value {} is not computed by `decode`", id.0)))?
                .to_dtype(DType::F32)
                .map_err(EngineError::from)
        };
        let x = value(self.wanted.at)?;
        let part = match self.wanted.statistic.as_str() {
            "mean" => x.sum(0)?,
            "mean-absolute" => x.abs()?.sum(0)?,
            "maximum-absolute" => {
                let top = x.abs()?.max(0)?;
                self.sum = Some(match &self.sum {
                    Some(known) => known.maximum(&top)?,
                    None => top,
                });
                return Ok(());
            }
            "second-moment" => x.sqr()?.sum(0)?,
            "gram" => x.t()?.matmul(&x)?,
            "cross" => x.t()?.matmul(&value(self.wanted.against.unwrap_or(self.wanted.at))?)?,
            "cosine" => {
                let y = value(self.wanted.against.unwrap_or(self.wanted.at))?;
                let norm = |t: &Tensor| t.sqr()?.sum(D::Minus1)?.sqrt();
                let lengths = (norm(&x)? * norm(&y)?)?.maximum(1e-12)?;
                ((x * y)?.sum(D::Minus1)? / lengths)?.sum_all()?.reshape(1)?
            }
            _ => {
                let count =
                    self.wanted.settings.get("count").and_then(Value::as_integer).unwrap_or(256).max(1) as usize;
                let take = x.dim(0)?.min(count.saturating_sub(self.have));
                if take > 0 {
                    self.rows.push(x.narrow(0, 0, take)?);
                    self.have += take;
                }
                return Ok(());
            }
        };
        self.sum = Some(match &self.sum {
            Some(known) => (known + part)?,
            None => part,
        });
        Ok(())
    }

    fn finish(self, tokens: usize) -> Result<Tensor, EngineError> {
        let result = match (self.wanted.statistic.as_str(), self.sum) {
            ("rows", _) => Tensor::cat(&self.rows, 0)?,
            ("maximum-absolute", Some(top)) => top,
            (_, Some(sum)) => (sum / tokens as f64)?,
            (_, None) => return Err(EngineError::Invalid("nothing was collected".into())),
        };
        Ok(result.to_device(&Device::Cpu)?)
    }
}

//! Statistics of a variant's values on calibration text, for techniques that decide by data. What was collected once for
//! the same content is never collected again, and a run begins at the last place up to which all is as it was in an earlier
//! one: a technique that goes through the layers, and asks after each what the next one is given, pays for each layer twice
//! and not for all of them each time.

mod cuts;

use crate::cache::Cache;
use crate::language_model::logits_rows;
use crate::model::Observer;
use crate::{EngineError, Model, Rows, Sequence, Variant, kernels};
use aehost_common::{Settings, Value};
use aehost_graph::ValueId;
use candle_core::{D, DType, Device, Tensor};
use cuts::{Content, Contents};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// Calibration text is run in sequences of this many tokens.
const SEQUENCE: usize = 512;

/// Places between layers whose values are kept for later runs.
const KEPT: usize = 4;

/// Statistics are kept for those who ask for the same, the oldest making room, in one of so many parts of what the model
/// takes.
const REMEMBERED: usize = 8;

/// Tokens whose logits are in memory at a time.
const PART: usize = 64;

/// Bytes of the base model's logits that are kept.
const EXPECTED: usize = 64 << 20;

/// One statistic of one value; see the contract's `calibration.wanted`.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// mean, mean-absolute, maximum-absolute, second-moment, gram, cross, cosine, rows.
    pub statistic: String,
    /// The value.
    pub at: ValueId,
    /// The other value, for cross and cosine.
    pub against: Option<ValueId>,
    /// `count` and `dtype`, for rows.
    pub settings: Settings,
}

impl Wanted {
    /// How many rows.
    fn count(&self) -> usize {
        self.settings.get("count").and_then(Value::as_integer).unwrap_or(256).max(1) as usize
    }

    /// The type of rows.
    fn dtype(&self) -> Result<DType, EngineError> {
        match self.settings.get("dtype").and_then(Value::as_text) {
            None => Ok(DType::F32),
            Some(name) => crate::numeric::dtype(name).map_err(|fault| EngineError::Unsupported(fault.message)),
        }
    }
}

/// What was collected.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Tokens that went in.
    pub tokens: u64,
    /// One tensor for each thing wanted: float32, but for rows that are wanted in another type.
    pub values: Vec<Tensor>,
}

/// Calibration text and what has been collected on it.
pub struct Calibration {
    tokens: Vec<u32>,
    device: Device,
    threads: usize,
    base: Variant,
    /// What was collected, by what it was collected of, the latest last.
    memo: Mutex<VecDeque<(Vec<u8>, Statistics)>>,
    /// What runs left at a cut of the model, the latest last: the value's content, and its rows.
    kept: Mutex<Vec<(Content, Tensor)>>,
    /// The base model, while divergences from it are asked for.
    reference: Mutex<Option<Arc<Model>>>,
    /// Its logits on the first tokens.
    expected: Mutex<Option<Arc<Vec<f32>>>>,
    /// What is done when a model was let go of.
    released: fn(),
}

struct Collector<'a> {
    wanted: &'a Wanted,
    sum: Option<Tensor>,
    rows: Vec<Tensor>,
    have: usize,
    /// One of two values, until the other is computed.
    first: Option<Tensor>,
}

impl Calibration {
    /// Over tokens of the calibration text (none: the study has no text) and the study's base model.
    pub fn new(tokens: Vec<u32>, base: Variant, device: Device, threads: usize) -> Self {
        Self {
            tokens,
            device,
            threads,
            base,
            memo: Mutex::default(),
            kept: Mutex::default(),
            reference: Mutex::default(),
            expected: Mutex::default(),
            released: || {},
        }
    }

    /// Calls a function each time that a model of its own was let go of, as to give the memory back to the system.
    pub fn on_release(self, released: fn()) -> Self {
        Self { released, ..self }
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
        let contents = Contents::new(variant)?;
        let key = key(&contents, wanted, text.len())?;
        let lock = || self.memo.lock().expect("no panic happens while the memo is locked");
        if let Some((_, known)) = lock().iter().find(|(known, _)| *known == key) {
            return Ok(known.clone());
        }
        let mut values: Vec<ValueId> = wanted.iter().flat_map(|w| [Some(w.at), w.against]).flatten().collect();
        values.sort_unstable();
        values.dedup();
        let mut collectors: Vec<Collector<'_>> =
            wanted.iter().map(|wanted| Collector { wanted, sum: None, rows: vec![], have: 0, first: None }).collect();
        self.run(variant, &contents, &values, text, &mut |value, rows| {
            collectors.iter_mut().try_for_each(|collector| collector.see(value, rows))
        })?;
        let values = collectors.into_iter().map(|c| c.finish(text.len())).collect::<Result<Vec<_>, _>>()?;
        let statistics = Statistics { tokens: text.len() as u64, values };
        remember(&mut lock(), key, statistics.clone(), self.base.weight_bytes() as usize / REMEMBERED);
        Ok(statistics)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Content, Tensor)>> {
        self.kept.lock().expect("no panic happens while the kept values are locked")
    }

    /// Shows the wanted values of each sequence of the text in turn, each as soon as it is computed: all of them together take
    /// more than the model. It begins at the last cut of the model that an earlier run kept, and keeps the last one from which
    /// all that is wanted follows.
    fn run(
        &self,
        variant: &Variant,
        contents: &Contents,
        wanted: &[ValueId],
        text: &[u32],
        see: &mut Observer<'_>,
    ) -> Result<(), EngineError> {
        let cuts: Vec<(ValueId, Content)> = contents
            .cuts(variant.graph(), wanted)
            .into_iter()
            .filter_map(|cut| Some((cut, cuts::on_tokens(contents.of(cut)?, text.len()))))
            .collect();
        let kept = |content: &Content| self.kept().iter().find(|(c, _)| c == content).map(|(_, rows)| rows.clone());
        let begin = cuts.iter().rev().find_map(|(cut, content)| Some((*cut, kept(content)?)));
        let keep = cuts.last().filter(|(cut, _)| begin.as_ref().is_none_or(|(begin, _)| begin != cut));

        let continued = begin.as_ref().map(|(cut, rows)| cuts::continued(variant, *cut, rows)).transpose()?;
        let (variant, stand_in) = match &continued {
            Some((rest, value)) => (rest, begin.as_ref().map(|(cut, _)| (*cut, *value))),
            None => (variant, None),
        };
        // In the model's own numbers, and in those of the variant as it was given.
        let renamed = |value: ValueId| stand_in.filter(|(cut, _)| *cut == value).map_or(value, |(_, new)| new);
        let given = |value: ValueId| stand_in.filter(|(_, new)| *new == value).map_or(value, |(cut, _)| cut);
        let mut values: Vec<ValueId> =
            wanted.iter().chain(keep.map(|(cut, _)| cut)).map(|value| renamed(*value)).collect();
        values.sort_unstable();
        values.dedup();

        let model = Model::observing(variant, &self.device, self.threads, &values)?;
        let numbers: Vec<u32> = (0..text.len() as u32).collect();
        let ids = if stand_in.is_some() { &numbers } else { text };
        let mut rows = Vec::new();
        for sequence in ids.chunks(model.context().map_or(SEQUENCE, |limit| limit.clamp(1, SEQUENCE))) {
            let mut observe = |value: ValueId, tensor: &Tensor| {
                let value = given(value);
                if keep.is_some_and(|(cut, _)| *cut == value) {
                    rows.push(tensor.clone());
                }
                see(value, tensor)
            };
            let mut cache = model.cache();
            let part = Sequence { tokens: sequence, branches: None, cache: &mut cache, rows: Rows::None };
            model.observe(&mut [part], &mut observe as &mut Observer<'_>)?;
        }
        drop(model);
        (self.released)();
        if let Some((_, content)) = keep {
            let rows = Tensor::cat(&rows, 0)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            let mut kept = self.kept();
            kept.push((*content, rows));
            if kept.len() > KEPT {
                kept.remove(0);
            }
        }
        Ok(())
    }

    /// Mean KL divergence (nats) of the variant's next-token distribution from the base model's.
    pub fn divergence(&self, variant: &Variant, tokens: usize) -> Result<f64, EngineError> {
        let text = self.text(tokens)?;
        let base = self.reference()?;
        let model = Model::new(variant, &self.device, self.threads)?;
        let vocabulary = model.vocabulary();
        let mut sum = 0f64;
        for sequence in text.chunks(base.context().map_or(SEQUENCE, |limit| limit.clamp(1, SEQUENCE))) {
            let kept = self.expected(&base, sequence)?;
            let (mut of_base, mut of_variant) = (base.cache(), model.cache());
            for (at, part) in sequence.chunks(PART).enumerate() {
                let p = match &kept {
                    Some(kept) => Cow::Borrowed(&kept[at * PART * vocabulary..][..part.len() * vocabulary]),
                    None => Cow::Owned(logits(&base, part, &mut of_base)?),
                };
                let q = logits(&model, part, &mut of_variant)?;
                let pairs = p.chunks_exact(vocabulary).zip(q.chunks_exact(vocabulary));
                sum += pairs.map(|(p, q)| f64::from(kernels::divergence(p, q))).sum::<f64>();
            }
        }
        drop(model);
        (self.released)();
        Ok(sum / text.len() as f64)
    }

    fn reference(&self) -> Result<Arc<Model>, EngineError> {
        let mut reference = self.reference.lock().expect("no panic happens while the reference is locked");
        match reference.as_ref() {
            Some(model) => Ok(model.clone()),
            None => {
                let model = Model::new(&self.base, &self.device, self.threads)?;
                Ok(reference.insert(Arc::new(model)).clone())
            }
        }
    }

    /// Lets go of the base model, until the next divergence is asked for.
    pub fn release_reference(&self) {
        let mut reference = self.reference.lock().expect("no panic happens while the reference is locked");
        if reference.take().is_some() {
            (self.released)();
        }
    }

    /// The base model's logits where they are kept: on the beginning of the text, where techniques try many variants.
    fn expected(&self, base: &Model, sequence: &[u32]) -> Result<Option<Arc<Vec<f32>>>, EngineError> {
        let elements = sequence.len() * base.vocabulary();
        if !self.tokens.starts_with(sequence) || elements * size_of::<f32>() > EXPECTED {
            return Ok(None);
        }
        let mut kept = self.expected.lock().expect("no panic happens while the logits are locked");
        if kept.as_ref().is_none_or(|kept| kept.len() < elements) {
            let (mut made, mut cache) = (Vec::with_capacity(elements), base.cache());
            for part in sequence.chunks(PART) {
                made.extend(logits(base, part, &mut cache)?);
            }
            *kept = Some(Arc::new(made));
        }
        Ok(kept.clone())
    }
}

/// The logits after each token of the next part of a sequence.
fn logits(model: &Model, tokens: &[u32], cache: &mut Cache) -> Result<Vec<f32>, EngineError> {
    logits_rows(&model.forward(&mut [Sequence { tokens, branches: None, cache, rows: Rows::All }])?)
}

fn remember(memo: &mut VecDeque<(Vec<u8>, Statistics)>, key: Vec<u8>, statistics: Statistics, limit: usize) {
    memo.push_back((key, statistics));
    let bytes = |memo: &VecDeque<(Vec<u8>, Statistics)>| -> usize {
        let values = memo.iter().flat_map(|(_, statistics)| &statistics.values);
        values.map(|values| values.elem_count() * values.dtype().size_in_bytes()).sum()
    };
    while memo.len() > 1 && bytes(memo) > limit {
        memo.pop_front();
    }
}

/// Equal for what gives equal statistics.
fn key(contents: &Contents, wanted: &[Wanted], tokens: usize) -> Result<Vec<u8>, EngineError> {
    let mut key = tokens.to_le_bytes().to_vec();
    for w in wanted {
        for value in [Some(w.at), w.against].into_iter().flatten() {
            let missing = || EngineError::Invalid(format!("value {} is not computed by `decode`", value.0));
            key.extend(contents.of(value).ok_or_else(missing)?);
        }
        key.extend(format!("{}{:?}{:?}", w.statistic, w.against.is_some(), w.settings).into_bytes());
    }
    Ok(key)
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
    /// Adds rows of a value, where the statistic is of that value.
    fn see(&mut self, value: ValueId, rows: &Tensor) -> Result<(), EngineError> {
        let Wanted { at, against, .. } = self.wanted;
        let rows = || Ok::<_, EngineError>(rows.to_dtype(DType::F32)?);
        match against.filter(|against| against != at) {
            None if value == *at => {
                let rows = rows()?;
                self.add(&rows, &rows)
            }
            Some(against) if value == *at || value == against => match self.first.take() {
                None => {
                    self.first = Some(rows()?);
                    Ok(())
                }
                Some(first) if value == *at => self.add(&rows()?, &first),
                Some(first) => self.add(&first, &rows()?),
            },
            _ => Ok(()),
        }
    }

    /// Adds rows of the value, and the same rows of the other one.
    fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<(), EngineError> {
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
            "gram" => x.t()?.matmul(x)?,
            "cross" => x.t()?.matmul(y)?,
            "cosine" => {
                let norm = |t: &Tensor| t.sqr()?.sum(D::Minus1)?.sqrt();
                let lengths = (norm(x)? * norm(y)?)?.maximum(1e-12)?;
                ((x * y)?.sum(D::Minus1)? / lengths)?.sum_all()?.reshape(1)?
            }
            _ => {
                let take = x.dim(0)?.min(self.wanted.count().saturating_sub(self.have));
                if take > 0 {
                    self.rows.push(x.narrow(0, 0, take)?.to_dtype(self.wanted.dtype()?)?);
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

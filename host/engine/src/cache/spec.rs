//! What a cache op asks for.

use super::EVICTION_SLACK;
use super::rows::BLOCK;
use crate::attention::AttentionSpec;
use crate::policy::MOST_DRAFTED;
use aehost_graph::{Graph, Node};

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheType {
    F32,
    F16,
    Q8_0,
    /// In so many bits, once they have settled.
    Affine(usize),
}

impl CacheType {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "float32" => Some(CacheType::F32),
            "float16" => Some(CacheType::F16),
            "q8_0" => Some(CacheType::Q8_0),
            "affine8" => Some(CacheType::Affine(8)),
            "affine4" => Some(CacheType::Affine(4)),
            "affine2" => Some(CacheType::Affine(2)),
            _ => None,
        }
    }

    /// Whether the elements of a head must be whole blocks.
    pub fn in_blocks(self) -> bool {
        matches!(self, CacheType::Q8_0 | CacheType::Affine(_))
    }

    /// Bytes of so many elements that have settled.
    fn bytes(self, elements: u64) -> u64 {
        match self {
            CacheType::F32 => elements * 4,
            CacheType::F16 => elements * 2,
            CacheType::Q8_0 => elements + elements / BLOCK as u64 * 2,
            CacheType::Affine(bits) => elements * bits as u64 / 8 + elements / BLOCK as u64 * 4,
        }
    }
}

/// By which attention a key is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// All that it got so far (H2O, Zhang et al., arXiv:2306.14048).
    Accumulated,
    /// What the latest queries give it and its neighbours (SnapKV, Li et al., arXiv:2404.14469).
    Latest,
}

/// Which tokens stay when a cache settles.
#[derive(Debug, Clone)]
pub(crate) struct Eviction {
    /// Tokens that stay, of each head that has keys of its own.
    pub keep: usize,
    /// So many of them are the newest.
    pub newest: usize,
    pub by: Judged,
    /// The attention that reads the cache.
    pub attention: AttentionSpec,
}

/// The latest queries that a key is judged by.
const LATEST: usize = 32;

impl Eviction {
    /// Queries that are kept until the cache settles, some of which may be taken back, and of how many tokens they judge.
    pub fn queries(&self, interval: usize) -> (usize, usize) {
        match self.by {
            Judged::Accumulated => (interval, interval),
            Judged::Latest => (interval.min(LATEST + MOST_DRAFTED), LATEST),
        }
    }
}

/// What one cache op keeps.
#[derive(Debug, Clone)]
pub(crate) struct CacheSpec {
    pub dtype: CacheType,
    /// Newest tokens that a query sees; 0 for all.
    pub window: usize,
    /// First tokens that every query sees.
    pub sinks: usize,
    pub key_width: usize,
    pub value_width: usize,
    /// Values are the same rows as keys, and kept once.
    pub values_are_keys: bool,
    /// Before every token whose position is a multiple of this, the cache settles; 0 where it never does.
    pub interval: usize,
    pub eviction: Option<Eviction>,
    /// Tokens of a page, of which each channel's bounds are known; 0 for none.
    pub page: usize,
    /// Only a step's own tokens are kept, until others come.
    pub passing: bool,
}

/// Tokens between two times that a cache settles, where the op does not say: the residual length of KIVI.
const INTERVAL: i64 = 128;

impl CacheSpec {
    /// That of a cache op.
    ///
    /// # Errors
    /// What does not run here.
    pub fn of(graph: &Graph, node: &Node) -> Result<Self, String> {
        let spec = &node.spec;
        let integer = |name: &str| spec.integer(name).unwrap_or(0) as usize;
        let width = |input: usize| graph.value_type(spec.inputs[input]).map_or(0, |t| t.width());
        let dtype = spec.text("dtype").and_then(CacheType::parse).ok_or("this cache dtype does not run here")?;
        let mut readers = node.outputs.iter().flat_map(|value| graph.consumers(*value));
        let attention = readers.find_map(|id| graph.node(id).filter(|reader| reader.spec.op == "attention"));
        let attention = attention.map(|reader| AttentionSpec::of(&reader.spec));
        let eviction = match (integer("keep"), attention.clone()) {
            (0, _) => None,
            (keep, Some(attention)) if attention.window == 0 && integer("window") == 0 => Some(Eviction {
                keep,
                newest: integer("newest"),
                by: if spec.text("score") == Some("latest") { Judged::Latest } else { Judged::Accumulated },
                attention,
            }),
            _ => return Err("`keep` goes with an attention that reads the cache, and with no window".into()),
        };
        let settles = eviction.is_some() || matches!(dtype, CacheType::Affine(_));
        Ok(Self {
            dtype,
            window: integer("window"),
            sinks: integer("sinks"),
            key_width: width(0),
            value_width: width(1),
            values_are_keys: spec.inputs[0] == spec.inputs[1],
            interval: if settles { spec.integer("interval").unwrap_or(INTERVAL) as usize } else { 0 },
            eviction,
            page: attention.and_then(|attention| attention.pages).map_or(0, |(page, _)| page),
            passing: false,
        })
    }

    /// That of keys and values which no cache op keeps.
    pub fn passing(key_width: usize, value_width: usize) -> Self {
        Self {
            dtype: CacheType::F32,
            window: 0,
            sinks: 0,
            key_width,
            value_width,
            values_are_keys: false,
            interval: 0,
            eviction: None,
            page: 0,
            passing: true,
        }
    }

    /// The same for looking at values: everything is kept, as it is.
    pub fn lasting(self) -> Self {
        let dtype = if let CacheType::Affine(_) = self.dtype { CacheType::F16 } else { self.dtype };
        Self { dtype, interval: 0, eviction: None, page: 0, ..self }
    }

    /// Tokens that are kept at most, of a sequence so long; steps add `slack` before anything goes.
    pub fn kept(&self, tokens: usize, slack: usize) -> usize {
        // Groups go whole, and only once they have settled.
        let groups = if let CacheType::Affine(_) = self.dtype { self.interval + 2 * BLOCK } else { 0 };
        let windowed =
            if self.window == 0 { tokens } else { self.window + self.sinks + EVICTION_SLACK + slack + groups };
        let evicted = self.eviction.as_ref().map_or(tokens, |eviction| eviction.keep + self.interval);
        tokens.min(windowed).min(evicted)
    }

    /// Bytes of keys and values of a sequence so long, and of what judges them, at their most.
    pub fn bytes(&self, tokens: usize, slack: usize) -> u64 {
        let width = self.key_width + if self.values_are_keys { 0 } else { self.value_width };
        let kept = self.kept(tokens, slack);
        let unsettled = if let CacheType::Affine(_) = self.dtype { kept.min(self.interval) } else { 0 };
        let judging = self.eviction.as_ref().map_or(0, |eviction| {
            let (queries, attention) = (eviction.queries(self.interval).0.min(tokens), &eviction.attention);
            2 * queries * attention.heads * attention.head_dim + 4 * eviction.keep.min(tokens) * attention.kv_heads
        });
        let bounds = if self.page == 0 { 0 } else { 8 * kept.div_ceil(self.page) * self.key_width };
        self.dtype.bytes(((kept - unsettled) * width) as u64) + (2 * unsettled * width + judging + bounds) as u64
    }
}

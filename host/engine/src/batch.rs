//! What a step of a model is given: sequences, packed so that their tokens stand one after another.

use crate::images::{ImageRows, Placed};
use crate::program::RowSpace;
use crate::{Cache, EngineError};

/// Of which tokens of a sequence the logits are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Of none: the step only fills the cache.
    None,
    /// Of the last token.
    Last,
    /// Of every token.
    All,
    /// Of these tokens of the step.
    These(Vec<u32>),
}

impl Rows {
    /// Them, of so many.
    pub(crate) fn indices(&self, tokens: usize) -> Vec<u32> {
        match self {
            Rows::None => vec![],
            Rows::Last => vec![tokens as u32 - 1],
            Rows::All => (0..tokens as u32).collect(),
            Rows::These(rows) => rows.clone(),
        }
    }
}

/// One sequence's part of a step.
pub struct Sequence<'a> {
    /// At least one.
    pub tokens: &'a [u32],
    /// Continuations that share the trunk: a branch number (0 is the trunk) and a position for each token. None: the
    /// tokens go on where the cache ends.
    pub branches: Option<(&'a [u32], &'a [u32])>,
    /// What came before, and takes this step's keys and values.
    pub cache: &'a mut Cache,
    /// Of which tokens logits are wanted.
    pub rows: Rows,
}

/// What tokens a model knows.
pub(crate) struct Known<'a> {
    /// Ids of its vocabulary are smaller.
    pub ids: usize,
    /// Other ids stand for parts of images.
    pub images: &'a ImageRows,
}

/// A step's tokens, packed.
#[derive(Default)]
pub(crate) struct Batch {
    pub tokens: Vec<u32>,
    pub positions: Vec<u32>,
    pub branches: Vec<u32>,
    /// Each sequence's tokens.
    pub parts: Vec<std::ops::Range<usize>>,
    /// Tokens whose logits are wanted.
    pub rows: Vec<u32>,
    /// Numbers that the function is given, a row for each token.
    pub given: Vec<f32>,
    /// Tokens that stand for parts of images, in order; their ids are 0 in `tokens`.
    pub images: Vec<Placed>,
}

impl Batch {
    /// Rows of a value in this step.
    pub fn count(&self, space: RowSpace) -> usize {
        match space {
            RowSpace::Tokens => self.tokens.len(),
            RowSpace::Multiple(n) => self.tokens.len() * n,
            RowSpace::Selected => self.rows.len(),
            RowSpace::Fixed(rows) => rows,
        }
    }

    /// Lays the rows of images over `x`, the given rows of a value so wide.
    pub fn overlay(&self, rows: std::ops::Range<usize>, width: usize, x: &mut [f32]) {
        let first = self.images.partition_point(|placed| placed.token < rows.start);
        for placed in self.images[first..].iter().take_while(|placed| placed.token < rows.end) {
            x[(placed.token - rows.start) * width..][..width].copy_from_slice(placed.row(width));
        }
    }

    /// Packs and checks.
    pub fn of(sequences: &[Sequence<'_>], context: Option<usize>, known: &Known<'_>) -> Result<Self, EngineError> {
        let mut batch = Batch::default();
        for sequence in sequences {
            let (n, start, seen) = (sequence.tokens.len(), batch.tokens.len(), sequence.cache.seen);
            if n == 0 {
                return Err(EngineError::Invalid("a sequence of a step has no tokens".into()));
            }
            match sequence.branches {
                Some((branches, positions)) => {
                    if branches.len() != n || positions.len() != n {
                        return Err(EngineError::Invalid("branches and positions need one entry a token".into()));
                    }
                    batch.branches.extend_from_slice(branches);
                    batch.positions.extend_from_slice(positions);
                }
                None => {
                    batch.branches.resize(start + n, 0);
                    batch.positions.extend((seen..seen + n).map(|p| p as u32));
                }
            }
            batch.tokens.extend_from_slice(sequence.tokens);
            let length = batch.positions[start..].iter().max().map_or(0, |p| *p as usize + 1);
            if let Some(limit) = context.filter(|limit| length > *limit) {
                return Err(EngineError::Invalid(format!(
                    "a sequence of {length} tokens is longer than the model's context of {limit}"
                )));
            }
            batch.parts.push(start..start + n);
            batch.rows.extend(sequence.rows.indices(n).into_iter().map(|r| start as u32 + r));
        }
        if batch.tokens.is_empty() {
            return Err(EngineError::Invalid("a step has no sequences".into()));
        }
        for (at, token) in batch.tokens.iter_mut().enumerate().filter(|(_, token)| **token as usize >= known.ids) {
            let Some(placed) = known.images.find(*token, at) else {
                let vocabulary = known.ids;
                return Err(EngineError::Invalid(format!("token {token} lies outside the vocabulary of {vocabulary}")));
            };
            batch.images.push(placed);
            *token = 0;
        }
        if batch.rows.iter().any(|r| *r as usize >= batch.tokens.len()) {
            return Err(EngineError::Invalid("a wanted row lies outside its sequence".into()));
        }
        Ok(batch)
    }
}

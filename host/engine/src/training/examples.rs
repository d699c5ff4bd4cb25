//! What is trained on: token sequences, packed without padding.

use crate::batch::Batch;

/// One sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Example {
    /// At least two.
    pub tokens: Vec<u32>,
    /// The first token of the answer, at least 1; what comes before is the prompt.
    pub answer: usize,
}

impl Example {
    /// A text that is all answer, in pieces of which each gives `length` predictions; what is left over at the end is dropped,
    /// unless there is nothing else.
    pub fn of_text(tokens: &[u32], length: usize) -> Vec<Example> {
        let piece = |tokens: &[u32]| Example { tokens: tokens.to_vec(), answer: 1 };
        let pieces: Vec<Example> = tokens.chunks_exact(length + 1).map(piece).collect();
        match pieces.is_empty() && tokens.len() > 1 {
            true => vec![piece(tokens)],
            false => pieces,
        }
    }

    /// Its end, where it is too long for so many predictions: answers come last.
    fn shortened(&self, length: usize) -> (&[u32], usize) {
        let skipped = self.tokens.len().saturating_sub(length + 1);
        (&self.tokens[skipped..], self.answer.saturating_sub(skipped).max(1))
    }
}

/// Examples of one pass: what the model is given, and what it should say at the rows that count.
pub(super) struct Pass {
    pub batch: Batch,
    pub targets: Vec<u32>,
}

impl Pass {
    /// Packs examples, each with at most `length` predictions; all tokens count, or only those of answers.
    pub fn of<'e>(examples: impl IntoIterator<Item = &'e Example>, length: usize, answers_only: bool) -> Self {
        let mut batch = Batch::default();
        let mut targets = vec![];
        for example in examples {
            let (tokens, answer) = example.shortened(length);
            let (start, count) = (batch.tokens.len(), tokens.len() - 1);
            batch.tokens.extend_from_slice(&tokens[..count]);
            batch.positions.extend(0..count as u32);
            batch.parts.push(start..start + count);
            let first = if answers_only { answer - 1 } else { 0 };
            batch.rows.extend((start + first) as u32..(start + count) as u32);
            targets.extend_from_slice(&tokens[first + 1..]);
        }
        batch.branches = vec![0; batch.tokens.len()];
        Self { batch, targets }
    }
}

/// The examples of a run one after another: each once, in an order of their own for each time through.
pub(super) fn order(count: usize, seed: u64, through: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|i| mixed(seed, through, *i as u64));
    order
}

/// A number that says nothing of its origin (SplitMix64, Steele et al., 2014).
pub(super) fn mixed(seed: u64, part: u64, index: u64) -> u64 {
    [seed, part, index].into_iter().fold(0, |state: u64, part| {
        let z = state.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

//! Decoding, a token a step or several: tokens that were drafted are checked in the step that computes the one after them, and
//! kept as far as the model itself would have chosen them (Leviathan et al., arXiv 2211.17192, for greedy choice). Drafts come
//! from the text so far: what followed the last tokens where they stood before (prompt lookup); or from a smaller model.

use crate::language_model::logits_rows;
use crate::{Cache, EngineError, Model, Rows, Sequence, kernels};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How drafts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speculation {
    /// By what followed the last tokens earlier.
    PromptLookup {
        /// Tokens of a draft at most.
        draft: usize,
        /// Last tokens that must have stood together before, at most; the longest such end counts.
        ending: usize,
    },
    /// By the model's function `draft`.
    DraftModel {
        /// Tokens of a draft at most.
        draft: usize,
    },
}

/// A sequence being continued: its last token has been chosen, and is not in the cache yet.
pub struct Continuation {
    cache: Cache,
    /// The draft model's; none before it drafted.
    draft_cache: Option<Cache>,
    tokens: Vec<u32>,
    /// Where each ending of the text so far was last seen: the place after it, by length and content.
    places: HashMap<(usize, u64), usize>,
    indexed: usize,
    steps: usize,
    made: usize,
}

/// FNV-1a; what it finds is compared before it is used.
fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, |h, t| (h ^ u64::from(*t)).wrapping_mul(0x100_0000_01b3))
}

impl Continuation {
    /// After a prompt that is in the cache, with the token chosen to follow it.
    pub fn new(prompt: &[u32], cache: Cache, next: u32) -> Self {
        let tokens = prompt.iter().copied().chain([next]).collect();
        Self { cache, draft_cache: None, tokens, places: HashMap::new(), indexed: 0, steps: 0, made: 0 }
    }

    /// The prompt, and all tokens chosen so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Steps, and tokens that they gave.
    pub fn steps(&self) -> (usize, usize) {
        (self.steps, self.made)
    }

    /// What followed the longest ending that stood before; empty where none did.
    fn look_up(&mut self, longest: usize, most: usize) -> Vec<u32> {
        let end = self.tokens.len();
        // The text's own end is left for the next time: it must not find itself.
        for end in self.indexed.max(1)..end {
            for length in 1..=longest.min(end) {
                self.places.insert((length, hash(&self.tokens[end - length..end])), end);
            }
        }
        self.indexed = end;
        for length in (1..=longest.min(end)).rev() {
            let ending = &self.tokens[end - length..];
            if let Some(place) = self.places.get(&(length, hash(ending)))
                && self.tokens[place - length..*place] == *ending
            {
                return self.tokens[*place..end.min(place + most)].to_vec();
            }
        }
        vec![]
    }
}

/// The most likely token.
pub fn greedy(logits: &[f32]) -> u32 {
    kernels::argmax(logits) as u32
}

/// Chooses a token by its logits, for a part with this index.
pub type Choose<'a> = dyn FnMut(usize, &[f32]) -> Result<u32, EngineError> + 'a;

/// One sequence's part of a decoding step.
pub struct Part<'a> {
    /// The sequence.
    pub continuation: &'a mut Continuation,
    /// Tokens that are wanted at most; at least 1.
    pub most: usize,
    /// Whether it may be drafted: only where the choice depends on the logits alone.
    pub drafts: bool,
}

impl Model {
    /// One step: each sequence gets at least one token. `choose` gets the index of a part and the logits after its next token,
    /// in order.
    ///
    /// # Errors
    /// Those of a step, and of `choose`.
    pub fn continue_all(&self, parts: &mut [Part<'_>], choose: &mut Choose<'_>) -> Result<(), EngineError> {
        let drafts = self.drafts(parts)?;
        let last = |part: &Part<'_>| part.continuation.tokens.last().copied();
        let inputs: Vec<Vec<u32>> =
            parts.iter().zip(drafts).map(|(part, draft)| last(part).into_iter().chain(draft).collect()).collect();
        let mut sequences: Vec<Sequence<'_>> = parts
            .iter_mut()
            .zip(&inputs)
            .map(|(part, tokens)| Sequence {
                tokens,
                branches: None,
                cache: &mut part.continuation.cache,
                rows: Rows::All,
            })
            .collect();
        let logits = logits_rows(&self.forward(&mut sequences)?)?;
        let mut rows = logits.chunks_exact(self.vocabulary());
        for (index, (part, input)) in parts.iter_mut().zip(&inputs).enumerate() {
            let run = &mut *part.continuation;
            let (mut kept, mut chosen) = (1, None);
            for (i, row) in rows.by_ref().take(input.len()).enumerate() {
                // What comes after a draft that was not kept is void.
                if i >= kept {
                    continue;
                }
                let token = choose(index, row)?;
                if input.get(i + 1) == Some(&token) {
                    kept += 1;
                } else {
                    chosen = Some(token);
                }
            }
            run.tokens.extend(input[1..kept].iter().copied().chain(chosen));
            run.cache.forget(input.len() - kept);
            if let Some(cache) = &mut run.draft_cache {
                cache.forget(cache.seen.saturating_sub(run.tokens.len() - 1));
            }
            run.steps += 1;
            run.made += kept;
        }
        Ok(())
    }

    /// A draft for each part; empty where there is none.
    fn drafts(&self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<u32>>, EngineError> {
        let most = |part: &Part<'_>, draft: usize| {
            let run = &*part.continuation;
            let limits = [Some(self), self.drafter()].into_iter().flatten().filter_map(Model::context);
            let room = limits.min().map_or(usize::MAX, |limit| limit.saturating_sub(run.tokens.len()));
            // What a cache does when it settles is not taken back.
            let room = room.min(self.unsettled(run.cache.seen) - 1);
            if part.drafts { draft.min(room).min(part.most.saturating_sub(1)) } else { 0 }
        };
        match (self.speculation(), self.drafter()) {
            (Some(Speculation::PromptLookup { draft, ending }), _) => {
                let look_up = |part: &mut Part<'_>| part.continuation.look_up(ending, most(part, draft));
                Ok(parts.iter_mut().map(look_up).collect())
            }
            (Some(Speculation::DraftModel { draft }), Some(drafter)) => {
                let most: Vec<usize> = parts.iter().map(|part| most(part, draft)).collect();
                drafter.draft(parts, &most)
            }
            _ => Ok(vec![vec![]; parts.len()]),
        }
    }

    /// Decodes, as the draft model, so many tokens for each part; all parts go together.
    fn draft(&self, parts: &mut [Part<'_>], most: &[usize]) -> Result<Vec<Vec<u32>>, EngineError> {
        let mut drafts: Vec<Vec<u32>> = vec![vec![]; parts.len()];
        for ((part, draft), _) in parts.iter_mut().zip(&mut drafts).zip(most).filter(|(_, most)| **most > 0) {
            let run = &mut *part.continuation;
            let cache = run.draft_cache.get_or_insert_with(|| self.cache());
            // What it has not seen yet: the prompt, and the tokens since its last draft.
            draft.push(greedy(&self.prefill(&run.tokens[cache.seen..], cache)?));
        }
        for count in 1..most.iter().copied().max().unwrap_or(0) {
            let mut sequences: Vec<Sequence<'_>> = Vec::new();
            let mut members = Vec::new();
            for (index, (part, draft)) in parts.iter_mut().zip(&drafts).enumerate() {
                if let Some(cache) = part.continuation.draft_cache.as_mut().filter(|_| count < most[index]) {
                    let tokens = &draft[count - 1..];
                    sequences.push(Sequence { tokens, branches: None, cache, rows: Rows::Last });
                    members.push(index);
                }
            }
            let logits = logits_rows(&self.forward(&mut sequences)?)?;
            for (index, row) in members.into_iter().zip(logits.chunks_exact(self.vocabulary())) {
                drafts[index].push(greedy(row));
            }
        }
        Ok(drafts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continuation(tokens: &[u32]) -> Continuation {
        let (next, prompt) = tokens.split_last().unwrap();
        Continuation::new(prompt, Cache::new(&[]), *next)
    }

    #[test]
    fn a_draft_is_what_followed_the_longest_ending() {
        // 1 2 was followed by 3 4 5 long ago, and 2 alone by 9 of late.
        let mut run = continuation(&[1, 2, 3, 4, 5, 2, 9, 7, 1, 2]);
        assert_eq!(run.look_up(2, 3), [3, 4, 5]);
        assert_eq!(run.look_up(2, 2), [3, 4], "no more than is wanted");
        assert_eq!(run.look_up(1, 3), [9, 7, 1]);
        assert_eq!(continuation(&[1, 2, 3]).look_up(2, 3), [0u32; 0]);
    }

    #[test]
    fn what_comes_later_is_found_too() {
        let mut run = continuation(&[5, 6]);
        assert_eq!(run.look_up(3, 4), [0u32; 0]);
        run.tokens.extend([5]);
        assert_eq!(run.look_up(3, 4), [6, 5]);
        run.tokens.extend([6]);
        assert_eq!(run.look_up(3, 4), [5, 6]);
    }
}

//! Log-likelihoods, as lm-evaluation-harness defines them, and distances between next-token distributions. Requests with
//! one context become one sequence with a branch for each continuation, so the context is computed once (where a branch gives
//! what it would give alone); sequences are sorted by length and packed into steps.

use crate::images::PreparedImages;
use crate::kernels::{argmax, divergence, log_sum_exp};
use crate::language_model::Prompt;
use crate::tensors::floats;
use crate::{EngineError, LanguageModel, Rows, Sequence};
use candle_core::Device;
use rayon::prelude::*;
use std::collections::HashMap;

/// A continuation to be scored after a prompt.
#[derive(Debug, Clone)]
pub struct ScoreRequest {
    /// What comes before.
    pub prompt: Prompt,
    /// What is scored.
    pub continuation: String,
}

/// How likely a continuation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Sum of the tokens' log-probabilities, in nats.
    pub log_likelihood: f64,
    /// Whether each token was the most likely one.
    pub greedy: bool,
    /// Tokens of the continuation.
    pub tokens: u32,
    /// Bytes of the continuation in UTF-8.
    pub bytes: u32,
}

/// How likely a whole text is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// Sum of the tokens' log-probabilities, in nats.
    pub log_likelihood: f64,
    /// Scored tokens.
    pub tokens: u32,
    /// Bytes of the text in UTF-8.
    pub bytes: u32,
    /// Words of the text, split at white space.
    pub words: u32,
}

/// How far a text's next-token distributions are from the baseline's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Sum over tokens of KL(baseline || variant), in nats.
    pub kl: f64,
    /// Tokens after which both expect the same successor.
    pub agreeing: u32,
    /// Compared tokens.
    pub tokens: u32,
}

/// Requests with images that are scored at once.
const WITH_IMAGES: usize = 64;

/// One sequence of a scoring step: the trunk, its branches, and which tokens follow which rows.
struct Tree {
    tokens: Vec<u32>,
    branches: Vec<u32>,
    positions: Vec<u32>,
    /// Row of the sequence, the token that should follow it, and the result it counts for.
    targets: Vec<(u32, u32, usize)>,
}

impl Tree {
    fn trunk(tokens: Vec<u32>) -> Self {
        let positions = (0..tokens.len() as u32).collect();
        Self { branches: vec![0; tokens.len()], positions, tokens, targets: vec![] }
    }

    /// A continuation of the trunk, whose length is `trunk`.
    fn branch(&mut self, trunk: usize, number: u32, continuation: &[u32], result: usize) {
        let mut row = trunk as u32 - 1;
        for (i, token) in continuation.iter().enumerate() {
            self.targets.push((row, *token, result));
            if i + 1 < continuation.len() {
                row = self.tokens.len() as u32;
                self.tokens.push(*token);
                self.branches.push(number);
                self.positions.push((trunk + i) as u32);
            }
        }
    }

    /// A sequence whose last tokens are scored.
    fn whole(mut tokens: Vec<u32>, continuation: &[u32], result: usize) -> Self {
        let first = tokens.len() - 1;
        tokens.extend(&continuation[..continuation.len() - 1]);
        let targets = continuation.iter().enumerate().map(|(i, token)| ((first + i) as u32, *token, result)).collect();
        Self { targets, ..Self::trunk(tokens) }
    }

    fn rows(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.targets.iter().map(|t| t.0).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

impl LanguageModel {
    /// Scores continuations. Context and continuation are tokenised together and split at the context's length; an empty
    /// context becomes the beginning-of-text token; a context that does not fit loses its first tokens.
    pub fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, EngineError> {
        match requests.iter().any(|request| !request.prompt.images.is_empty()) {
            // Rows of images that are not needed yet need no memory either.
            true => {
                let scores = requests.chunks(WITH_IMAGES).map(|requests| self.score_together(requests));
                Ok(scores.collect::<Result<Vec<_>, _>>()?.concat())
            }
            false => self.score_together(requests),
        }
    }

    fn score_together(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, EngineError> {
        let images = self.prepare_images(requests.iter().map(|request| &request.prompt))?;
        let mut contexts: Vec<(Vec<u32>, Vec<usize>)> = Vec::new();
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut continuations = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            let (context, continuation) = self.split(request, &images)?;
            let at = *known.entry(context.clone()).or_insert_with(|| {
                contexts.push((context, vec![]));
                contexts.len() - 1
            });
            contexts[at].1.push(i);
            continuations.push(continuation);
        }
        let alike = self.model.branches_alike();
        let trees = contexts
            .into_iter()
            .flat_map(|(context, members)| {
                if !alike {
                    return members.into_iter().map(|i| Tree::whole(context.clone(), &continuations[i], i)).collect();
                }
                let trunk = context.len();
                let mut tree = Tree::trunk(context);
                for (number, i) in members.into_iter().enumerate() {
                    tree.branch(trunk, number as u32 + 1, &continuations[i], i);
                }
                vec![tree]
            })
            .collect();
        let mut scores: Vec<Score> = requests
            .iter()
            .zip(&continuations)
            .map(|(r, c)| Score {
                log_likelihood: 0.0,
                greedy: true,
                tokens: c.len() as u32,
                bytes: r.continuation.len() as u32,
            })
            .collect();
        self.follow(trees, |result, log_probability, greedy| {
            scores[result].log_likelihood += log_probability;
            scores[result].greedy &= greedy;
        })?;
        Ok(scores)
    }

    fn split(&self, request: &ScoreRequest, images: &PreparedImages<'_>) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
        let (text, special) = self.render(&request.prompt)?;
        let text = images.expand(text, &request.prompt)?;
        let context = text.trim_end();
        let moved = &text[context.len()..];
        let whole = self.tokenizer.encode(&format!("{context}{moved}{}", request.continuation), special)?;
        let mut context = self.tokenizer.encode(context, special)?;
        images.place(&mut context, &request.prompt)?;
        let mut continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
        if context.is_empty() {
            match self.first_token() {
                Some(first) => context.push(first),
                None if continuation.len() > 1 => context.push(continuation.remove(0)),
                None => {}
            }
        }
        if continuation.is_empty() || context.is_empty() {
            return Err(EngineError::Invalid(format!(
                "continuation `{}` has no tokens to score",
                request.continuation
            )));
        }
        if let Some(limit) = self.model.context() {
            if continuation.len() >= limit {
                return Err(EngineError::Invalid(format!(
                    "a continuation of {} tokens does not fit the model's context of {limit}",
                    continuation.len()
                )));
            }
            let excess = (context.len() + continuation.len() - 1).saturating_sub(limit);
            context.drain(..excess.min(context.len() - 1));
        }
        Ok((context, continuation))
    }

    /// Scores whole texts: each token once, with at most `window` tokens of sequence (0: the model's context), `stride`
    /// new tokens a window (0: the whole window). The first token follows the beginning-of-text token.
    pub fn rolling(&self, texts: &[String], window: usize, stride: usize) -> Result<Vec<Rolling>, EngineError> {
        let limit = self.model.context().unwrap_or(usize::MAX);
        let window = if window == 0 { limit.min(4096) } else { window.min(limit) };
        let stride = if stride == 0 { window } else { stride.min(window) };
        let mut results = Vec::with_capacity(texts.len());
        let mut trees = Vec::new();
        for (result, text) in texts.iter().enumerate() {
            let mut tokens = self.tokenizer.encode(text, false)?;
            if let Some(first) = self.first_token() {
                tokens.insert(0, first);
            }
            let mut scored = 1;
            while scored < tokens.len() {
                // Input up to, but without, the last scored token; the first window is scored whole.
                let end = (scored + if scored == 1 { window } else { stride }).min(tokens.len());
                let start = (end - 1).saturating_sub(window);
                let mut tree = Tree::trunk(tokens[start..end - 1].to_vec());
                tree.targets = (scored..end).map(|i| ((i - 1 - start) as u32, tokens[i], result)).collect();
                trees.push(tree);
                scored = end;
            }
            results.push(Rolling {
                log_likelihood: 0.0,
                tokens: tokens.len().saturating_sub(1) as u32,
                bytes: text.len() as u32,
                words: text.split_whitespace().count() as u32,
            });
        }
        self.follow(trees, |result, log_probability, _| results[result].log_likelihood += log_probability)?;
        Ok(results)
    }

    /// Runs the trees, packed by length, and reports each target's log-probability and whether it was the most likely.
    fn follow(&self, mut trees: Vec<Tree>, mut report: impl FnMut(usize, f64, bool)) -> Result<(), EngineError> {
        trees.sort_by_key(|t| t.tokens.len());
        let budget = self.step_tokens();
        let mut at = 0;
        while at < trees.len() {
            let mut end = at;
            let mut tokens = 0;
            while end < trees.len() && (end == at || tokens + trees[end].tokens.len() <= budget) {
                tokens += trees[end].tokens.len();
                end += 1;
            }
            let pack = &trees[at..end];
            let mut caches: Vec<_> = pack.iter().map(|_| self.model.cache()).collect();
            let rows: Vec<Vec<u32>> = pack.iter().map(Tree::rows).collect();
            let mut sequences: Vec<Sequence<'_>> = pack
                .iter()
                .zip(&mut caches)
                .zip(&rows)
                .map(|((tree, cache), rows)| Sequence {
                    tokens: &tree.tokens,
                    branches: Some((&tree.branches, &tree.positions)),
                    cache,
                    rows: Rows::These(rows.clone()),
                })
                .collect();
            let logits = self.model.forward(&mut sequences)?;
            let vocabulary = self.model.vocabulary();
            let logits = logits.to_device(&Device::Cpu)?;
            let sums: Vec<(f32, usize)> = floats(&logits, |values| {
                self.model.install(|| {
                    values.par_chunks_exact(vocabulary).map(|row| (log_sum_exp(row), argmax(row))).collect()
                })
            })?;
            let logit = |row: usize, token: u32| floats(&logits, |values| values[row * vocabulary + token as usize]);
            let mut base = 0;
            for (tree, rows) in pack.iter().zip(&rows) {
                for (row, token, result) in &tree.targets {
                    let index = base + rows.binary_search(row).expect("rows lists every target's row");
                    let (log_sum, best) = sums[index];
                    let log_probability = f64::from(logit(index, *token)? - log_sum);
                    if !log_probability.is_finite() {
                        return Err(EngineError::Diverged("the model's logits are not finite".into()));
                    }
                    report(*result, log_probability, best == *token as usize);
                }
                base += rows.len();
            }
            at = end;
        }
        Ok(())
    }

    /// Distance of this model's next-token distributions from the baseline's on the same texts, at most `window` tokens of
    /// each (0: the model's context).
    pub fn distance(
        &self,
        baseline: &LanguageModel,
        texts: &[String],
        window: usize,
    ) -> Result<Vec<Distance>, EngineError> {
        let limit = self.model.context().unwrap_or(usize::MAX).min(4096);
        let window = if window == 0 { limit } else { window.min(limit) };
        let vocabulary = self.model.vocabulary();
        if vocabulary != baseline.model.vocabulary() {
            return Err(EngineError::Invalid(format!(
                "vocabularies of {vocabulary} and {} tokens cannot be compared",
                baseline.model.vocabulary()
            )));
        }
        let step = self.step_tokens();
        let mut results = Vec::with_capacity(texts.len());
        for text in texts {
            let mut tokens = self.tokenizer.encode(text, false)?;
            if let Some(first) = self.first_token() {
                tokens.insert(0, first);
            }
            tokens.truncate(window);
            let mut distance = Distance { kl: 0.0, agreeing: 0, tokens: 0 };
            let (mut ours, mut theirs) = (self.model.cache(), baseline.model.cache());
            for chunk in tokens.chunks(step) {
                let run = |model: &crate::Model, cache| {
                    let sequence = Sequence { tokens: chunk, branches: None, cache, rows: Rows::All };
                    model.forward(&mut [sequence])?.to_device(&Device::Cpu).map_err(EngineError::from)
                };
                let (q, p) = (run(&self.model, &mut ours)?, run(&baseline.model, &mut theirs)?);
                let parts: Vec<(f32, bool)> = floats(&p, |p| {
                    floats(&q, |q| {
                        self.model.install(|| {
                            p.par_chunks_exact(vocabulary)
                                .zip(q.par_chunks_exact(vocabulary))
                                .map(|(p, q)| (divergence(p, q), argmax(p) == argmax(q)))
                                .collect()
                        })
                    })
                })??;
                for (kl, agrees) in parts {
                    if !kl.is_finite() {
                        return Err(EngineError::Diverged("the model's logits are not finite".into()));
                    }
                    distance.kl += f64::from(kl);
                    distance.agreeing += u32::from(agrees);
                    distance.tokens += 1;
                }
            }
            results.push(distance);
        }
        Ok(results)
    }
}

//! The interface `session`: scoring and generating with the variant under test.

use crate::bindings::shared::session as wit;
use crate::bindings::shared::session::{Host, HostSession};
use crate::convert;
use crate::evaluator::Baseline;
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use aehost_engine::{GenerationRequest, LanguageModel, Message, Prompt, ScoreRequest};
use std::sync::Arc;
use wasmtime::component::Resource;

/// The variant under test and, made when it is asked for, the baseline.
pub struct Session {
    /// Under test.
    pub model: Arc<LanguageModel>,
    /// The study's baseline.
    pub baseline: Baseline,
}

fn prompt_in(prompt: wit::Prompt) -> Prompt {
    let message = |m: wit::Message| Message { role: m.role, content: m.content };
    Prompt { messages: prompt.messages.into_iter().map(message).collect(), chat: prompt.chat, images: vec![] }
}

impl Host for HostCall<'_> {}

impl HostSession for HostCall<'_> {
    fn score(&mut self, this: Resource<Session>, requests: Vec<wit::Request>) -> Answer<Vec<wit::Score>> {
        let model = self.table.get(&this)?.model.clone();
        let request = |r: wit::Request| ScoreRequest { prompt: prompt_in(r.prompt), continuation: r.continuation };
        let requests: Vec<ScoreRequest> = requests.into_iter().map(request).collect();
        let scores = model.score(&requests)?;
        Ok(scores
            .into_iter()
            .map(|s| wit::Score {
                log_likelihood: s.log_likelihood,
                greedy: s.greedy,
                tokens: s.tokens,
                bytes: s.bytes,
            })
            .collect())
    }

    fn rolling(
        &mut self,
        this: Resource<Session>,
        texts: Vec<String>,
        window: u32,
        stride: u32,
    ) -> Answer<Vec<wit::Rolling>> {
        let model = self.table.get(&this)?.model.clone();
        let rolled = model.rolling(&texts, window as usize, stride as usize)?;
        Ok(rolled
            .into_iter()
            .map(|r| wit::Rolling {
                log_likelihood: r.log_likelihood,
                tokens: r.tokens,
                bytes: r.bytes,
                words: r.words,
            })
            .collect())
    }

    fn generate(&mut self, this: Resource<Session>, requests: Vec<wit::Generation>) -> Answer<Vec<wit::Generated>> {
        let model = self.table.get(&this)?.model.clone();
        let request = |r: wit::Generation| {
            Ok(GenerationRequest { prompt: prompt_in(r.prompt), settings: convert::settings_in(r.settings)? })
        };
        let requests = requests.into_iter().map(request).collect::<Result<Vec<_>, Fault>>()?;
        let generated = model.generate(&requests)?;
        Ok(generated.into_iter().map(|g| wit::Generated { text: g.text, tokens: g.tokens, finish: g.finish }).collect())
    }

    fn distance(&mut self, this: Resource<Session>, texts: Vec<String>, window: u32) -> Answer<Vec<wit::Distance>> {
        let session = self.table.get(&this)?;
        let (model, baseline) = (session.model.clone(), session.baseline.clone());
        let baseline = baseline()?;
        let distances = model.distance(&baseline, &texts, window as usize)?;
        Ok(distances.into_iter().map(|d| wit::Distance { kl: d.kl, agreeing: d.agreeing, tokens: d.tokens }).collect())
    }

    fn drop(&mut self, this: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

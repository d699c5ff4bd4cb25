//! A runnable variant with its tokenizer: what evaluators score with and what people talk to.

use crate::{EngineError, Model, Variant};
use aehost_formats::{Message, Tokenizer};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// What a model is given: messages, joined as they are or through the checkpoint's chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// In order.
    pub messages: Vec<Message>,
    /// Whether the chat template applies.
    pub chat: bool,
}

impl Prompt {
    /// A plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::new("user", text)], chat: false }
    }

    /// One turn of a user, through the chat template.
    pub fn chat(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::new("user", text)], chat: true }
    }
}

/// A model and its tokenizer.
pub struct LanguageModel {
    pub(crate) model: Model,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl LanguageModel {
    /// Makes a variant ready to run.
    pub fn new(
        variant: &Variant,
        tokenizer: Arc<Tokenizer>,
        device: &Device,
        threads: usize,
    ) -> Result<Self, EngineError> {
        Ok(Self::of(Model::new(variant, device, threads)?, tokenizer))
    }

    /// A model that is ready to run, with its tokenizer.
    pub fn of(model: Model, tokenizer: Arc<Tokenizer>) -> Self {
        Self { model, tokenizer }
    }

    /// The model underneath.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The text that the model sees, and whether the tokenizer may still add its own prefix.
    pub(crate) fn render(&self, prompt: &Prompt) -> Result<(String, bool), EngineError> {
        if prompt.chat {
            return Ok((self.tokenizer.apply_chat_template(&prompt.messages, true)?, false));
        }
        Ok((prompt.messages.iter().map(|m| m.content.as_str()).collect(), true))
    }

    /// Tokens that a step of scoring should hold: enough for efficient products, few enough that their logits stay small.
    pub(crate) fn step_tokens(&self) -> usize {
        const LOGITS: usize = 32 << 20;
        (LOGITS / self.model.vocabulary().max(1)).clamp(64, 640)
    }

    /// The token before the first one of a text.
    pub(crate) fn first_token(&self) -> Option<u32> {
        self.tokenizer.bos()
    }
}

/// The rows of a logits tensor as one slice on the CPU.
pub(crate) fn logits_rows(logits: &Tensor) -> Result<Vec<f32>, EngineError> {
    let values: Vec<f32> = logits.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    Ok(values)
}

//! A runnable variant with its tokenizer: what evaluators score with and what people talk to.

use crate::images::{ImageTaker, MARK};
use crate::{EngineError, Layouts, Model, Variant};
use aehost_formats::{Message, Tokenizer};
use aehost_images::Image;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// What a model is given: messages, joined as they are or through the checkpoint's chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// In order.
    pub messages: Vec<Message>,
    /// Whether the chat template applies.
    pub chat: bool,
    /// Where the contents of messages mark a place for an image by `<image>`, the next of these.
    pub images: Vec<Arc<Image>>,
}

impl Prompt {
    /// A plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::new("user", text)], chat: false, images: vec![] }
    }

    /// One turn of a user, through the chat template.
    pub fn chat(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::new("user", text)], chat: true, images: vec![] }
    }
}

/// A model and its tokenizer.
pub struct LanguageModel {
    pub(crate) model: Model,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) images: Option<ImageTaker>,
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
        Self { model, tokenizer, images: None }
    }

    /// The same for prompts with images, whose `layouts` the family of the variant knows.
    ///
    /// # Errors
    /// `Invalid` where the variant does not say how it takes images.
    pub fn with_images(self, variant: &Variant, layouts: Layouts) -> Result<Self, EngineError> {
        Ok(Self { images: Some(ImageTaker::new(variant, layouts)?), ..self })
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
        let Some(images) = &self.images else {
            return match prompt.chat {
                true => Ok((self.tokenizer.apply_chat_template(&prompt.messages, true)?, false)),
                false => Ok((prompt.messages.iter().map(|m| m.content.as_str()).collect(), true)),
            };
        };
        // Templates of models that take images want to know what is text and what is none.
        if prompt.chat {
            let mark = if prompt.images.is_empty() { None } else { Some(MARK) };
            return Ok((self.tokenizer.apply_chat_template_in_parts(&prompt.messages, mark, true)?, false));
        }
        let text: String = prompt.messages.iter().map(|m| m.content.as_str()).collect();
        Ok((if prompt.images.is_empty() { text } else { text.replace(MARK, images.token()) }, true))
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

//! Text to token ids and back, as the checkpoint defines it, and its chat template. The algorithms are those of the
//! `tokenizers` crate; this module configures it from GGUF metadata or tokenizer.json.

mod folder;
mod gguf;
mod pre;
mod stream;

pub use stream::StreamDecoder;

use crate::{ChatTemplate, FormatError, Message};

/// Names under which models end a turn or a text; a token counts when it is special (llama.cpp's list).
const END_TOKENS: [&str; 12] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|endoftext",
    "<EOT>",
    "_<EOT>",
    "</s>",
];

/// A checkpoint's tokenizer. Cheap to call from several threads at once.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    path: String,
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: Vec<u32>,
    /// Whether this type puts bos or eos around texts itself (GGUF), instead of the inner tokenizer (tokenizer.json).
    adds: Adds,
    template: Option<ChatTemplate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adds {
    /// The inner tokenizer's post-processor knows; `bos` is what it was seen to do.
    Inner { bos: bool },
    /// We add them.
    Outer { bos: bool, eos: bool },
}

impl Tokenizer {
    /// Token ids of a text. Special tokens that are spelled out in it (`<|im_start|>`) are recognised, as transformers
    /// does. With `special` the checkpoint's own prefix and suffix (beginning- or end-of-text) are added where it asks
    /// for them; leave it off for continuations, and for texts that a chat template made.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, FormatError> {
        let inner_special = special && matches!(self.adds, Adds::Inner { .. });
        let encoding = self.inner.encode_fast(text, inner_special).map_err(|e| self.error("encoding", e))?;
        let ids = encoding.get_ids();
        let (bos, eos) = match self.adds {
            Adds::Outer { bos, eos } if special => (self.bos.filter(|_| bos), self.eos.filter(|_| eos)),
            _ => (None, None),
        };
        Ok(bos.into_iter().chain(ids.iter().copied()).chain(eos).collect())
    }

    /// The text of token ids; special tokens are left out, and bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, FormatError> {
        self.inner.decode(ids, true).map_err(|e| self.error("decoding", e))
    }

    /// A decoder for tokens that arrive one by one.
    pub fn stream(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// The beginning-of-text token, whether or not [`Tokenizer::encode`] adds it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Every token that ends a generation, in ascending order: end of text and end of turn.
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// Whether [`Tokenizer::encode`] with `special` puts the beginning-of-text token first.
    pub fn adds_bos(&self) -> bool {
        match self.adds {
            Adds::Inner { bos } | Adds::Outer { bos, .. } => bos,
        }
    }

    /// Number of token ids, special tokens included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// How the vocabulary spells a token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token steers the model and has no text of its own: [`Tokenizer::decode`] leaves it out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Whether the checkpoint has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The conversation as one text, to be encoded without `special`; with `add_generation_prompt` it ends where the
    /// assistant is to speak. Errors when the checkpoint has no template, or the template refuses the messages.
    pub fn apply_chat_template(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, FormatError> {
        self.template()?.apply(messages, add_generation_prompt)
    }

    /// The same for a template that takes contents as lists of parts: texts, and images where `mark` stands.
    pub fn apply_chat_template_in_parts(
        &self,
        messages: &[Message],
        mark: Option<&str>,
        add_generation_prompt: bool,
    ) -> Result<String, FormatError> {
        self.template()?.apply_in_parts(messages, mark, add_generation_prompt)
    }

    fn template(&self) -> Result<&ChatTemplate, FormatError> {
        self.template.as_ref().ok_or_else(|| FormatError::Missing {
            path: self.path.clone(),
            what: "chat template".into(),
            remedy: "it is a base model: send plain text instead of chat messages, or choose an instruct model".into(),
        })
    }

    fn error(&self, what: &'static str, problem: impl std::fmt::Display) -> FormatError {
        FormatError::Text { path: self.path.clone(), what, problem: problem.to_string() }
    }

    /// All tokens that end a generation: those given, and special tokens with a name that says so.
    fn collect_ends(inner: &tokenizers::Tokenizer, given: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let named = inner.get_added_tokens_decoder();
        let named =
            named.iter().filter(|(_, t)| t.special && END_TOKENS.contains(&t.content.as_str())).map(|(id, _)| *id);
        let mut ends: Vec<u32> = given.into_iter().chain(named).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

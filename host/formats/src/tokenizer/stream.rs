//! Decoding tokens as they are generated: text leaves only when it is valid UTF-8 and later tokens cannot change it.

use super::Tokenizer;
use crate::FormatError;

/// Turns token ids into pieces of text whose concatenation is the decoded text. Decoding a piece needs the tokens before
/// it (a decoder may treat the first word differently), so the tokens of the last piece are kept as context.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of the last piece, then tokens whose text has not left yet.
    ids: Vec<u32>,
    /// How many of `ids` have left.
    left: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), left: 0 }
    }

    /// Takes the next token and returns the text that it completes; empty in the middle of a character, or for special
    /// tokens.
    pub fn push(&mut self, id: u32) -> Result<String, FormatError> {
        self.ids.push(id);
        let piece = self.pending()?;
        if piece.is_empty() || piece.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        self.ids.drain(..self.left);
        self.left = self.ids.len();
        Ok(piece)
    }

    /// The text that is still held back; an unfinished character becomes U+FFFD.
    pub fn finish(mut self) -> Result<String, FormatError> {
        let piece = self.pending()?;
        self.ids.clear();
        Ok(piece)
    }

    fn pending(&self) -> Result<String, FormatError> {
        let before = self.tokenizer.decode(&self.ids[..self.left])?;
        let all = self.tokenizer.decode(&self.ids)?;
        Ok(all.get(before.len()..).unwrap_or_default().to_owned())
    }
}

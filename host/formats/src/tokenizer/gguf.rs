//! The tokenizer that GGUF metadata describes: byte-level BPE (`gpt2`) with merges, or SentencePiece BPE (`llama`), whose
//! merges follow from the scores of its tokens.

use super::pre::{self, Rules};
use super::{Adds, Tokenizer};
use crate::gguf::Header;
use crate::{ChatTemplate, FormatError};
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::Path;
use tokenizers::decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers, unicode::NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// How llama.cpp classes tokens (`llama_token_type`).
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// The tokenizer part of a file's metadata.
struct Metadata<'a> {
    path: &'a Path,
    header: &'a Header,
    bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    fn missing(&self, key: &str) -> FormatError {
        let remedy = "the file has no usable tokenizer: convert the model again, with its tokenizer files beside it";
        FormatError::missing(self.path, format!("`{key}`"), remedy)
    }

    fn malformed(&self, key: &str, problem: impl Into<String>) -> FormatError {
        FormatError::malformed(self.path, format!("`{key}`"), problem)
    }

    fn strings(&self, key: &str) -> Result<Vec<Cow<'a, str>>, FormatError> {
        self.header.strings(self.bytes, key).ok_or_else(|| self.missing(key))
    }

    /// A token's id, if the key is there.
    fn id(&self, key: &str, vocabulary: usize) -> Result<Option<u32>, FormatError> {
        match self.header.integer(self.bytes, key) {
            None => Ok(None),
            Some(id) if (0..vocabulary as i64).contains(&id) => Ok(Some(id as u32)),
            Some(id) => Err(self.malformed(key, format!("{id} is not one of the {vocabulary} tokens"))),
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.header.flag(self.bytes, key)
    }
}

impl Tokenizer {
    pub(crate) fn from_gguf(path: &Path, header: &Header, bytes: &[u8]) -> Result<Self, FormatError> {
        let metadata = Metadata { path, header, bytes };
        let model_key = "tokenizer.ggml.model";
        let model = header.text(bytes, model_key).ok_or_else(|| metadata.missing(model_key))?;
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let kinds: Vec<i64> = match header.reals(bytes, "tokenizer.ggml.token_type") {
            Some(kinds) if kinds.len() != tokens.len() => {
                let problem = format!("has {} entries for {} tokens", kinds.len(), tokens.len());
                return Err(metadata.malformed("tokenizer.ggml.token_type", problem));
            }
            Some(kinds) => kinds.into_iter().map(|k| k as i64).collect(),
            None => vec![1; tokens.len()],
        };

        let (mut inner, adds_bos) = match model {
            "gpt2" => byte_level(&metadata, &tokens)?,
            "llama" => sentence_piece(&metadata, &tokens, &kinds)?,
            other => {
                let remedy = "use the model's Hugging Face folder, which has a tokenizer.json";
                return Err(FormatError::unsupported(path, format!("tokenizer model `{other}`"), remedy));
            }
        };
        let added =
            tokens.iter().zip(&kinds).filter(|(text, kind)| [CONTROL, USER_DEFINED].contains(kind) && !text.is_empty());
        let added = added.map(|(text, kind)| AddedToken::from(text.to_string(), *kind == CONTROL).normalized(false));
        inner
            .add_tokens(added.collect::<Vec<_>>())
            .map_err(|e| metadata.malformed("tokenizer.ggml.tokens", e.to_string()))?;

        let id = |name: &str| metadata.id(&format!("tokenizer.ggml.{name}_token_id"), tokens.len());
        let (bos, eos) = (id("bos")?, id("eos")?);
        let ends = Self::collect_ends(&inner, [eos, id("eot")?, id("eom")?].into_iter().flatten());
        let text = |id: Option<u32>| id.map(|id| tokens[id as usize].to_string());
        let name = path.display().to_string();
        let template = header.text(bytes, "tokenizer.chat_template");
        let template = template.map(|source| ChatTemplate::new(&name, source, text(bos), text(eos))).transpose()?;
        let adds = Adds::Outer {
            bos: bos.is_some() && metadata.flag("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos),
            eos: eos.is_some() && metadata.flag("tokenizer.ggml.add_eos_token").unwrap_or(false),
        };
        Ok(Self { path: name, inner, bos, eos, ends, adds, template })
    }
}

fn vocabulary(tokens: &[Cow<'_, str>]) -> Vocab {
    tokens.iter().enumerate().map(|(id, text)| (text.to_string(), id as u32)).collect()
}

/// Byte-level BPE, and whether it begins texts with the beginning-of-text token by default.
fn byte_level(metadata: &Metadata<'_>, tokens: &[Cow<'_, str>]) -> Result<(tokenizers::Tokenizer, bool), FormatError> {
    let pre_key = "tokenizer.ggml.pre";
    let name = metadata.header.text(metadata.bytes, pre_key).unwrap_or("default");
    let Some(Rules { splits, compose, whole_words, adds_bos }) = pre::rules(name) else {
        let remedy = "use the model's Hugging Face folder, which has a tokenizer.json";
        return Err(FormatError::unsupported(metadata.path, format!("pre-tokenizer `{name}`"), remedy));
    };
    let merges_key = "tokenizer.ggml.merges";
    let merges = metadata.strings(merges_key)?;
    let merges: Merges = merges
        .iter()
        .map(|merge| {
            // The first character may itself be a space in no byte-level vocabulary, so the first space parts the two.
            let (a, b) = merge.split_once(' ').ok_or_else(|| {
                metadata.malformed(merges_key, format!("\"{merge}\" is not two tokens with a space between"))
            })?;
            Ok((a.to_owned(), b.to_owned()))
        })
        .collect::<Result<_, FormatError>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), merges)
        .ignore_merges(whole_words)
        .build()
        .map_err(|e| metadata.malformed(merges_key, e.to_string()))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let mut steps: Vec<tokenizers::PreTokenizerWrapper> = Vec::new();
    for split in splits {
        let pattern = SplitPattern::Regex((*split).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(split.expect("the expressions are constants that compile").into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    inner.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    inner.with_decoder(Some(ByteLevel::new(false, true, false)));
    if compose {
        inner.with_normalizer(Some(NFC)).map_err(|e| metadata.malformed(pre_key, e.to_string()))?;
    }
    Ok((inner, adds_bos))
}

/// SentencePiece BPE, and whether it begins texts with the beginning-of-text token by default.
fn sentence_piece(
    metadata: &Metadata<'_>,
    tokens: &[Cow<'_, str>],
    kinds: &[i64],
) -> Result<(tokenizers::Tokenizer, bool), FormatError> {
    let scores_key = "tokenizer.ggml.scores";
    let scores = metadata.header.reals(metadata.bytes, scores_key).ok_or_else(|| metadata.missing(scores_key))?;
    if scores.len() != tokens.len() {
        let problem = format!("has {} entries for {} tokens", scores.len(), tokens.len());
        return Err(metadata.malformed(scores_key, problem));
    }
    let unknown =
        metadata.id("tokenizer.ggml.unknown_token_id", tokens.len())?.map(|id| tokens[id as usize].to_string());
    let vocabulary = vocabulary(tokens);
    let merges = merges_of_scores(&vocabulary, tokens, kinds, &scores);
    let mut model = BPE::builder().vocab_and_merges(vocabulary, merges).byte_fallback(true).fuse_unk(true);
    if let Some(unknown) = unknown {
        model = model.unk_token(unknown);
    }
    let model = model.build().map_err(|e| metadata.malformed("tokenizer.ggml.tokens", e.to_string()))?;
    let mut inner = tokenizers::Tokenizer::new(model);

    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let replace = |from: &str, to: &str| Replace::new(from, to).expect("a plain string is a valid pattern");
    let mut normalizers: Vec<tokenizers::NormalizerWrapper> = vec![replace(" ", SPACE).into()];
    let mut decoders: Vec<tokenizers::DecoderWrapper> =
        vec![replace(SPACE, " ").into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        normalizers.insert(0, Prepend::new(SPACE.into()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    let normalized = inner.with_normalizer(Some(Normalizers::new(normalizers)));
    normalized.map_err(|e| metadata.malformed("tokenizer.ggml.tokens", e.to_string()))?;
    inner.with_decoder(Some(Decoders::new(decoders)));
    Ok((inner, true))
}

/// SentencePiece joins the neighbours whose union has the highest score. The same as a list of merges: every way to cut a
/// token into two others, in falling order of the token's score.
fn merges_of_scores(vocabulary: &Vocab, tokens: &[Cow<'_, str>], kinds: &[i64], scores: &[f64]) -> Merges {
    let mut order: Vec<usize> = (0..tokens.len()).filter(|id| ![CONTROL, UNUSED, BYTE].contains(&kinds[*id])).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let merges = order.into_par_iter().flat_map_iter(|id| {
        let token = tokens[id].as_ref();
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let mut pairs: Vec<(u32, u32, &str, &str)> =
            cuts.filter_map(|(a, b)| Some((*vocabulary.get(a)?, *vocabulary.get(b)?, a, b))).collect();
        pairs.sort_unstable();
        pairs.into_iter().map(|(_, _, a, b)| (a.to_owned(), b.to_owned()))
    });
    merges.collect()
}

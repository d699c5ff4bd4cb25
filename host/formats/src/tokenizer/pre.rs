//! How byte-level BPE vocabularies cut text into words before merging. GGUF stores only a name (`tokenizer.ggml.pre`);
//! the expressions behind the names are llama.cpp's (`src/llama-vocab.cpp`), checked against the models' tokenizer.json.

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a pre-tokenizer's name stands for.
pub(super) struct Rules {
    /// Applied one after the other, each to the pieces that the last one left.
    pub(super) splits: &'static [&'static str],
    /// Whether text is brought to Unicode's composed form first.
    pub(super) compose: bool,
    /// Whether a word that is in the vocabulary is one token, whatever the merges say.
    pub(super) whole_words: bool,
    /// Whether texts begin with the beginning-of-text token where the file does not say.
    pub(super) adds_bos: bool,
}

/// The rules behind a name.
pub(super) fn rules(name: &str) -> Option<Rules> {
    let plain = |splits| Rules { splits, compose: false, whole_words: false, adds_bos: false };
    Some(match name {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => {
            Rules { whole_words: true, adds_bos: true, ..plain(&[LLAMA3]) }
        }
        "smaug-bpe" | "dbrx" => plain(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" => Rules { compose: true, ..plain(&[QWEN2]) },
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            plain(&[r"\p{N}", GPT2])
        }
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "gigachat" | "roberta-bpe" => plain(&[GPT2]),
        "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        _ => return None,
    })
}

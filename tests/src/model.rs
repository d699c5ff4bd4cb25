//! A small llama model with random weights and a byte-level vocabulary: everything a real one has, in a megabyte, and the
//! same bytes each time.

use aehost_formats::Encoding;
use aehost_formats::gguf::{Value, Writer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream, a multiple of [`HEAD`] times 2.
    pub hidden: usize,
    /// Width inside the feed-forward network.
    pub feed_forward: usize,
}

/// Tokens of the vocabulary, the bytes first.
const VOCABULARY: usize = 288;

/// Elements of an attention head; half of the heads have keys and values of their own.
pub const HEAD: usize = 32;

/// A model that is loaded in milliseconds.
pub const TINY: Sizes = Sizes { layers: 4, hidden: 64, feed_forward: 128 };

/// A model whose weights outweigh what the program itself needs, so that its memory can be seen.
pub const WEIGHTY: Sizes = Sizes { layers: 8, hidden: 512, feed_forward: 1536 };

const CHAT: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model file in the making, to be damaged or saved.
pub fn llama(sizes: Sizes) -> Writer<'static> {
    let mut writer = without_tokenizer(sizes);
    tokenizer(&mut writer);
    writer
}

/// As [`llama`], without its tokenizer.
pub fn without_tokenizer(sizes: Sizes) -> Writer<'static> {
    let Sizes { layers, hidden, feed_forward } = sizes;
    let mut writer = Writer::new();
    let number = |n: usize| n as u32;
    writer
        .set("general.architecture", "llama")
        .set("general.name", "tiny")
        .set("llama.block_count", number(layers))
        .set("llama.context_length", 512u32)
        .set("llama.embedding_length", number(hidden))
        .set("llama.feed_forward_length", number(feed_forward))
        .set("llama.attention.head_count", number(hidden / HEAD))
        .set("llama.attention.head_count_kv", number(hidden / HEAD / 2))
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .set("llama.rope.freq_base", 10_000f32);
    let mut random = StdRng::seed_from_u64(7);
    let mut matrix = |writer: &mut Writer<'static>, name: &str, rows: usize, columns: usize| {
        let scale = 1.7 / (columns as f32).sqrt();
        let bytes: Vec<u8> = (0..rows * columns)
            .flat_map(|_| half::f16::from_f32(random.random_range(-scale..scale)).to_le_bytes())
            .collect();
        writer.tensor(name, &[rows, columns], Encoding::F16, bytes).unwrap();
    };
    let norm = |writer: &mut Writer<'static>, name: &str| {
        let bytes: Vec<u8> = (0..hidden).flat_map(|_| 1f32.to_le_bytes()).collect();
        writer.tensor(name, &[hidden], Encoding::F32, bytes).unwrap();
    };
    matrix(&mut writer, "token_embd.weight", VOCABULARY, hidden);
    norm(&mut writer, "output_norm.weight");
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        norm(&mut writer, &name("attn_norm"));
        norm(&mut writer, &name("ffn_norm"));
        matrix(&mut writer, &name("attn_q"), hidden, hidden);
        matrix(&mut writer, &name("attn_k"), hidden / 2, hidden);
        matrix(&mut writer, &name("attn_v"), hidden / 2, hidden);
        matrix(&mut writer, &name("attn_output"), hidden, hidden);
        matrix(&mut writer, &name("ffn_gate"), feed_forward, hidden);
        matrix(&mut writer, &name("ffn_up"), feed_forward, hidden);
        matrix(&mut writer, &name("ffn_down"), hidden, feed_forward);
    }
    writer
}

/// Every byte is a token, followed by what marks the turns of a chat.
fn tokenizer(writer: &mut Writer<'static>) {
    const CONTROL: i32 = 3;
    let mut tokens: Vec<String> = (0..=255).map(|byte| spelled(byte).to_string()).collect();
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    tokens.extend(specials.map(String::from));
    tokens.extend((tokens.len()..VOCABULARY).map(|n| format!("<|unused-{n}|>")));
    let kinds = (0..VOCABULARY).map(|id| if id < 256 { 1 } else { CONTROL }).collect();
    writer
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "smollm")
        .set("tokenizer.ggml.tokens", Value::Strings(tokens))
        .set("tokenizer.ggml.token_type", Value::I32s(kinds))
        .set("tokenizer.ggml.merges", Value::Strings(vec![]))
        .set("tokenizer.ggml.bos_token_id", 256u32)
        .set("tokenizer.ggml.eos_token_id", 258u32)
        .set("tokenizer.chat_template", CHAT);
}

/// The character that byte-level vocabularies write for a byte (GPT-2's table).
fn spelled(byte: u8) -> char {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return byte.into();
    }
    let rank = (0..byte).filter(|b| !plain(*b)).count() as u32;
    char::from_u32(256 + rank).expect("the table ends below 512")
}

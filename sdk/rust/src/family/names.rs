//! Where checkpoints keep the weights of a model's parts.

use std::collections::BTreeMap;

/// A part of the graph, its tensor in GGUF (the names of llama.cpp's `gguf-py`) and in Hugging Face's models. A layer's
/// names lack its prefix, all lack `.weight`; where there is a tensor for each expert, `*` is its number.
const USUAL: &[(&str, &str, &str)] = &[
    ("embedding", "token_embd", "model.embed_tokens"),
    ("norm", "output_norm", "model.norm"),
    ("head", "output", "lm_head"),
    ("attention.norm", "attn_norm", "input_layernorm"),
    ("attention.query", "attn_q", "self_attn.q_proj"),
    ("attention.key", "attn_k", "self_attn.k_proj"),
    ("attention.value", "attn_v", "self_attn.v_proj"),
    ("attention.query-key-value", "attn_qkv", "self_attn.qkv_proj"),
    ("attention.query-norm", "attn_q_norm", "self_attn.q_norm"),
    ("attention.key-norm", "attn_k_norm", "self_attn.k_norm"),
    ("attention.output", "attn_output", "self_attn.o_proj"),
    ("attention.query-down", "attn_q_a", "self_attn.q_a_proj"),
    ("attention.query-down-norm", "attn_q_a_norm", "self_attn.q_a_layernorm"),
    ("attention.query-up", "attn_q_b", "self_attn.q_b_proj"),
    ("attention.latent", "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
    ("attention.key-rotated", "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
    ("attention.latent-norm", "attn_kv_a_norm", "self_attn.kv_a_layernorm"),
    ("attention.key-up", "attn_k_b", "self_attn.kv_b_proj"),
    ("attention.value-up", "attn_v_b", "self_attn.kv_b_proj"),
    ("feed-forward.norm", "ffn_norm", "post_attention_layernorm"),
    ("feed-forward.gate", "ffn_gate", "mlp.gate_proj"),
    ("feed-forward.up", "ffn_up", "mlp.up_proj"),
    ("feed-forward.gate-up", "ffn_up", "mlp.gate_up_proj"),
    ("feed-forward.down", "ffn_down", "mlp.down_proj"),
    ("feed-forward.router", "ffn_gate_inp", "mlp.gate"),
    ("feed-forward.experts.gate", "ffn_gate_exps", "mlp.experts.*.gate_proj"),
    ("feed-forward.experts.up", "ffn_up_exps", "mlp.experts.*.up_proj"),
    ("feed-forward.experts.down", "ffn_down_exps", "mlp.experts.*.down_proj"),
    ("feed-forward.shared.gate", "ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
    ("feed-forward.shared.up", "ffn_up_shexp", "mlp.shared_expert.up_proj"),
    ("feed-forward.shared.down", "ffn_down_shexp", "mlp.shared_expert.down_proj"),
    ("feed-forward.shared.router", "ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
];

/// The names of one checkpoint's tensors.
#[derive(Debug)]
pub(super) struct Names {
    gguf: bool,
    /// What the names of Hugging Face's tensors begin with, where the model is all of the checkpoint.
    root: String,
    own: BTreeMap<String, [String; 2]>,
}

impl Names {
    pub fn new(format: &str) -> Self {
        Self { gguf: format == "gguf", root: "model".into(), own: BTreeMap::new() }
    }

    /// What follows is kept under another root than `model`, in Hugging Face's models, and has its usual names there.
    pub fn root(&mut self, root: &str) {
        self.root = root.into();
        self.own.clear();
    }

    /// A part with other names than usual.
    pub fn set(&mut self, part: &str, gguf: &str, hugging_face: &str) {
        self.own.insert(part.into(), [gguf.into(), hugging_face.into()]);
    }

    /// The tensor of a part, without `.weight` or `.bias`.
    pub fn tensor(&self, part: &str, layer: Option<u32>) -> Option<String> {
        let root = &self.root;
        let [gguf, hugging_face] = match self.own.get(part) {
            Some(own) => own.clone(),
            None => USUAL.iter().find(|(name, ..)| *name == part).map(|(_, gguf, hugging_face)| {
                let rooted = hugging_face.strip_prefix("model.").map(|rest| format!("{root}.{rest}"));
                [(*gguf).to_owned(), rooted.unwrap_or_else(|| (*hugging_face).to_owned())]
            })?,
        };
        Some(match (layer, self.gguf) {
            (None, true) => gguf,
            (None, false) => hugging_face,
            (Some(layer), true) => format!("blk.{layer}.{gguf}"),
            (Some(layer), false) => format!("{root}.layers.{layer}.{hugging_face}"),
        })
    }
}

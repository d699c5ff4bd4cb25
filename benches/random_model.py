"""A llama with random weights in float16 whose rows are multiples of 256, so that k-quants fit it; for speed only.

    pip install gguf==0.17.1 numpy
    python3 benches/random_model.py VOCABULARY.gguf OUT.gguf
    llama.cpp/bin/llama-quantize OUT.gguf OUT-q4_k.gguf q4_k

The vocabulary is that of VOCABULARY.gguf, the default model's file for example. 12 layers of 1024, 210 million parameters.
"""

import sys

import gguf
import numpy as np

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 12, 1024, 16, 4, 2816, 4096


def main():
    source, out = gguf.GGUFReader(sys.argv[1]), sys.argv[2]
    writer = gguf.GGUFWriter(out, "llama")
    for field in source.fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = len(source.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocabulary)
    random = np.random.default_rng(0)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)
        writer.add_tensor(name + ".weight", values.astype(np.float16))

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(HIDDEN, dtype=np.float32))

    matrix("token_embd", vocabulary, HIDDEN)
    for layer in range(LAYERS):
        part = f"blk.{layer}."
        norm(part + "attn_norm")
        matrix(part + "attn_q", HIDDEN, HIDDEN)
        matrix(part + "attn_k", HIDDEN // HEADS * KV_HEADS, HIDDEN)
        matrix(part + "attn_v", HIDDEN // HEADS * KV_HEADS, HIDDEN)
        matrix(part + "attn_output", HIDDEN, HIDDEN)
        norm(part + "ffn_norm")
        matrix(part + "ffn_gate", FEED_FORWARD, HIDDEN)
        matrix(part + "ffn_up", FEED_FORWARD, HIDDEN)
        matrix(part + "ffn_down", HIDDEN, FEED_FORWARD)
    norm("output_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()

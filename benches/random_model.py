"""A llama with random weights in float16 whose rows are multiples of 256, so that k-quants fit it; for speed only.

    pip install gguf==0.17.1 numpy
    python3 benches/random_model.py VOCABULARY.gguf OUT.gguf [--layers 12] [--hidden 1024] [--heads 16] [--kv-heads 4]
        [--feed-forward 2816]
    llama.cpp/bin/llama-quantize OUT.gguf OUT-q4_k.gguf q4_k

The vocabulary is that of VOCABULARY.gguf, the default model's file for example. Without options it has 12 layers of 1024,
210 million parameters.
"""

import argparse

import gguf
import numpy as np

CONTEXT = 4096


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabulary")
    parser.add_argument("out")
    for name, default in [("layers", 12), ("hidden", 1024), ("heads", 16), ("kv-heads", 4), ("feed-forward", 2816)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    shape = parser.parse_args()
    source = gguf.GGUFReader(shape.vocabulary)
    hidden, feed_forward = shape.hidden, shape.feed_forward
    writer = gguf.GGUFWriter(shape.out, "llama")
    for field in source.fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(hidden // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = len(source.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocabulary)
    random = np.random.default_rng(0)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)
        writer.add_tensor(name + ".weight", values.astype(np.float16))

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(hidden, dtype=np.float32))

    matrix("token_embd", vocabulary, hidden)
    for layer in range(shape.layers):
        part = f"blk.{layer}."
        norm(part + "attn_norm")
        matrix(part + "attn_q", hidden, hidden)
        matrix(part + "attn_k", hidden // shape.heads * shape.kv_heads, hidden)
        matrix(part + "attn_v", hidden // shape.heads * shape.kv_heads, hidden)
        matrix(part + "attn_output", hidden, hidden)
        norm(part + "ffn_norm")
        matrix(part + "ffn_gate", feed_forward, hidden)
        matrix(part + "ffn_up", feed_forward, hidden)
        matrix(part + "ffn_down", hidden, feed_forward)
    norm("output_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()

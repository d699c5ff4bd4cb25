"""The technique `hqq` against its reference, PyPI's `hqq` by Badri and Shaji, and plain rounding, which validates the
comparison: mean KL in nats/token from the model as float16, on the same matrices, groups and tokens. A table in Markdown.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 hqq==0.2.8.post1 transformers==5.24.0 accelerate==1.15.0 \\
        gguf==0.19.0                                                                            # about 5 GB with torch's CUDA
    venv/bin/python benches/hqq_against_reference.py target/release/aehost [--model smollm2-135m-instruct] [--bits 4 3]

The reference runs in transformers on the CPU, from the same file, with its scales and zero-points as float16, as it stores
them. It fits the zero-point alone, in 20 rounds with an early stop, or in the 100 of its slower optimiser. As in aehost,
embedding and head are rounded to 8 bits, and so are the activations that quantised matrices are multiplied with. Fails
where plain rounding differs by more than 5 %: then nothing else here can be compared.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from functools import partial

logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # misses triton, which the CPU has no use for

import torch
import transformers
from hqq.core import optimize
from hqq.core.quantize import Quantizer

GROUP = 64
BLOCK = 32  # of activations, and of the embedding
WINDOW = 512  # of the evaluator `divergence`
PASSAGE = 2000  # characters, as aehost cuts texts
TOLERANCE = 0.05


def aehost(program, *words):
    done = subprocess.run([program, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def path_of(program, kind, name):
    """Of a model or data set that is a file or has a name to pull."""
    if os.path.exists(name):
        return name
    subprocess.run([program, kind, "pull", name], check=True, stdout=subprocess.DEVNULL)
    return next(entry["path"] for entry in aehost(program, kind, "list") if entry["name"] == name)


def divergence_in_aehost(arguments, model, technique):
    apply = ["--apply", technique] if technique else []
    measured = aehost(arguments.aehost, "evaluate", "--plugins", arguments.plugins, "--model", model,
                      "--evaluator", f"divergence:{arguments.data}", "--items", str(arguments.items),
                      "--threads", str(arguments.threads), *apply)
    return measured["metrics"]["divergence.mean_kl"]["value"]


def passages(text):
    """The rows of a text, as aehost cuts it: whole paragraphs of at least so many characters."""
    rows, current = [], []
    for paragraph in "\n".join(line.rstrip() for line in text.split("\n")).split("\n\n"):
        paragraph = paragraph.strip("\n")
        current += [paragraph] if paragraph else []
        if sum(map(len, current)) >= PASSAGE:
            rows.append("\n\n".join(current))
            current = []
    return rows + (["\n\n".join(current)] if current else [])


def drawn(rows, count):
    """Those that aehost draws with seed 0."""
    rows, state, mask = list(rows), 0, (1 << 64) - 1
    for i in range(min(count, len(rows))):
        state = z = state + 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        j = i + ((z ^ z >> 31) * (len(rows) - i) >> 64)
        rows[i], rows[j] = rows[j], rows[i]
    return rows[:count]


def load(path):
    folder, file = os.path.split(os.path.abspath(path))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.copy_(as_half(weight))
    return model, transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)


def tokens_of(tokenizer, row):
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return torch.tensor([(first + tokenizer(row, add_special_tokens=False).input_ids)[:WINDOW]])


def as_half(x):
    return x.half().float()


def nearest(weight, bits):
    """Codes between the smallest and the largest number of each group. Weights that were in blocks have many ties: up."""
    x, top = weight.reshape(-1, GROUP), 2**bits - 1
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    inverse = top / (high - low).where(high > low, 1)
    codes = ((x - low) * inverse + 0.5).floor().clamp(0, top)
    return (codes * as_half(1 / inverse) + as_half(low)).reshape(weight.shape)


def nearest_outer(weight):
    """8 bits without a minimum; the number of largest size gets the code -128."""
    x = weight.reshape(-1, BLOCK)
    extreme = x.gather(1, x.abs().argmax(1, keepdim=True))
    inverse = -128 / extreme.where(extreme != 0, 1)
    return ((x * inverse + 0.5).floor().clamp(-128, 127) * as_half(1 / inverse)).reshape(weight.shape)


def reference(weight, bits, optimizer=optimize.optimize_weights_proximal):
    Quantizer.optimize_weights = optimizer
    codes, meta = Quantizer.quantize(weight, nbits=bits, group_size=GROUP, axis=1, bitpack=False, device="cpu")
    stored = {name: as_half(meta[name]) for name in ("scale", "zero")}
    return Quantizer.dequantize(codes, meta | stored | {"compute_dtype": torch.float32})


def rounded(_, inputs):
    """What a product in aehost makes of its activations: 8 bits, in blocks with a scale each."""
    x = inputs[0].unflatten(-1, (-1, BLOCK))
    scale = x.abs().amax(-1, keepdim=True) / 127
    return ((x / scale.where(scale > 0, 1)).round() * scale).flatten(-2)


class Divergences:
    """Divergences from the model as it is; with embedding and head rounded, and each map's weight as quantised."""

    def __init__(self, path, rows):
        self.model, tokenizer = load(path)
        self.rows = [tokens_of(tokenizer, row) for row in rows]
        self.expected = [self.log_probabilities(row) for row in self.rows]
        maps = [m for m in self.model.modules() if isinstance(m, torch.nn.Linear)]
        head = self.model.get_output_embeddings()
        self.originals = {m: m.weight.clone() for m in maps if m is not head}
        for weight in {m.weight for m in (head, self.model.get_input_embeddings())}:
            weight.copy_(nearest_outer(weight))
        for m in maps:
            m.register_forward_pre_hook(rounded)

    def log_probabilities(self, row):
        return self.model(row, use_cache=False).logits[0].log_softmax(-1)

    def of(self, quantise):
        for m, weight in self.originals.items():
            m.weight.copy_(quantise(weight))
        total = 0.0
        for row, p in zip(self.rows, self.expected):
            total += torch.nn.functional.kl_div(self.log_probabilities(row), p, reduction="sum", log_target=True).item()
        return total / sum(row.numel() for row in self.rows)


def compare(arguments, model):
    with open(path_of(arguments.aehost, "data", arguments.data), encoding="utf-8") as file:
        rows = drawn(passages(file.read()), arguments.items)
    theirs = Divergences(path_of(arguments.aehost, "model", model), rows)
    ours = partial(divergence_in_aehost, arguments, model)
    fair = True
    print(f"\n{model}, {len(rows)} rows, {sum(row.numel() for row in theirs.rows)} tokens")
    print("\n| method | aehost, nats/token | reference, nats/token |\n| --- | --- | --- |")
    print(f"| none (float16) | {ours(None):.4f} | |")
    print(f"| embedding, head and activations alone | | {theirs.of(lambda weight: weight):.4f} |", flush=True)
    for bits in arguments.bits:
        form = f"bits={bits},group={GROUP}"
        plain = ours(f"round-to-nearest:{form}"), theirs.of(partial(nearest, bits=bits))
        fair &= abs(plain[0] / plain[1] - 1) < TOLERANCE
        slow = partial(reference, bits=bits, optimizer=optimize.optimize_weights_proximal_slow)
        print(f"| round-to-nearest, {bits} bits | {plain[0]:.4f} | {plain[1]:.4f} |")
        zero = ours(f"hqq:{form},scale=off"), theirs.of(partial(reference, bits=bits))
        print(f"| hqq, {bits} bits, zero-point | {zero[0]:.4f} | {zero[1]:.4f} |")
        print(f"| hqq, {bits} bits, zero-point, 100 rounds | | {theirs.of(slow):.4f} |")
        print(f"| hqq, {bits} bits, scale and zero-point | {ours(f'hqq:{form}'):.4f} | |", flush=True)
    return fair


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("--plugins", default="plugins")
    parser.add_argument("--model", nargs="+", default=["smollm2-135m-instruct", "gemma-3-270m"])
    parser.add_argument("--data", default="andersen")
    parser.add_argument("--items", type=int, default=6)
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    with torch.no_grad():
        fair = [compare(arguments, model) for model in arguments.model]
    if not all(fair):
        sys.exit(f"plain rounding differs by more than {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()

"""Perplexity and greedy text of an unmodified GGUF file, aehost against llama.cpp, on the same text and windows.

    python3 -m venv venv && venv/bin/pip install numpy llama-cpp-python==0.3.36      # compiles llama.cpp: some minutes
    venv/bin/python benches/agreement_with_llama_cpp.py target/release/aehost MODEL.gguf TEXT.txt [ROWS]

The text is cut into rows of whole paragraphs of about 2000 characters. Each row is one window: the beginning-of-text
token, then every token of the row scored once. Prints the figures and their ratios; fails beyond 0.5 % on the matrices as
the file has them. In float16 they are the same numbers, but llama.cpp rounds the activations that blocks are multiplied with.

The first sentence of the first rows is then continued by both, always with the most likely token. Where they part, llama.cpp's
logits of the two tokens are compared: less than 0.3 apart is a tie that rounding decides, more fails.
"""

import json
import math
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np


def rows_of(text, count):
    rows, current = [], ""
    for paragraph in text.split("\n\n"):
        current = f"{current}\n\n{paragraph}" if current else paragraph
        if len(current) >= 2000:
            rows.append(current)
            current = ""
        if len(rows) == count:
            break
    return rows


def llama_cpp_perplexity(llama, rows):
    total, tokens_scored = 0.0, 0
    for row in rows:
        tokens = [llama.token_bos(), *llama.tokenize(row.encode(), add_bos=False, special=True)]
        llama.reset()
        llama.eval(tokens[:-1])
        logits = np.array(llama.scores[: len(tokens) - 1], dtype=np.float64)
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        total += (logits[np.arange(len(tokens) - 1), tokens[1:]] - log_sum).sum()
        tokens_scored += len(tokens) - 1
    return math.exp(-total / tokens_scored), tokens_scored


def aehost_perplexity(aehost, model, rows, reference):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as data:
        for row in rows:
            data.write(json.dumps({"text": row}) + "\n")
        data.flush()
        command = [aehost, "evaluate", "--plugins", "plugins", "--model", model, "--reference", reference, "--evaluator", f"perplexity:{data.name}",
                   "--items", str(len(rows)), "--json"]
        metrics = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["metrics"]
    return next(m["value"] for name, m in metrics.items() if name.endswith("token_perplexity"))


CONTINUED = 48
TIE = 0.3


def first_sentence(row):
    return row.strip().replace("\n", " ").split(". ")[0][:200]


def aehost_text(aehost, model, prompt):
    command = [aehost, "generate", "--plugins", "plugins", "--model", model, "--reference", "file", "--raw",
               "--max-tokens", str(CONTINUED), "--json", prompt]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["text"]


def compare_texts(aehost, llama, model, rows):
    """How many continuations are equal, and the largest gap between the logits of two tokens where they part."""
    equal, widest = 0, 0.0
    for row in rows:
        prompt = first_sentence(row)
        ours = aehost_text(aehost, model, prompt)
        tokens = llama.tokenize(prompt.encode(), add_bos=True, special=True)
        start = len(tokens)
        llama.reset()
        llama.eval(tokens)
        while len(tokens) - start < CONTINUED:
            logits = np.array(llama.scores[len(tokens) - 1])
            best = int(logits.argmax())
            text = llama.detokenize(tokens[start:] + [best]).decode(errors="ignore")
            if best == llama.token_eos():
                equal += text.strip() == ours.strip()
                break
            if not ours.startswith(text):
                # Which token we took instead: the likeliest that our text goes on with.
                for other in logits.argsort()[::-1][:50]:
                    if ours.startswith(llama.detokenize(tokens[start:] + [int(other)]).decode(errors="ignore")):
                        break
                gap = float(logits[best] - logits[other])
                widest = max(widest, gap)
                print(f"  `{prompt[:40]}...`: they part after {len(tokens) - start} tokens, at a gap of {gap:.3f}")
                break
            tokens.append(best)
            llama.eval([best])
        else:
            equal += 1
    return equal, widest


def main():
    aehost, model, text = sys.argv[1:4]
    rows = rows_of(open(text, encoding="utf-8").read(), int(sys.argv[4]) if len(sys.argv) > 4 else 27)
    llama = llama_cpp.Llama(model_path=model, n_ctx=2048, logits_all=True, verbose=False)
    theirs, tokens = llama_cpp_perplexity(llama, rows)
    print(f"{len(rows)} rows, {tokens} tokens: llama.cpp {theirs:.4f}")
    ratios = {}
    for reference in ("file", "float16"):
        ours = aehost_perplexity(aehost, model, rows, reference)
        ratios[reference] = ours / theirs
        print(f"aehost, matrices as {reference}: {ours:.4f}, ratio {ratios[reference]:.5f}")
    if abs(ratios["file"] - 1) > 0.005:
        sys.exit("they differ by more than 0.5 %")
    equal, widest = compare_texts(aehost, llama, model, rows[:10])
    print(f"{equal} of {len(rows[:10])} continuations of {CONTINUED} tokens are equal")
    if widest > TIE:
        sys.exit(f"they part where llama.cpp is sure, by {widest:.2f}")


if __name__ == "__main__":
    main()

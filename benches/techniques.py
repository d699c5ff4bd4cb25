"""What each technique does alone: divergence and accuracy, memory, speed and time to apply, as a table in Markdown.

    aehost model pull smollm2-135m-instruct gemma-3-270m
    python3 benches/techniques.py target/release/aehost [--model smollm2-135m-instruct] [--threads 2] [--items 200]
        [TECHNIQUE[:NAME=VALUE,...] ...]

Without names it takes every technique of plugins/dist that applies to the model, with its default settings. Divergence is the
mean KL from the model as float16 on tales that are not the calibration text, accuracy that on OpenBookQA, with the standard
error of either. Memory is the peak of a process that answers 64 tokens after a prompt of 256.
"""

import argparse
import glob
import json
import os
import subprocess
import sys

MEBIBYTE = 1 << 20


def run(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def techniques(folder):
    names = sorted(os.path.basename(path) for path in glob.glob(f"{folder}/technique-*.wasm"))
    return [name.removeprefix("technique-").removesuffix(".wasm") for name in names]


def measure(arguments, technique):
    """The cells of a row, or why there is none."""
    subject = ["--plugins", arguments.plugins, "--model", arguments.model, "--threads", arguments.threads, "--json"]
    if technique:
        subject += ["--apply", technique]
    words = [arguments.aehost, "bench", *subject, "--prompt-tokens", 256, "--output-tokens", 64, "--repeat", 3]
    code, output, error = run(words)
    if code != 0:
        return None, error.strip().splitlines()[-1]
    speed = json.loads(output)
    quality = []
    for evaluator, items in (("divergence:andersen", 6), ("multiple-choice:openbookqa", arguments.items)):
        words = [arguments.aehost, "evaluate", *subject, "--evaluator", evaluator, "--items", items]
        code, output, error = run(words)
        if code != 0:
            return None, error.strip().splitlines()[-1]
        metrics = json.loads(output)["metrics"]
        metric = next(iter(metrics.values()))
        quality.append(f"{metric['value']:.4f} ± {metric['standard_error']:.4f}")
    return [
        *quality,
        f"{speed['peak_memory_bytes']['median'] / MEBIBYTE:.0f}",
        f"{speed['prefill_tokens_per_second']['median']:.0f}",
        f"{speed['decode_tokens_per_second']['median']:.0f}",
        f"{speed['apply_ms'] / 1000:.1f}",
    ], None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("technique", nargs="*")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--plugins", default="plugins")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=200)
    arguments = parser.parse_args()
    print("| technique | divergence, nats/token | accuracy | peak memory, MiB | prefill, tokens/s | decode, tokens/s | applied in, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for technique in [None, *(arguments.technique or techniques(f"{arguments.plugins}/dist"))]:
        cells, why = measure(arguments, technique)
        if cells is None:
            print(f"{technique}: {why}", file=sys.stderr)
            continue
        print(f"| {technique or 'none (float16)'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

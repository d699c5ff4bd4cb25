"""What LoRA on a part of a multiple-choice set does to the rest of it: accuracy before and after, question by question,
with the exact test of McNemar for paired answers.

    python3 benches/task_adaptation.py target/release/aehost [--data commonsenseqa] [--model smollm2-135m-instruct]
        [--technique lora:steps=150,batch=16] [--threads 2]

Every third question is for the test, the others are trained on. Takes some minutes; what was trained is kept.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path


def aehost(program, *words):
    done = subprocess.run([str(word) for word in (program, *words)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def p_value(won, lost):
    """Two-sided, of so many questions that changed for the better and for the worse."""
    changed, fewer = won + lost, min(won, lost)
    return min(1.0, 2 * sum(math.comb(changed, k) for k in range(fewer + 1)) / 2**changed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("--data", default="commonsenseqa")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--technique", default="lora:steps=150,batch=16,learning-rate=0.0005")
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_args()
    source = aehost(arguments.aehost, "data", "pull", arguments.data).split()[-1]
    rows = Path(source).read_text().splitlines()
    with tempfile.TemporaryDirectory() as folder:
        train, test = (Path(folder) / name for name in ("train.jsonl", "test.jsonl"))
        test.write_text("\n".join(rows[::3]) + "\n")
        train.write_text("\n".join(row for i, row in enumerate(rows) if i % 3) + "\n")
        common = ["--plugins", "plugins", "--model", arguments.model, "--threads", arguments.threads, "--json",
                  "--evaluator", f"multiple-choice:{test}", "--items", len(rows)]
        trained = ["--training", train, "--apply", arguments.technique]
        before, after = (json.loads(aehost(arguments.aehost, "evaluate", *common, *more))["metrics"]
                         for more in ([], trained))
    print("| metric | questions | before | after | won | lost | p |\n| --- | --- | --- | --- | --- | --- | --- |")
    for metric in ("acc_norm", "acc"):
        old, new = (found[f"multiple-choice.{metric}"]["samples"] for found in (before, after))
        won, lost = (sum(a > b for a, b in zip(x, y)) for x, y in ((new, old), (old, new)))
        shares = [f"{100 * sum(side) / len(side):.1f} %" for side in (old, new)]
        print(f"| {metric} | {len(old)} | {shares[0]} | {shares[1]} | {won} | {lost} | {p_value(won, lost):.2g} |")


if __name__ == "__main__":
    main()

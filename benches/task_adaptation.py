"""What LoRA on a part of a multiple-choice set does to the rest of it: accuracy before and after, question by question,
with the exact test of McNemar for paired answers.

    python3 benches/task_adaptation.py target/release/aehost [--data siqa] [--model smollm2-135m-instruct]
        [--technique lora:steps=160,batch=16] [--folds 3] [--threads 2]

The set is cut into folds; each is answered by the model that was trained on the others, so that every question counts and none was
seen. Takes some minutes a fold; what was trained is kept.
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
    parser.add_argument("--data", default="siqa", help="a name, or a .jsonl file")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--technique", default="lora:rank=16,alpha=32,steps=160,batch=16,learning-rate=0.0005")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--plugins", default="plugins")
    arguments = parser.parse_args()
    source = Path(arguments.data)
    if not source.suffix:
        source = Path(aehost(arguments.aehost, "data", "pull", arguments.data).split()[-1])
    rows = list(dict.fromkeys(source.read_text().splitlines()))  # some sets have rows twice
    answers = {metric: ([], []) for metric in ("acc_norm", "acc")}
    for fold in range(arguments.folds):
        with tempfile.TemporaryDirectory() as folder:
            train, test = (Path(folder) / name for name in ("train.jsonl", "test.jsonl"))
            test.write_text("\n".join(rows[fold :: arguments.folds]) + "\n")
            train.write_text("\n".join(row for i, row in enumerate(rows) if i % arguments.folds != fold) + "\n")
            common = ["--plugins", arguments.plugins, "--model", arguments.model, "--threads", arguments.threads,
                      "--json", "--evaluator", f"multiple-choice:{test}", "--items", len(rows)]
            trained = ["--training", train, "--apply", arguments.technique]
            for side, more in enumerate(([], trained)):
                metrics = json.loads(aehost(arguments.aehost, "evaluate", *common, *more))["metrics"]
                for metric, both in answers.items():
                    both[side].extend(metrics[f"multiple-choice.{metric}"]["samples"])
    print("| metric | questions | before | after | won | lost | p |\n| --- | --- | --- | --- | --- | --- | --- |")
    for metric, (old, new) in answers.items():
        won, lost = (sum(a > b for a, b in zip(x, y)) for x, y in ((new, old), (old, new)))
        shares = [f"{100 * sum(side) / len(side):.1f} %" for side in (old, new)]
        print(f"| {metric} | {len(old)} | {shares[0]} | {shares[1]} | {won} | {lost} | {p_value(won, lost):.2g} |")


if __name__ == "__main__":
    main()

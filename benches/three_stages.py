"""Whether a search over all three stages finds what no single stage has: hypervolumes of four searches of the same model, each
with its own techniques of examples/three-stages.toml.

    python3 benches/three_stages.py target/release/aehost [--store stages.db] [--strategy ae-llm]

Objectives are in shares of the baseline's; volumes are below the constraint on quality and 1.1 times the baseline's latency and
memory. Takes some 50 minutes with nothing else running; trials are kept in the store, so an interrupted run goes on.
"""

import argparse
import json
import subprocess
import tomllib
from pathlib import Path

FILE = Path("examples/three-stages.toml")
STAGES = {
    "architecture": (["depth-pruning", "width-pruning"], 12),
    "fine-tuning": (["lora"], 6),
    "inference": (["round-to-nearest", "gptq"], 24),
    "all": (None, 24),
}


def aehost(program, *words):
    done = subprocess.run([str(word) for word in (program, *words)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"aehost {' '.join(map(str, words))} ended with code {done.returncode}")
    return done.stdout


def volume(points, reference):
    """What is dominated below the reference, by slices along the last objective."""
    points = [p for p in points if all(a < b for a, b in zip(p, reference))]
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in points) if points else 0.0
    cuts = sorted({p[-1] for p in points}) + [reference[-1]]
    slices = zip(cuts, cuts[1:])
    return sum((high - low) * volume([p[:-1] for p in points if p[-1] <= low], reference[:-1]) for low, high in slices)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("--store", default="stages.db")
    parser.add_argument("--strategy", default="ae-llm")
    parser.add_argument("--plugins", default="plugins")
    arguments = parser.parse_args()
    study = tomllib.loads(FILE.read_text())["study"]
    bound = float(study["constraints"][0].split()[-1])
    rows, base = {}, None
    for name, (techniques, trials) in STAGES.items():
        words = [w for w in study["techniques"] if techniques is None or w.split(":")[0] in techniques]
        limits = [part for word in words for part in ("--technique", word)]
        aehost(arguments.aehost, "run", FILE, "--store", arguments.store, "--study", name, "--resume", "--cold", "--json",
               "--plugins", arguments.plugins, "--strategy", arguments.strategy, "--trials", trials, *limits)
        export = json.loads(aehost(arguments.aehost, "export-json", name, "--store", arguments.store))
        metrics = [objective["metric"] for objective in export["study"]["objectives"]]
        found = [trial["outcome"]["measurements"]["metrics"] for trial in export["trials"] if trial["outcome"]["kind"] == "ok"]
        rows[name] = [[measured[metric]["value"] for metric in metrics] for measured in found]
        base = base or rows[name][0]
    reference = [bound / base[0], 1.1, 1.1]
    print("| stages | trials | hypervolume | least latency | least memory |\n| --- | --- | --- | --- | --- |")
    for name, points in rows.items():
        shares = [[value / of for value, of in zip(point, base)] for point in points]
        feasible = [point for point in shares if point[0] <= reference[0]]
        least = [min(point[i] for point in feasible) for i in (1, 2)]
        print(f"| {name} | {len(points)} | {volume(shares, reference):.4f} | {least[0]:.2f} | {least[1]:.2f} |")


if __name__ == "__main__":
    main()

"""Multiple-choice scoring, aehost against llama.cpp on the same items, file and threads, in alternating runs.

    # llama.cpp as speed_against_llama_cpp.py says, with one more target:
    cmake --build llama.cpp -j --target llama-perplexity

    python3 benches/scoring_against_llama_cpp.py target/release/aehost llama.cpp/bin/llama-perplexity MODEL.gguf ITEMS.jsonl
        [--threads 1,2] [--rounds 3]

ITEMS are rows of `context`, four `choices` and `answer`, as `aehost data pull openbookqa` fetches them. llama.cpp scores them
as HellaSwag's, which is the same work: the context once, then four endings. Both run on a fifth of the items and on all of
them, and the difference is what the rest takes, without start and load. Prints items a second and their ratio, and the share
of right answers (llama.cpp's by the mean over tokens, ours by the mean over characters: alike, not equal).
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time


def timed(command):
    start = time.monotonic()
    output = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return time.monotonic() - start, output.stdout + output.stderr


def write(items, folder):
    name = f"{folder}/{len(items)}"
    with open(name + ".jsonl", "w") as rows, open(name + ".txt", "w") as lines:
        for item in items:
            rows.write(json.dumps(item) + "\n")
            lines.write("\n".join([item["context"], str(item["answer"]), *item["choices"]]) + "\n")
    return name


def aehost(program, model, threads, items):
    command = [program, "evaluate", "--plugins", "plugins", "--model", model, "--reference", "file", "--threads", threads,
               "--evaluator", f"multiple-choice:{items}.jsonl", "--items", items.rsplit("/", 1)[1], "--json"]
    seconds, output = timed(command)
    metrics = json.loads(output[output.index("{"):])["metrics"]
    return seconds, next(metric["value"] for name, metric in metrics.items() if name.endswith("acc_norm"))


def llama_cpp(program, model, threads, items):
    count = items.rsplit("/", 1)[1]
    command = [program, "-m", model, "-t", threads, "--hellaswag", "--hellaswag-tasks", count, "-f", f"{items}.txt"]
    seconds, output = timed(command)
    return seconds, float(re.findall(rf"^{count}\s+([\d.]+)", output, re.MULTILINE)[-1]) / 100


def main():
    parser = argparse.ArgumentParser()
    for name in ("aehost", "llama_perplexity", "model", "items"):
        parser.add_argument(name)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with open(arguments.items) as rows:
        items = [json.loads(row) for row in rows]
    items = [item for item in items if len(item["choices"]) == 4 and "\n" not in "".join([item["context"], *item["choices"]])]
    some = len(items) // 5
    with tempfile.TemporaryDirectory() as folder:
        few, all_items = write(items[:some], folder), write(items, folder)
        for threads in map(int, arguments.threads.split(",")):
            speeds, right = {"aehost": [], "llama.cpp": []}, {}
            for _ in range(arguments.rounds):
                for name, run, program in (("aehost", aehost, arguments.aehost), ("llama.cpp", llama_cpp, arguments.llama_perplexity)):
                    short, _ = run(program, arguments.model, threads, few)
                    long, right[name] = run(program, arguments.model, threads, all_items)
                    speeds[name].append((len(items) - some) / (long - short))
            ours, theirs = (statistics.median(speeds[name]) for name in ("aehost", "llama.cpp"))
            print(f"{threads} threads: aehost {ours:.1f} items/s ({right['aehost']:.3f} right), "
                  f"llama.cpp {theirs:.1f} ({right['llama.cpp']:.3f} right), ratio {ours / theirs:.2f}", flush=True)


if __name__ == "__main__":
    main()

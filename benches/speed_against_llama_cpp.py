"""Speed and memory of aehost and llama.cpp on the same files and threads, in alternating runs, as ratios of medians.

    # llama.cpp from the source that its Python package ships, compiled for this machine (some minutes):
    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
    cmake -S llama_cpp_python-0.3.36/vendor/llama.cpp -B llama.cpp -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF
    cmake --build llama.cpp -j --target llama-bench llama-quantize

    python3 benches/speed_against_llama_cpp.py target/release/aehost llama.cpp/bin/llama-bench MODEL.gguf [MODEL.gguf ...]
        [--threads 1,2] [--rounds 5]

Both keep the matrices as the file has them. Ratios above 1 mean that aehost is faster, or takes less memory. "First token" is
the time of a whole process that loads the model and computes one token, in milliseconds. Prints one line for each file and
number of threads, and the medians themselves beneath it: tokens a second, MiB, and ms.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

PROMPT, OUTPUT, DEPTH = 512, 64, 512
FIGURES = ["prefill 512", "decode at 0", "decode at 512", "peak memory", "first token"]
# Those of which less is better.
COSTS = {"peak memory", "first token"}


def run(command):
    """Standard output of a command, and the peak of its resident memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(output), usage.ru_maxrss / 1024


def milliseconds(command):
    start = time.monotonic()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return 1000 * (time.monotonic() - start)


def aehost(program, model, threads):
    def bench(prompt, output, depth):
        words = ["--prompt-tokens", prompt, "--output-tokens", output, "--depth", depth, "--repeat", 2, "--threads", threads]
        command = [program, "bench", "--plugins", "plugins", "--model", model, "--reference", "file", "--json"]
        figures, memory = run(command + [str(word) for word in words])
        decode = figures["decode_tokens_per_second"]
        return figures["prefill_tokens_per_second"]["median"], decode and decode["median"], memory

    prefill, _, memory = bench(PROMPT, 1, 0)
    # The first token comes from a prompt of one, so decoding starts at the depth itself.
    at_start, at_depth = bench(1, OUTPUT, 0)[1], bench(1, OUTPUT, DEPTH)[1]
    first = milliseconds([program, "generate", "--plugins", "plugins", "--model", model, "--reference", "file", "--raw",
                          "--threads", threads, "--max-tokens", 1, "The"])
    return [prefill, at_start, at_depth, memory, first]


def llama_cpp(program, model, threads):
    words = ["-m", model, "-t", threads, "-r", 2, "-o", "json"]

    def bench(*more):
        results, memory = run([program] + [str(word) for word in [*words, *more]])
        return results[0]["avg_ts"], memory

    prefill, memory = bench("-p", PROMPT, "-n", 0)
    at_start, at_depth = bench("-p", 0, "-n", OUTPUT)[0], bench("-p", 0, "-n", OUTPUT, "-d", DEPTH)[0]
    first = milliseconds([program, "-m", model, "-t", threads, "-r", 1, "-p", 1, "-n", 0, "--no-warmup"])
    return [prefill, at_start, at_depth, memory, first]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("llama_bench")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'file':40} threads  " + "  ".join(f"{name:>13}" for name in FIGURES))
    for model in arguments.models:
        for threads in map(int, arguments.threads.split(",")):
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                ours.append(aehost(arguments.aehost, model, threads))
                theirs.append(llama_cpp(arguments.llama_bench, model, threads))
            ours, theirs = ([statistics.median(column) for column in zip(*rounds)] for rounds in (ours, theirs))
            ratios = [b / a if name in COSTS else a / b for name, a, b in zip(FIGURES, ours, theirs)]
            name = os.path.basename(model)
            print(f"{name:40} {threads:7}  " + "  ".join(f"{ratio:13.2f}" for ratio in ratios))
            for who, values in (("aehost", ours), ("llama.cpp", theirs)):
                print(f"{who:>40} {'':7}  " + "  ".join(f"{value:13.1f}" for value in values), flush=True)


if __name__ == "__main__":
    main()

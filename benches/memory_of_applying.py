"""How much memory techniques take while they apply: the peak of a process that does little else. The first line is that of
the model without any.

    python3 benches/memory_of_applying.py target/release/aehost [--model smollm2-135m-instruct] [--threads 2] [TECHNIQUE ...]

A technique may have settings, as in gptq:bits=3. Without any, all of plugins/ that change weights. Linux only.
"""

import argparse
import json
import re
import subprocess
import time

# With these, weights stay as they are.
RUN_TIME = {"cache-eviction", "kv-cache", "sparse-attention", "speculative-decoding"}


def lines(program, *words):
    return json.loads(subprocess.run([program, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout)


def applied(command):
    """What a command prints, and the peak of its resident memory in MiB: it resets the kernel's own, so that is looked at
    again and again."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                found = re.search(r"VmHWM:\s+(\d+)", status.read())
            peak = max(peak, int(found.group(1))) if found else peak
        except OSError:
            pass
        time.sleep(0.02)
    output = process.stdout.read()
    return (json.loads(output) if process.returncode == 0 else None), peak / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("techniques", nargs="*")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_intermixed_args()
    bench = [arguments.aehost, "bench", "--plugins", "plugins", "--model", arguments.model, "--threads", arguments.threads,
             "--prompt-tokens", "8", "--output-tokens", "4", "--repeat", "1", "--json"]
    plugins = lines(arguments.aehost, "plugins", "list", "--plugins", "plugins", "--model", arguments.model)
    applicable = [p["id"] for p in plugins if p["kind"] == "technique" and p.get("parameters") is not None]
    print("| technique | peak, MiB | applied in, s |\n| --- | --- | --- |")
    techniques = arguments.techniques or [name for name in applicable if name not in RUN_TIME]
    for technique in ["none", *techniques]:
        figures, peak = applied(bench if technique == "none" else [*bench, "--apply", technique])
        seconds = f"{figures['apply_ms'] / 1000:.1f}" if figures else "failed"
        print(f"| {technique} | {peak:.0f} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()

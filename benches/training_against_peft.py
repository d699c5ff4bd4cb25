"""Fine-tuning by LoRA in aehost against peft and PyTorch: tokens a second, peak memory and losses, on the same model,
text and threads, each in a process of its own, in alternating rounds. A table of medians in Markdown.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 transformers==4.57.6 peft==0.18.1 gguf==0.19.0
    venv/bin/python benches/training_against_peft.py target/release/aehost MODEL TEXT [--threads 2] [--steps 10]
        [--rounds 3]

MODEL is a GGUF file or a folder with safetensors. Both train adapters of rank 8 on every linear map but the head, in
float32, with AdamW on batches of 4 × 256 tokens: peft one after another from the start of the text, aehost in an order
of its own. The loss is the mean over all tokens that have others before them. Ratios above 1 mean that aehost is faster,
or takes less memory. The speed of peft is the median of the steps after the first, that of aehost the mean of all, and
the peak that of the whole process, with what loading takes. Needs cores that nothing else uses: PyTorch's threads wait
for each other. Linux only.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANK, ALPHA, LEARNING_RATE = 8, 16, 2e-4
BATCH, LENGTH = 4, 256
MEBIBYTE = 1 << 20


def ours(program, arguments):
    settings = {"rank": RANK, "alpha": ALPHA, "steps": arguments.steps, "batch": BATCH, "sequence-tokens": LENGTH,
                "learning-rate": LEARNING_RATE}
    technique = "lora:" + ",".join(f"{name}={value}" for name, value in settings.items())
    # A home of its own, so that no round takes the result of another.
    with tempfile.TemporaryDirectory() as home:
        found = run([program, "finetune", "--plugins", "plugins", "--model", arguments.model, "--training",
                     arguments.text, "--apply", technique, "--threads", arguments.threads, "--json"],
                    dict(os.environ, AEHOST_HOME=home))
    return {**found, "losses": [point["loss"] for curve in found["curves"] for point in curve["points"]]}


def theirs():
    """This script with the same arguments, as peft's side."""
    return run([sys.executable, *sys.argv, "--peft"])


def run(command, environment=None):
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def peft_side(arguments):
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    path = Path(arguments.model)
    source = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    tokenizer = AutoTokenizer.from_pretrained(source[0], **source[1])
    model = AutoModelForCausalLM.from_pretrained(source[0], **source[1], dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, config).train()
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=LEARNING_RATE, weight_decay=0.0)

    tokens = torch.tensor(tokenizer(Path(arguments.text).read_text(), add_special_tokens=False).input_ids)
    batches = tokens[: len(tokens) // (BATCH * LENGTH) * BATCH * LENGTH].view(-1, BATCH, LENGTH)
    losses, seconds = [], []
    for step in range(arguments.steps):
        batch, start = batches[step % len(batches)], time.perf_counter()
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    speed = BATCH * LENGTH / statistics.median(seconds[1:])
    print(json.dumps({"tokens_per_second": speed, "peak_bytes": peak, "losses": losses}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="at least 2, for the first does not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peft", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peft:
        return peft_side(arguments)
    rounds = [(ours(arguments.aehost, arguments), theirs()) for _ in range(arguments.rounds)]
    median = lambda figure: [statistics.median(map(figure, side)) for side in zip(*rounds)]
    speed = median(lambda measured: measured["tokens_per_second"])
    peak = median(lambda measured: measured["peak_bytes"] / MEBIBYTE)
    first, last = (median(lambda measured: measured["losses"][step]) for step in (0, -1))
    print("| | aehost | peft | ratio |\n| --- | --- | --- | --- |")
    print(f"| speed, tokens/s | {speed[0]:.1f} | {speed[1]:.1f} | {speed[0] / speed[1]:.2f} |")
    print(f"| peak memory, MiB | {peak[0]:.0f} | {peak[1]:.0f} | {peak[1] / peak[0]:.2f} |")
    print(f"| loss of the first step | {first[0]:.4f} | {first[1]:.4f} | |")
    print(f"| loss of step {arguments.steps} | {last[0]:.4f} | {last[1]:.4f} | |")


if __name__ == "__main__":
    main()

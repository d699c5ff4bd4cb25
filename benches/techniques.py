"""What each technique does alone, with its default settings: a table in Markdown of divergence and accuracy, memory, speed
and time to apply, from a study whose trials are one technique each.

    python3 benches/techniques.py target/release/aehost [--model smollm2-135m-instruct] [--threads 2] [--items 200]
        [--study host/study/reference/smollm2-135m-instruct.json]

Takes every technique of plugins/ that applies to the model: some 20 to 40 minutes, and an interrupted run goes on where it
was. Divergence is the mean KL from the model as float16 on tales that are not the calibration text, accuracy that on
OpenBookQA, with their standard errors. Memory is the peak of a process that answers 64 tokens after a prompt of 256.

`--study` also writes it as a study that the host tells strategies about.
"""

import argparse
import json
import os
import subprocess
import tempfile

MEBIBYTE = 1 << 20
STUDY = """
[study]
model = "{model}"
threads = {threads}
plugins = ["plugins"]
confirm = false

[[evaluator]]
id = "multiple-choice"
data = "openbookqa"
items = {items}

[[evaluator]]
id = "divergence"
data = "grimm"
items = 6

[scenario]
prompt-tokens = 256
output-tokens = 64

[strategy]
id = "grid" # begins with each technique alone

[budget]
trials = {trials}
time = "none"
"""
COLUMNS = ["technique", "divergence, nats/token", "accuracy, %", "weights, MiB", "peak, MiB", "prefill, tokens/s",
           "decode, tokens/s", "applied in, s"]


def aehost(program, *words):
    done = subprocess.run([program, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def row(trial):
    """The cells of a trial."""
    names = " + ".join(choice["technique"] for choice in trial["configuration"]) or "none (float16)"
    outcome = trial["outcome"]
    if outcome["kind"] != "ok":
        return [names, json.dumps(outcome), *[""] * (len(COLUMNS) - 2)]
    metrics = outcome["measurements"]["metrics"]
    value = lambda metric: metrics[metric]["value"]
    spread = lambda metric: metrics[metric]["standard_error"]
    seconds = sum(trial["timings"].get(f"apply.{part}", 0) for part in ("predict", "techniques", "encode"))
    return [
        names,
        f"{value('divergence.mean_kl'):.4f} ± {spread('divergence.mean_kl'):.4f}",
        f"{100 * value('multiple-choice.acc_norm'):.1f} ± {100 * spread('multiple-choice.acc_norm'):.1f}",
        f"{value('memory.weights_bytes') / MEBIBYTE:.0f}",
        f"{value('memory.peak_bytes') / MEBIBYTE:.0f}",
        f"{value('throughput.prefill_tokens_per_s'):.0f}",
        f"{value('throughput.decode_tokens_per_s'):.1f}",
        f"{seconds:.1f}",
    ]


def write_study(told, model, path):
    """What strategies are told of the study, a trial a line; six digits are more than any measurement has."""
    for observation in told["observations"]:
        for value in observation["outcome"]["metrics"]:
            for key in ("value", "standard_error"):
                value[key] = float(f"{value[key]:.6g}")
    head = json.dumps({"name": f"each technique alone on {model}", "model": told["model"], "device": told["device"]})
    lines = ",\n".join(json.dumps(observation, separators=(",", ":")) for observation in told["observations"])
    with open(path, "w") as file:
        file.write(f'{head[:-1]}, "observations": [\n{lines}\n]}}\n')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("aehost")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--study", metavar="FILE")
    arguments = parser.parse_args()
    if not os.path.exists(arguments.model):
        subprocess.run([arguments.aehost, "model", "pull", arguments.model], check=True)
    plugins = aehost(arguments.aehost, "plugins", "list", "--plugins", "plugins", "--model", arguments.model)
    applicable = [plugin for plugin in plugins if plugin["kind"] == "technique" and plugin.get("parameters") is not None]
    study = STUDY.format(model=arguments.model, threads=arguments.threads, items=arguments.items, trials=len(applicable) + 1)
    name = f"techniques-{os.path.basename(arguments.model)}"
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(study)
        file.flush()
        subprocess.run([arguments.aehost, "run", file.name, "--study", name, "--resume"], check=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for trial in aehost(arguments.aehost, "export-json", name)["trials"]:
        print(f"| {' | '.join(row(trial))} |")
    if arguments.study:
        write_study(aehost(arguments.aehost, "export-json", name, "--told"), os.path.basename(arguments.model), arguments.study)


if __name__ == "__main__":
    main()

"""Techniques of three stages as aehost composes them, in closed form: what they do to divergence, latency and memory has
the shape of measurements of a small model (costs multiply, losses add up and reinforce one another, fine-tuning gives a
share of them back), but none of the numbers is one.

What trades one metric for another has few values, all of which the true front tries; every other parameter has one best
value whatever the rest is, so that the front is exact.
"""

from math import exp, log, sqrt


from ..problem import Unmeasured
from ..space import choice, flag, integer, real, technique

LAYERS = range(1, 9)
RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)
GROUPS = (1, 3, 9)
RANKS = (4, 8, 16, 32, 64)
BITS = (3, 4, 5, 6, 8)
BLOCKS = (32, 64, 128)
WINDOWS = (256, 512, 1024, 2048)
ROUNDING = {3: 0.16, 4: 0.05, 5: 0.02, 6: 0.008, 8: 0.001}
CODEBOOK = {2: 0.22, 3: 0.07, 4: 0.03}
KINDS = {"ia3": 0.25, "lora": 0.5, "dora": 0.55}
METHODS = {"round": 1.6, "hqq": 1.2, "gptq": 1.0}

TECHNIQUES = [
    technique("prune-layers", [integer("layers", 1, 8, 2), choice("by", ["last", "cosine", "loss"], "last")],
              "architecture"),
    technique("low-rank", [choice("ratio", RATIOS, 0.9, ordered=True), real("balance", 0.0, 1.0, 0.0)], "architecture",
              conflicts=["prune-layers"]),
    technique("share-heads", [choice("groups", GROUPS, 3, ordered=True), choice("init", ["first", "mean"], "first")],
              "architecture"),
    technique("adapters", [
        choice("kind", KINDS, "lora"),
        choice("rank", RANKS, 8, ordered=True, when={"kind": ["lora", "dora"]}),
        real("rate", 1e-5, 1e-1, 1e-2, log=True),
    ], "fine-tuning", provides=["adapters"]),
    technique("distil", [real("temperature", 1.0, 8.0, 1.0)], "fine-tuning", requires=["adapters"]),
    technique("quantise", [
        choice("bits", BITS, 8, ordered=True), choice("block", BLOCKS, 64, ordered=True),
        choice("method", METHODS, "round"),
        real("damping", 1e-4, 1.0, 0.5, log=True, when={"method": ["gptq"]}),
        integer("samples", 8, 512, 16, log=True, when={"method": ["gptq"]}),
    ], provides=["quantised-weights"]),
    technique("codebook", [choice("bits", CODEBOOK, 4, ordered=True), flag("scaled")], provides=["quantised-weights"]),
    technique("cache", [
        choice("dtype", ["q8", "q4"], "q8", ordered=True), flag("windowed"),
        choice("window", WINDOWS, 1024, ordered=True, when={"windowed": [True]}),
        integer("sinks", 0, 16, 0, when={"windowed": [True]}),
    ]),
]
# The values that are best whatever the others are; the front has no use for others.
BEST = {"by": "loss", "balance": 0.4, "init": "mean", "rate": 1e-3, "temperature": 3.0, "method": "gptq", "damping": 0.01,
        "samples": 128, "scaled": True, "sinks": 4}


def measure(on: dict[str, dict]) -> dict[str, float]:
    """Metrics of settings by technique."""
    weights, cache, compute, losses = 240.0, 90.0, 1.0, []
    if given := on.get("prune-layers"):
        kept = 1 - given["layers"] / 30
        weights, cache, compute = weights * kept, cache * kept, compute * kept
        losses.append(0.004 * given["layers"] ** 1.8 * {"last": 2.0, "cosine": 1.3, "loss": 1.0}[given["by"]])
    if given := on.get("low-rank"):
        weights, compute = weights * given["ratio"], compute * (0.1 + 0.9 * given["ratio"])
        losses.append(0.9 * (1 - given["ratio"]) ** 1.5 * (1 + (given["balance"] - 0.4) ** 2))
    if given := on.get("share-heads"):
        cache, compute = cache * (0.1 + 0.1 * given["groups"]), compute * (0.94 + 0.006 * given["groups"])
        losses.append({1: 0.12, 3: 0.045, 9: 0.0}[given["groups"]] * {"first": 1.5, "mean": 1.0}[given["init"]])
    if given := on.get("quantise"):
        weights *= (given["bits"] + 16 / given["block"]) / 16
        compute *= {3: 0.58, 4: 0.45, 5: 0.55, 6: 0.6, 8: 0.62}[given["bits"]] + 0.8 / given["block"]
        loss = ROUNDING[given["bits"]] * sqrt(given["block"] / 64) * METHODS[given["method"]]
        if given["method"] == "gptq":
            loss *= 1 + (log(given["damping"] / 0.01) / 4) ** 2 * 0.5 + (log(given["samples"] / 128) / 2) ** 2 * 0.1
        losses.append(loss)
    if given := on.get("codebook"):
        weights, compute = weights * (given["bits"] + 0.3) / 16, compute * (0.75 - 0.02 * given["bits"])
        losses.append(CODEBOOK[given["bits"]] * (1.0 if given["scaled"] else 1.4))
    if given := on.get("cache"):
        cache *= {"q8": 0.53, "q4": 0.28}[given["dtype"]]
        losses.append({"q8": 0.001, "q4": 0.02}[given["dtype"]])
        if given["windowed"]:
            share = given["window"] / 4096
            cache, compute = cache * share, compute * (0.8 + 0.2 * share)
            losses.append(0.03 * (1 - share) ** 2 * (1 + abs(given["sinks"] - 4) / 4))
    return _tuned(on, weights, cache, compute, sum(losses) + 0.5 * sum(losses) ** 2)


def _tuned(on, weights, cache, compute, divergence):
    if given := on.get("adapters"):
        rank = given.get("rank", 2)
        back = KINDS[given["kind"]] + 0.04 * log(rank / 16) * (given["kind"] != "ia3")
        if "distil" in on:
            back += 0.15 - 0.02 * (on["distil"]["temperature"] - 3) ** 2 / 4
        divergence *= 1 - back * exp(-((log(given["rate"] / 1e-3) / 2.5) ** 2))
        weights, compute = weights + 0.25 * rank, compute * (1 + 0.001 * rank)
    memory, latency = weights + cache + 30, 12 * compute + 0.02 * cache
    return {"divergence": divergence, "latency": latency, "memory": memory}


def unsupported(on: dict[str, dict]) -> None:
    """Raises for what does not run: about three in ten random configurations."""
    quantise, cache = on.get("quantise"), on.get("cache")
    if quantise and quantise["bits"] in (3, 5) and quantise["block"] == 128:
        raise Unmeasured("no kernel for blocks of 128 with an odd number of bits", infeasible=True)
    if "codebook" in on and "low-rank" in on:
        raise Unmeasured("not enough rows for a codebook", infeasible=True)
    if "adapters" in on and on["adapters"]["kind"] == "dora" and cache and cache["dtype"] == "q4":
        raise Unmeasured("out of memory", infeasible=False)
    if cache and cache["windowed"] and on.get("share-heads", {}).get("groups") == 1:
        raise Unmeasured("crashed in attention", infeasible=False)
    if on.get("prune-layers", {}).get("layers", 0) > 5 and "adapters" in on:
        raise Unmeasured("training diverged", infeasible=False)

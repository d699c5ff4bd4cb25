"""Checks what `aehost plugins test` leaves to authors: it drives a strategy through awkward problems, and looks at every
proposal.

    check.py AEHOST STRATEGY.wasm
"""

import itertools
import json
import subprocess
import sys


def parameter(name, domain, default, *conditions):
    active_when = [{"parameter": of, "values": values} for of, values in conditions]
    return {"name": name, "summary": "", "domain": domain, "default": default, "active_when": active_when}


def integer(low, high, step=1, log=False):
    return {"kind": "integer", "min": low, "max": high, "step": step, "log": log}


def real(low, high, log=False):
    return {"kind": "real", "min": low, "max": high, "log": log}


def choice(*values, ordered=False):
    return {"kind": "choice", "values": list(values), "ordered": ordered}


FLAG = {"kind": "flag"}


def technique(name, stage, *parameters, **relations):
    identity = {"id": name, "version": "0.1.0", "summary": "", "reference": ""}
    lists = {key: relations.get(key, []) for key in ("after", "conflicts", "provides", "requires")}
    description = {"identity": identity, "stage": stage, "order": 0, "more": {}, **lists}
    return {"description": description, "parameters": list(parameters)}


MIXED = [
    technique("round", "inference", parameter("bits", choice(8, 4, 3, ordered=True), 4),
              parameter("group", integer(32, 128, 32), 32), provides=["quantised-weights"]),
    technique("block", "inference", parameter("format", choice("Q8_0", "Q4_K"), "Q8_0"), provides=["quantised-weights"]),
    technique("cache", "inference", parameter("policy", choice("full", "window", "scored"), "full"),
              parameter("window", integer(64, 4096, 64, log=True), 256, ("policy", ["window", "scored"])),
              parameter("sinks", FLAG, True, ("policy", ["window"])),
              parameter("count", integer(1, 16), 4, ("policy", ["window"]), ("sinks", [True]))),
    technique("prune", "architecture", parameter("share", real(0.05, 0.6), 0.2), parameter("drop", integer(-3, 11, 7), 4)),
    technique("slice", "architecture", conflicts=["prune"]),
    technique("tune", "fine-tuning", parameter("rate", real(1e-5, 1e-2, log=True), 1e-4), requires=["quantised-weights"]),
]
LITTLE = [
    technique("one", "inference", parameter("only", choice("this"), "this"), parameter("number", integer(3, 3), 3)),
    technique("two", "inference", parameter("x", FLAG, False), parameter("point", real(0.5, 0.5), 0.5)),
]
WIDE = [technique("wide", "inference", parameter("huge", integer(-(2**61), 2**61), 0),
                  parameter("scale", real(1e-300, 1e300, log=True), 1.0), parameter("any", real(-1e308, 1e308), 0.0))]
LONELY = [technique("tune", "fine-tuning", requires=["quantised-weights"])]
MANY = [technique(f"t{i}", "inference", *[parameter(f"p{j}", real(0.0, 1.0), 0.5) for j in range(4)]) for i in range(40)]


class Driver:
    def __init__(self, aehost, component):
        command = [aehost, "plugins", "drive", component]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, f"{answer['error']}\n  asked: {json.dumps(request)[:200]}"
        return answer

    def search(self, space, outcome, most=40, at_once=1, seed=1, budget=24, constraints=()):
        """The proposals of a search, each told the outcome of its trial, all but the last of those asked for together."""
        objectives = [{"metric": "loss", "direction": "minimize"}, {"metric": "speed", "direction": "maximize"}]
        self.say({"start": {"space": space, "objectives": objectives, "constraints": list(constraints), "facts": {},
                            "settings": {}, "budget": budget, "seed": seed}})
        self.tell([{"trial": 0, "configuration": [], "fidelity": 1.0}], lambda _: measured(loss=0.1, speed=1.0))
        proposals, pending = [], []
        while len(proposals) < most:
            asked = self.say({"ask": at_once})["proposals"]
            if not asked:
                break
            assert len(asked) <= at_once, "more than was asked for"
            proposals += asked
            self.tell(pending + asked[:-1] if at_once > 1 else asked, outcome)
            pending = asked[-1:] if at_once > 1 else []
            self.say("outlook")
        lawful(space, proposals)
        return proposals

    def tell(self, proposals, outcome):
        kept = ("trial", "configuration", "fidelity")
        self.say({"tell": [{**{key: p[key] for key in kept}, "outcome": outcome(p)} for p in proposals]})


def measured(**metrics):
    return {"kind": "measured", "metrics": [{"metric": m, "value": v, "standard_error": 0.0} for m, v in metrics.items()]}


def good(proposal):
    number = sum(len(json.dumps(one)) for one in proposal["configuration"])
    return measured(loss=number % 17 / 10, speed=number % 23 / 10, size=float(number % 5))


OUTCOMES = {
    "good": good,
    "failed": lambda _: {"kind": "failed", "message": "crashed"},
    "infeasible": lambda _: {"kind": "infeasible", "reason": "too large", "amount": None},
    "nothing measured": lambda _: measured(),
    "all the same": lambda _: measured(loss=1.0, speed=1.0, size=1.0),
    "extreme": lambda p: measured(loss=1e300 * (p["trial"] % 3), speed=-1e300, size=1e300),
}


def lawful(space, proposals):
    """Numbered from 1, explained, inside the space, never twice, never the baseline."""
    techniques = {t["description"]["identity"]["id"]: t for t in space}
    seen = set()
    for number, proposal in enumerate(proposals, 1):
        configuration = proposal["configuration"]
        assert proposal["trial"] == number, f"trial {proposal['trial']} where {number} was due"
        assert proposal["why"] and proposal["fidelity"] == 1.0, proposal
        assert configuration, "the baseline was proposed"
        key = json.dumps(sorted((one["technique"], sorted(one["settings"].items())) for one in configuration))
        assert key not in seen, f"twice: {key}"
        seen.add(key)
        on = [techniques[one["technique"]]["description"] for one in configuration]
        ids = [d["identity"]["id"] for d in on]
        for a, b in itertools.permutations(on, 2):
            assert a["identity"]["id"] not in b["conflicts"] and not set(a["provides"]) & set(b["provides"]), f"conflict: {ids}"
        for d in on:
            tags = {tag for other in on if other is not d for tag in other["provides"]}
            assert tags.issuperset(d["requires"]), f"{ids}: a requirement is missing"
        for one in configuration:
            chosen = one["settings"]
            for p in techniques[one["technique"]]["parameters"]:
                on = all(c["parameter"] in chosen and chosen[c["parameter"]] in c["values"] for c in p["active_when"])
                assert on == (p["name"] in chosen), f"{p['name']} of {one}"
                assert not on or member(p["domain"], chosen[p["name"]]), f"{p['name']} of {one}"
            assert set(chosen) <= {p["name"] for p in techniques[one["technique"]]["parameters"]}, one


def member(domain, value):
    match domain["kind"]:
        case "flag":
            return value is True or value is False
        case "choice":
            return value in domain["values"]
        case "integer":
            inside = domain["min"] <= value <= domain["max"]
            return type(value) is int and inside and (value - domain["min"]) % domain["step"] == 0
        case "real":
            return type(value) is float and domain["min"] <= value <= domain["max"]


def check(driver):
    chosen = set()
    for name, outcome in OUTCOMES.items():
        for budget, at_once in itertools.product((0, 1, 24), (1, 4)):
            constraints = ["size <= 2"]
            told = driver.search(MIXED, outcome, budget=budget, at_once=at_once, constraints=constraints)
            assert len(told) >= 40, f"{name}: it gave up after {len(told)} trials"
            chosen |= {(one["technique"], name) for p in told for one in p["configuration"] for name in one["settings"]}
    assert len(chosen) == sum(len(t["parameters"]) for t in MIXED), f"only these were ever chosen: {sorted(chosen)}"
    assert driver.search(MIXED, good, seed=7) == driver.search(MIXED, good, seed=7), "the seed does not decide"
    assert driver.search(MIXED, good, seed=7) != driver.search(MIXED, good, seed=8), "the seed decides nothing"
    driver.search(MIXED, good, seed=2**64 - 1)
    assert driver.search([], good) == [], "an empty space has no configuration"
    assert driver.search(LONELY, good) == [], "what lacks its requirement was proposed"
    few = driver.search(LITTLE, good)
    assert len(few) == 5, f"{len(few)} of 5 configurations were found"
    assert len(driver.search(WIDE, good)) == 40, "a wide space was used up"
    assert len(driver.search(MANY, good, most=100, at_once=25)) >= 100, "a large space was used up"


if __name__ == "__main__":
    check(Driver(*sys.argv[1:]))
    print("it keeps the promises of awkward problems, too")

"""Answers as `aehost plugins drive` does, with random configurations, and stops after STOP_AFTER asks where that is set. It checks
what it is sent; for tests of the client alone."""

import json
import os
import random
import sys

from benches.search.host_form import tabled
from benches.search.space import Space


def technique(one):
    described = one["description"]
    rest = {name: described[name] for name in ("stage", "after", "conflicts", "provides", "requires")}
    return {"technique": described["identity"]["id"], "parameters": [parameter(p) for p in one["parameters"]], **rest}


def parameter(one):
    limits = dict(one["domain"])
    kind = limits.pop("kind")
    return {**one, "domain": kind if kind == "flag" else {kind: limits}, "active-when": one["active_when"]}


problem, asked, told = None, 0, []
for line in sys.stdin:
    [(kind, content)] = json.loads(line).items()
    if kind == "start":
        problem = content
        space, draw = Space([technique(t) for t in problem["space"]]), random.Random(problem["seed"])
        answer = {"started": True}
    elif kind == "ask":
        asked += 1
        stop = asked > int(os.environ.get("STOP_AFTER", "1000"))
        proposal = {"trial": asked, "configuration": tabled(space.draw(draw)), "fidelity": 1.0, "why": "random"}
        answer = {"proposals": [] if stop else [proposal], "seconds": 0.0}
    elif content[0]["trial"] != len(told):
        answer = {"error": f"trial {content[0]['trial']} is told, but {len(told)} is due"}
    elif (content[0]["configuration"] == []) != (not told) and len(space.techniques) == 1:
        answer = {"error": "the baseline is told first, and once"}
    else:
        told += content
        answer = {"told": len(content), "seconds": 0.0}
    print(json.dumps(answer), flush=True)

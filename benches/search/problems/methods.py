"""One technique with three methods to choose from, each with parameters of its own, some of which depend on others again.

The first objective is `share`; each method has a curve of the second over it, and the front takes a piece of each. What
the active parameters lack from their best values lifts the curve by a factor.
"""

from math import log

import numpy as np

from ..problem import Objective, Problem
from ..space import Space, choice, flag, integer, real, technique

CURVES = {
    "rounding": lambda share: 1.0 - 0.75 * share,
    "low-rank": lambda share: 1.05 - 0.9 * share**0.5 + 0.25 * share,
    "distilled": lambda share: 0.15 + 1.4 * (1 - share) ** 2,
}


def measure(settings):
    given = settings["compress"]
    method, share = given["method"], given["share"]
    if method == "rounding":
        off = abs(log(given["group"] / 64, 2)) / 2 + (0.0 if given["symmetric"] else 0.5)
    elif method == "low-rank":
        off = (log(given["rank"] / 24) / 2) ** 2 + (log(given["alpha"] / 10) / 3) ** 2
    else:
        off = ((given["steps"] - 12) / 10) ** 2 + {"linear": 0.0, "cosine": 0.1, "constant": 0.3}[given["schedule"]]
        if given["schedule"] != "constant":
            off += (log(given["rate"] / 1e-3) / 3) ** 2
    return {"share": share, "loss": CURVES[method](share) * (1 + off)}


def front():
    return np.array([(share, min(curve(share) for curve in CURVES.values())) for share in np.linspace(0, 1, 2001)])


def problems():
    rounding, low_rank, distilled = ({"method": [method]} for method in CURVES)
    with_rate = {**distilled, "schedule": ["linear", "cosine"]}
    compress = technique("compress", [
        real("share", 0.0, 1.0, 1.0),
        choice("method", CURVES, "rounding"),
        choice("group", [16, 32, 64, 128, 256], 16, ordered=True, when=rounding),
        flag("symmetric", when=rounding),
        integer("rank", 1, 256, 256, log=True, when=low_rank),
        real("alpha", 0.1, 100.0, 1.0, log=True, when=low_rank),
        integer("steps", 1, 30, 30, when=distilled),
        choice("schedule", ["constant", "cosine", "linear"], "constant", when=distilled),
        real("rate", 1e-5, 1e-1, 1e-2, log=True, when=with_rate),
    ])
    return [Problem("methods", Space([compress]), (Objective("share"), Objective("loss")), measure, front)]

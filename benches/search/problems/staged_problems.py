"""The problems made of the techniques of `staged`, and their exact fronts."""

from functools import lru_cache, partial
from itertools import product

import numpy as np

from ..problem import Constraint, Objective, Problem, Unmeasured
from ..space import Space
from .staged import BEST, TECHNIQUES, measure, unsupported

GROUPS_OF_CHOICES = [["prune-layers", "low-rank"], ["share-heads"], ["adapters"], ["quantise", "codebook"], ["cache"]]


def alternatives(space: Space, name: str) -> list[dict]:
    """Settings of one technique: every value of what trades, the best one of everything else."""
    variables = [v for v in space.variables if v.technique == name and v.parameter]
    values = [[BEST[v.parameter]] if v.parameter in BEST else [v.decode(raw) for raw in range(int(v.low), int(v.high) + 1)]
              for v in variables]
    found = []
    for combination in product(*values):
        raws = space.raws([]) | {name: 1} | {v.name: v.encode(value) for v, value in zip(variables, combination)}
        settings = {v.parameter: v.decode(raws[v.name]) for v in space.active(raws) if v.technique == name and v.parameter}
        if settings not in found:
            found.append(settings)
    return found


@lru_cache(maxsize=None)
def everything(supported_only: bool) -> dict[str, np.ndarray]:
    """The metrics of all configurations that a front may hold. Distilling costs nothing here, so it goes with adapters."""
    space = Space(TECHNIQUES)
    groups = [[None] + [(name, settings) for name in group for settings in alternatives(space, name)]
              for group in GROUPS_OF_CHOICES]
    rows = []
    for combination in product(*groups):
        on = dict(chosen for chosen in combination if chosen)
        if "adapters" in on:
            on["distil"] = {"temperature": BEST["temperature"]}
        try:
            if supported_only:
                unsupported(on)
            rows.append(tuple(measure(on).values()))
        except Unmeasured:
            continue
    return dict(zip(("divergence", "latency", "memory"), np.array(rows).T))


def front(metrics, constraints, supported_only):
    columns = everything(supported_only)
    allowed = np.ones(len(columns["memory"]), dtype=bool)
    for constraint in constraints:
        allowed &= columns[constraint.metric] <= constraint.bound
    return np.column_stack([columns[metric] for metric in metrics])[allowed]


def noisy(on):
    """Timing repeats within some percent; divergence is a mean over few texts."""
    values = measure(on)
    return {"divergence": 0.01 + 0.05 * values["divergence"], "latency": 0.04 * values["latency"], "memory": 0.5}


def checked(on):
    unsupported(on)
    return measure(on)


def staged(name, metrics, constraints=(), may_fail=False, noise=None):
    return Problem(name, Space(TECHNIQUES), tuple(map(Objective, metrics)), checked if may_fail else measure,
                   partial(front, metrics, constraints, may_fail), constraints, noise, may_fail)


def problems():
    both, all_three = ("divergence", "latency"), ("divergence", "latency", "memory")
    return [
        staged("staged", both, (Constraint("memory", 160.0),)),
        staged("staged-three", all_three),
        staged("staged-noisy", all_three, (Constraint("divergence", 0.25),), noise=noisy),
        staged("staged-failing", both, (Constraint("memory", 200.0),), may_fail=True),
        staged("staged-tight", both, (Constraint("memory", 110.0), Constraint("divergence", 0.15))),
    ]

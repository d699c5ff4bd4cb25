"""What a run is worth after so many measurements.

A method hands back what it believes to be the front: the feasible points that no other feasible one dominates, by what was
measured. They are judged by their true values; one that in truth violates a constraint is dropped. It recommends the
feasible point with the best score of measured values (`indicators.score`); regret is how much worse its true score is than
the best on the true front, infinite without such a point.
"""

import math

import numpy as np

from . import indicators
from .problem import Outcome, Problem


def judged(problem: Problem, observed: list[Outcome], truths: list[Outcome]) -> dict:
    candidates = [i for i, outcome in enumerate(observed) if problem.feasible(outcome)]
    nothing = {"hypervolume": 0.0, "igd_plus": None, "feasible": False, "regret": None}
    if not candidates:
        return nothing
    measured = problem.in_units([problem.minimised(observed[i]) for i in candidates])
    believed = [candidates[i] for i in indicators.nondominated(measured)]
    kept = [truths[i] for i in believed if problem.feasible(truths[i])]
    if not kept:
        return nothing
    points = problem.in_units([problem.minimised(truth) for truth in kept])
    recommended = truths[candidates[int(indicators.score(measured).argmin())]]
    regret = None
    if problem.feasible(recommended):
        regret = float(indicators.score(problem.in_units(problem.minimised(recommended)))[0]) - problem.best_score
    return {
        "hypervolume": indicators.hypervolume(points, problem.reference) / problem.front_hypervolume,
        "igd_plus": indicators.igd_plus(points, problem.in_units(problem.true_front)),
        "feasible": True,
        "regret": regret,
    }


def percentile(values, share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values) -> float:
    """With absent values as infinite."""
    known = [math.inf if value is None else value for value in values]
    middle = sorted(known)[(len(known) - 1) // 2: len(known) // 2 + 1]
    return float(np.mean(middle)) if math.isfinite(sum(middle)) else middle[-1]

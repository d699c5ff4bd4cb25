"""A problem as every method sees it, and what only the judge sees: the truth without noise, and the true front."""

import random
from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable

import numpy as np

from . import indicators
from .space import Space

REFERENCE_SAMPLES = 1001


@dataclass(frozen=True)
class Objective:
    metric: str
    maximize: bool = False


@dataclass(frozen=True)
class Constraint:
    metric: str
    bound: float
    at_most: bool = True

    def violation(self, values: dict[str, float]) -> float:
        """Above 0 where it is violated, in shares of the bound."""
        over = values[self.metric] - self.bound if self.at_most else self.bound - values[self.metric]
        return over / (abs(self.bound) or 1.0)


class Unmeasured(Exception):
    """The configuration has no metrics: it is infeasible, or it failed."""

    def __init__(self, reason: str, infeasible: bool):
        super().__init__(reason)
        self.infeasible = infeasible


@dataclass(frozen=True)
class Outcome:
    """`values` and `errors` (standard errors) by metric; both empty where there was nothing to measure."""

    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    infeasible: bool = False


@dataclass(frozen=True)
class Problem:
    """`measure` gives the metrics of settings by technique, or raises Unmeasured. `noise` gives the standard
    errors of the metrics of settings. `front` gives the true front, minimised. `may_fail`: some have no metrics."""

    name: str
    space: Space
    objectives: tuple[Objective, ...]
    measure: Callable[[dict[str, dict]], dict[str, float]]
    front: Callable[[], np.ndarray]
    constraints: tuple[Constraint, ...] = ()
    noise: Callable[[dict[str, dict]], dict[str, float]] | None = None
    may_fail: bool = False

    def truth(self, configuration: list[dict]) -> Outcome:
        if reason := self.space.objection(configuration):
            return Outcome(reason=reason, infeasible=True)
        settings = self.space.settings(configuration)
        try:
            values = self.measure(settings)
        except Unmeasured as unmeasured:
            return Outcome(reason=str(unmeasured), infeasible=unmeasured.infeasible)
        return Outcome(values, self.noise(settings) if self.noise else dict.fromkeys(values, 0.0))

    def observe(self, truth: Outcome, noise: random.Random) -> Outcome:
        """The truth as a measurement shows it."""
        values = {metric: value + noise.gauss(0.0, truth.errors[metric]) for metric, value in truth.values.items()}
        return Outcome(values, truth.errors, truth.reason, truth.infeasible)

    def minimised(self, outcome: Outcome) -> list[float]:
        return [-outcome.values[o.metric] if o.maximize else outcome.values[o.metric] for o in self.objectives]

    def feasible(self, outcome: Outcome) -> bool:
        return bool(outcome.values) and all(c.violation(outcome.values) <= 0 for c in self.constraints)

    @cached_property
    def true_front(self) -> np.ndarray:
        points = np.asarray(self.front(), dtype=float)
        return points[indicators.nondominated(points)]

    @cached_property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """The true front's best and worst values. Indicators are in these units: 0 is ideal, 1 the front's worst value."""
        ideal, worst = self.true_front.min(axis=0), self.true_front.max(axis=0)
        return ideal, np.where(worst > ideal, worst - ideal, 1.0)

    def in_units(self, points) -> np.ndarray:
        ideal, extent = self.scale
        return (np.asarray(points, dtype=float).reshape(-1, len(self.objectives)) - ideal) / extent

    @cached_property
    def reference(self) -> np.ndarray:
        """In units of the front: 1.1, or the median of random configurations where that is further, since tens of
        measurements hardly come nearer than that on the harder problems."""
        draw = random.Random(0)
        outcomes = (self.truth(self.space.draw(draw)) for _ in range(REFERENCE_SAMPLES))
        points = self.in_units([self.minimised(outcome) for outcome in outcomes if outcome.values])
        return np.maximum(np.median(points, axis=0), 1.1)

    @cached_property
    def front_hypervolume(self) -> float:
        return indicators.hypervolume(self.in_units(self.true_front), self.reference)

    @cached_property
    def best_score(self) -> float:
        return float(indicators.score(self.in_units(self.true_front)).min())

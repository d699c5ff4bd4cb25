"""Pareto local search (Paquete, Chiarandini, Stuetzle, 2004): every technique alone, some random draws, and then always one
change of the member of the front that was changed the least so far."""

import math
from collections import Counter

from aehost_space import Random, Space, admitted, invalid, reported, violation
from wit_world import exports
from wit_world.exports.strategy import Description, Observation, Outcome_Measured, Outlook, Problem, Proposal
from wit_world.imports.common import Direction, Domain_Integer, Identity, IntegerRange, Parameter, Value_Integer

# Draws or changes in a row that may be repeats or not allowed before something else is tried.
TRIES = 200


class Strategy(exports.Strategy):
    def describe(self) -> Description:
        summary = "Changes one thing at a time of what is on the front."
        reference = "Paquete, Chiarandini, Stuetzle: Pareto Local Optimum Sets, 2004"
        draws = Parameter(
            "draws",
            "Random configurations before the local search.",
            Domain_Integer(IntegerRange(0, 1000, 1, False)),
            Value_Integer(3),
            [],
        )
        return Description(Identity("local-search", "0.1.0", summary, reference), [draws], multi_fidelity=False)


class Optimizer(exports.strategy.Optimizer):
    def __init__(self, problem: Problem):
        self.objectives, self.constraints = problem.objectives, problem.constraints
        self.space = Space(problem.space)
        self.random = Random(problem.seed)
        settings = {s.name: s.value.value for s in problem.settings}
        techniques = self.space.techniques.values()
        self.design = [(self.space.alone(t), f"{t.technique} alone") for t in techniques]
        self.draws = settings["draws"]
        # The baseline is known, and everything else is proposed once.
        self.seen = {repr([])}
        self.proposed = 0
        # What nothing measured is better than: (trial, configuration, (violation, costs)).
        self.front = []
        self.changed = Counter()

    @classmethod
    @reported
    def start(cls, problem: Problem) -> "Optimizer":
        if not problem.objectives:
            raise invalid("a local search needs an objective")
        return cls(problem)

    @reported
    def ask(self, count: int) -> list[Proposal]:
        proposals = []
        while len(proposals) < count and (found := self.next()):
            self.proposed += 1
            configuration, why = found
            proposals.append(Proposal(self.proposed, configuration, 1.0, why))
        return proposals

    @reported
    def tell(self, observations: list[Observation]) -> None:
        for told in observations:
            # What was not measured teaches nothing here: it is not proposed again anyway.
            if isinstance(told.outcome, Outcome_Measured):
                values = {m.metric: m.value for m in told.outcome.value}
                rated = (told.trial, told.configuration, self.rate(values))
                if not any(better(other[2], rated[2]) for other in self.front):
                    self.front = [other for other in self.front if not better(rated[2], other[2])] + [rated]

    @reported
    def outlook(self) -> Outlook:
        return Outlook(None, [f"{len(self.front)} configurations are on the front"])

    def next(self):
        """A configuration that is new and allowed, and why; none where the space seems to be used up."""
        while self.design:
            configuration, why = self.design.pop(0)
            if self.fresh(configuration):
                return configuration, why
        if self.draws > 0:
            self.draws -= 1
            return self.drawn("drawn at random")
        for _ in range(TRIES):
            if not self.front:
                break
            trial, configuration, _ = min(self.front, key=lambda member: (self.changed[member[0]], member[0]))
            self.changed[trial] += 1
            changed, what = self.space.change(configuration, self.random)
            if self.fresh(changed):
                return changed, f"trial {trial}, {what}" if trial else f"the baseline, {what}"
        return self.drawn("drawn at random: nothing new is one change away from the front")

    def drawn(self, why):
        for _ in range(TRIES):
            configuration = self.space.sample(self.random)
            if self.fresh(configuration):
                return configuration, why
        return None

    def fresh(self, configuration):
        """Whether it was not seen before, and may be measured."""
        key = repr(configuration)
        if key in self.seen:
            return False
        self.seen.add(key)
        return admitted(configuration, self.constraints)

    def rate(self, values):
        """Violation of all constraints, and costs to be minimised; what is missing is the worst."""
        missed = [violation(c, values[c.metric]) if c.metric in values else 1.0 for c in self.constraints]
        costs = []
        for objective in self.objectives:
            value = values.get(objective.metric, math.nan)
            cost = value if objective.direction == Direction.MINIMIZE else -value
            costs.append(math.inf if math.isnan(cost) else cost)
        return sum(missed), costs


def better(a, b):
    """Constrained domination (Deb, 2000): the smaller violation first, then nowhere worse and somewhere better."""
    if a[0] != b[0]:
        return a[0] < b[0]
    return a[1] != b[1] and all(x <= y for x, y in zip(a[1], b[1]))

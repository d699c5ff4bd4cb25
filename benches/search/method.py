"""What a search method is here: it is told the baseline, and then asked for and told one configuration at a time."""

from typing import Protocol

from .problem import Outcome, Problem


class Method(Protocol):
    def ask(self) -> list[dict] | None:
        """A configuration, or none where the method has finished."""

    def tell(self, configuration: list[dict], outcome: Outcome) -> None:
        """The outcome of the baseline (the empty configuration) or of what was asked for last."""

    def close(self) -> None:
        """Ends what the method started."""


class Translator:
    """Outcomes as the rivals' packages take them: numbers to minimise, and violations, feasible up to 0.

    What has no metrics is told with the worst values so far and a violation of one more constraint, that it runs: packages
    that skip failures learn nothing from them, and ask for them again."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.worst_objectives: list[float] = []
        self.worst_violations: list[float] = []

    def __call__(self, outcome: Outcome) -> tuple[list[float], list[float]]:
        if outcome.values:
            objectives = self.problem.minimised(outcome)
            violations = [constraint.violation(outcome.values) for constraint in self.problem.constraints]
            self.worst_objectives = [max(pair) for pair in zip(objectives, self.worst_objectives or objectives)]
            self.worst_violations = [max(pair) for pair in zip(violations, self.worst_violations or violations)]
        else:
            objectives, violations = self.worst_objectives, self.worst_violations
        runs = [-1.0 if outcome.values else 1.0] if self.problem.may_fail else []
        return list(objectives), [*violations, *runs]

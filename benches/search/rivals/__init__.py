"""The rivals by name. A package is imported when its rival starts, so that one that is missing stops no other."""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from ..method import Method
from ..problem import Problem


@dataclass(frozen=True)
class Rival:
    """`prefix`: it does not know the budget, so a run of a smaller budget is the beginning of a larger one, and is not done
    again. `seeds` and `largest` keep expensive ones affordable: at most so many seeds, and measurements, unless the command
    line asks for all."""

    module: str
    function: str
    package: str | None
    prefix: bool
    seeds: int | None = None
    largest: int | None = None

    def start(self, problem: Problem, budget: int, seed: int) -> Method:
        return getattr(import_module(f"{__name__}.{self.module}"), self.function)(problem, budget, seed)

    def version(self) -> str:
        return f"{self.package} {version(self.package)}" if self.package else ""


RIVALS = {
    "random": Rival("random_search", "RandomSearch", None, prefix=True),
    "optuna-tpe": Rival("with_optuna", "tpe", "optuna", prefix=True),
    "optuna-nsga2": Rival("with_optuna", "nsga2", "optuna", prefix=False),
    "optuna-gp": Rival("with_optuna", "gaussian_process", "optuna", prefix=True, seeds=5, largest=60),
    "pymoo-nsga2": Rival("with_pymoo", "nsga2", "pymoo", prefix=False),
    "pymoo-nsga3": Rival("with_pymoo", "nsga3", "pymoo", prefix=False),
    "botorch-qlognehvi": Rival("with_botorch", "QLogNehvi", "botorch", prefix=True, seeds=3, largest=60),
    "smac": Rival("with_smac", "Smac", "smac", prefix=False, seeds=5),
}

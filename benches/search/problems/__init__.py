"""Every problem of the benchmark by name: closed forms, and measured tables where there are any."""

from functools import lru_cache

from ..problem import Problem
from . import methods, staged_problems, standard, tables


@lru_cache(maxsize=None)
def every() -> dict[str, Problem]:
    found = [*standard.problems(), *methods.problems(), *staged_problems.problems(), *tables.problems()]
    return {problem.name: problem for problem in found}

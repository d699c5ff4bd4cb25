"""pymoo's NSGA-II and NSGA-III with its operators for mixed variables; inactive variables are there and ignored. Both start
from the baseline and random configurations."""

import random

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.algorithms.moo.nsga3 import NSGA3, comp_by_cv_then_random
from pymoo.core.evaluator import Evaluator
from pymoo.core.individual import Individual
from pymoo.core.mixed import MixedVariableDuplicateElimination, MixedVariableMating
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.termination import NoTermination
from pymoo.core.variable import Choice, Integer, Real
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from ..method import Translator


class Evolution:
    """Asks for a generation at a time, and tells it when all of it has been measured."""

    def __init__(self, problem, algorithm, seed):
        self.problem = problem
        self.translate = Translator(problem)
        violations = len(problem.constraints) + problem.may_fail
        self.stated = PymooProblem(vars=variables(problem.space), n_obj=len(problem.objectives), n_ieq_constr=violations)
        algorithm.setup(self.stated, termination=NoTermination(), seed=seed, verbose=False)
        self.algorithm = algorithm
        self.generation = algorithm.ask()
        self.told = []

    def ask(self):
        if len(self.told) == len(self.generation):
            results = StaticProblem(self.stated, F=np.array([f for f, _ in self.told]), G=np.array([g for _, g in self.told]))
            Evaluator().eval(results, self.generation)
            self.algorithm.tell(infills=self.generation)
            self.generation, self.told = self.algorithm.ask(), []
            if self.generation is None or not len(self.generation):
                return None
        return self.problem.space.configuration(to_raws(self.problem.space, self.generation[len(self.told)].X))

    def tell(self, configuration, outcome):
        self.told.append(self.translate(outcome))

    def close(self):
        pass


def variables(space):
    """A logarithmic scale is a range of its logarithms."""
    made = {}
    for variable in space.variables:
        if variable.kind == "category":
            made[variable.name] = Choice(options=list(range(len(variable.values))))
        elif variable.log:
            made[variable.name] = Real(bounds=(0.0, 1.0))
        else:
            made[variable.name] = (Real if variable.kind == "real" else Integer)(bounds=(variable.low, variable.high))
    return made


def to_raws(space, point):
    return {v.name: v.from_unit(point[v.name]) if v.log else point[v.name] for v in space.variables}


def first_generation(space, size, seed):
    draw = random.Random(seed)
    points = [space.raws([])] + [{v.name: v.draw(draw) for v in space.variables} for _ in range(size - 1)]
    points = [{v.name: v.to_unit(raws[v.name]) if v.log else raws[v.name] for v in space.variables} for raws in points]
    return Population.create(*[Individual(X=point) for point in points])


def nsga2(problem, budget, seed):
    algorithm = NSGA2(**operators(problem, budget, seed, binary_tournament))
    return Evolution(problem, algorithm, seed)


def nsga3(problem, budget, seed):
    """With as many reference directions as a population of the same size holds."""
    size, objectives = size_of(budget), len(problem.objectives)
    directions = [get_reference_directions("das-dennis", objectives, n_partitions=n) for n in range(1, size)]
    directions = max((d for d in directions if len(d) <= size), key=len)
    return Evolution(problem, NSGA3(directions, **operators(problem, budget, seed, comp_by_cv_then_random)), seed)


def size_of(budget):
    return max(10, budget // 5)


def operators(problem, budget, seed, tournament):
    """Two children at a time: of generations of 2, of half the population and of all of it, that was the best by far."""
    same = MixedVariableDuplicateElimination()
    mating = MixedVariableMating(selection=TournamentSelection(func_comp=tournament), eliminate_duplicates=same)
    size = size_of(budget)
    return {"pop_size": size, "n_offsprings": 2, "sampling": first_generation(problem.space, size, seed), "mating": mating,
            "eliminate_duplicates": same}

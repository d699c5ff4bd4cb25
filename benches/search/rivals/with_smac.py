"""SMAC 3: random forests with ParEGO over the objectives, on a conditional space. It has no constraints: what violates one is
told with costs that are raised by the violation, in units of the range of costs seen."""

import logging
import shutil
import tempfile

from ConfigSpace import (AndConjunction, CategoricalHyperparameter, ConfigurationSpace, InCondition,
                         UniformFloatHyperparameter, UniformIntegerHyperparameter)
from smac import HyperparameterOptimizationFacade as Facade
from smac import Scenario
from smac.multi_objective import ParEGO
from smac.runhistory import TrialInfo, TrialValue

from ..method import Translator

for noisy in ("smac", "dask"):
    logging.getLogger(noisy).setLevel(logging.CRITICAL)


class Smac:
    def __init__(self, problem, budget, seed):
        self.problem = problem
        self.translate = Translator(problem)
        self.folder = tempfile.mkdtemp()
        self.space = configuration_space(problem.space, seed)
        names = [objective.metric for objective in problem.objectives]
        self.best = [float("inf")] * len(names)
        scenario = Scenario(self.space, objectives=names, n_trials=budget, seed=seed, output_directory=self.folder,
                            deterministic=True)
        self.facade = Facade(scenario, lambda config, seed: None, multi_objective_algorithm=ParEGO(scenario),
                             logging_level=logging.CRITICAL, overwrite=True)

    def ask(self):
        self.trial = self.facade.ask()
        chosen = dict(self.trial.config)
        space = self.problem.space
        return space.configuration({v.name: chosen.get(v.name, v.default) for v in space.variables})

    def tell(self, configuration, outcome):
        if not configuration and not len(self.facade.runhistory):
            self.trial = TrialInfo(self.space.get_default_configuration(), seed=0)
        objectives, violations = self.translate(outcome)
        self.best = [min(pair) for pair in zip(objectives, self.best)]
        over = sum(max(violation, 0.0) for violation in violations)
        ranges = [worst - best or 1.0 for worst, best in zip(self.translate.worst_objectives, self.best)]
        self.facade.tell(self.trial, TrialValue([cost + over * width for cost, width in zip(objectives, ranges)]), save=False)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def configuration_space(space, seed):
    """Its default is the baseline."""
    made = ConfigurationSpace(seed=seed)
    parts = {variable.name: hyperparameter(variable) for variable in space.variables}
    made.add(list(parts.values()))
    for variable in space.variables:
        conditions = []
        for name, values in variable.conditions:
            other = space.by_name[name]
            conditions.append(InCondition(parts[variable.name], parts[name], [other.encode(value) for value in values]))
        if conditions:
            made.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return made


def hyperparameter(variable):
    name, default = variable.name, variable.default
    if variable.kind == "category":
        return CategoricalHyperparameter(name, list(range(len(variable.values))), default_value=default)
    made = UniformFloatHyperparameter if variable.kind == "real" else UniformIntegerHyperparameter
    return made(name, variable.low, variable.high, default_value=default, log=variable.log)

"""Optuna's samplers: TPE, NSGA-II and Gaussian processes, all with constraints.

TPE suggests parameters as they become active, which it models by groups. The other two work on parameters that all trials
have, so they are given every one, of which the inactive are ignored.
"""

import warnings

import optuna

from ..method import Translator
from ..problem import Problem

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Sampler:
    def __init__(self, problem: Problem, sampler, conditional: bool):
        self.problem, self.conditional = problem, conditional
        self.translate = Translator(problem)
        self.study = optuna.create_study(directions=["minimize"] * len(problem.objectives), sampler=sampler)

    def ask(self):
        self.trial = self.study.ask()
        raws = {}
        decoded = {}
        for variable in self.problem.space.variables:
            exists = all(other in decoded and decoded[other] in values for other, values in variable.conditions)
            if self.conditional and not exists:
                raws[variable.name] = variable.default
                continue
            raws[variable.name] = self._suggest(variable)
            decoded[variable.name] = variable.decode(raws[variable.name])
        return self.problem.space.configuration(raws)

    def _suggest(self, variable):
        if variable.kind == "category":
            return self.trial.suggest_categorical(variable.name, list(range(len(variable.values))))
        suggest = self.trial.suggest_float if variable.kind == "real" else self.trial.suggest_int
        return suggest(variable.name, variable.low, variable.high, log=variable.log)

    def tell(self, configuration, outcome):
        if not configuration and not self.study.trials:
            self.study.enqueue_trial(self.problem.space.raws([]))
            self.ask()
        objectives, violations = self.translate(outcome)
        for i, violation in enumerate(violations):
            self.trial.set_constraint(str(i), violation)
        self.study.tell(self.trial, objectives)

    def close(self):
        pass


def tpe(problem, budget, seed):
    return Sampler(problem, optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True), conditional=True)


def nsga2(problem, budget, seed):
    """With an eighth of the budget as its population: the best of an eighth, a fifth and a third, and of conditional
    parameters or all of them."""
    sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=max(8, budget // 8))
    return Sampler(problem, sampler, conditional=False)


def gaussian_process(problem, budget, seed):
    sampler = optuna.samplers.GPSampler(seed=seed, deterministic_objective=problem.noise is None)
    return Sampler(problem, sampler, conditional=False)

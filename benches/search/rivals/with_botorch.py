"""BoTorch's qLogNEHVI (Ament et al., 2023) on mixed spaces, with a Gaussian process for each objective and constraint.

Begins with the baseline and scrambled Sobol points. Reals and integers are in the unit cube, on their own scales; inactive
variables are at their defaults, so that they make no difference. What has two values is a number, as in a kernel it comes to
the same. Fits and the search of the acquisition function's maximum are cut short, or an ask takes half a minute. The
reference point is inferred from what is known, as the other methods are not told one either.
"""

import warnings

import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, ModelListGP, SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.optim.optimize_mixed import optimize_acqf_mixed_alternating
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch.quasirandom import SobolEngine

from ..method import Translator

warnings.filterwarnings("ignore")
INITIAL = 12  # measurements before the model has a say, the baseline included
LEAST_NOISE = 1e-6  # variance of standardised values where measurements are exact
RESTARTS, RAW_SAMPLES, MC_SAMPLES = 4, 64, 64
FIT = {"options": {"maxiter": 60}}
MIXED_SEARCH = {"maxiter_init": 15, "maxiter_alternating": 4, "maxiter_discrete": 8, "maxiter_continuous": 8}
CONTINUOUS_SEARCH = {"maxiter": 100}


class QLogNehvi:
    def __init__(self, problem, budget, seed):
        self.problem, self.variables = problem, problem.space.variables
        self.translate = Translator(problem)
        self.seed = seed
        self.sobol = SobolEngine(len(self.variables), scramble=True, seed=seed)
        self.points, self.objectives, self.violations, self.ran = [], [], [], []
        self.categories = {i: list(range(int(v.high) + 1)) for i, v in enumerate(self.variables)
                           if v.kind == "category" and v.high > 1}
        self.steps = {i: [v.to_unit(raw) for raw in range(int(v.low), int(v.high) + 1)]
                      for i, v in enumerate(self.variables) if v.kind != "real" and i not in self.categories}

    def ask(self):
        torch.manual_seed(self.seed * 1000 + len(self.points))
        if len(self.points) < INITIAL:
            drawn = self.sobol.draw(1, dtype=torch.double)[0]
            for i, values in self.categories.items():
                drawn[i] = min(int(drawn[i] * len(values)), len(values) - 1)
        else:
            drawn = self.best_point()
        return self.problem.space.configuration(
            {v.name: int(x) if i in self.categories else v.from_unit(float(x))
             for i, (v, x) in enumerate(zip(self.variables, drawn))})

    def tell(self, configuration, outcome):
        raws = self.problem.space.raws(configuration)
        self.points.append([float(raws[v.name]) if i in self.categories else v.to_unit(raws[v.name])
                            for i, v in enumerate(self.variables)])
        objectives, violations = self.translate(outcome)
        self.objectives.append([-value for value in objectives])
        self.violations.append(violations)
        self.ran.append(bool(outcome.values))

    def close(self):
        pass

    def best_point(self):
        points, objectives, violations = map(torch.tensor, (self.points, self.objectives, self.violations))
        points, objectives, violations = points.double(), objectives.double(), violations.double()
        ran = torch.tensor(self.ran)
        # Worst values that stand for a failure are no measurements of an objective; whether it runs is one of a constraint.
        models = [self.fitted(points[ran], objectives[ran, i]) for i in range(objectives.shape[1])]
        for i in range(violations.shape[1]):
            known = torch.ones_like(ran) if i == len(self.problem.constraints) else ran
            models.append(self.fitted(points[known], violations[known, i]))
        m = objectives.shape[1]
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            ModelListGP(*models),
            ref_point=reference(objectives[ran], violations[ran]),
            X_baseline=points[ran],
            sampler=SobolQMCNormalSampler(torch.Size([MC_SAMPLES]), seed=self.seed),
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(m))),
            constraints=[lambda samples, i=i: samples[..., i] for i in range(m, len(models))] or None,
            prune_baseline=True,
        )
        return self.maximised(acquisition)

    def fitted(self, points, values):
        values = values.unsqueeze(-1)
        variance = None
        if self.problem.noise is None:
            variance = torch.full_like(values, LEAST_NOISE * max(float(values.var()), 1e-12))
        if self.categories:
            model = MixedSingleTaskGP(points, values, list(self.categories), variance)
        else:
            model = SingleTaskGP(points, values, variance)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs=FIT)
        return model

    def maximised(self, acquisition):
        low = torch.zeros(len(self.variables), dtype=torch.double)
        high = torch.ones_like(low)
        for i, values in self.categories.items():
            high[i] = len(values) - 1
        common = {"bounds": torch.stack([low, high]), "q": 1, "num_restarts": RESTARTS, "raw_samples": RAW_SAMPLES}
        if self.categories or self.steps:
            found, _ = optimize_acqf_mixed_alternating(acquisition, discrete_dims=self.steps, cat_dims=self.categories,
                                                       options=MIXED_SEARCH, **common)
        else:
            found, _ = optimize_acqf(acquisition, **common, options=CONTINUOUS_SEARCH)
        return found[0]


def reference(objectives, violations):
    feasible = (violations <= 0).all(dim=1)
    known = objectives[feasible] if feasible.any() else objectives
    return infer_reference_point(known[is_non_dominated(known)], scale=0.1)

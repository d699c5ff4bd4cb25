"""Measured tables as problems: every configuration's metrics were measured once, and methods look them up.

`tables/NAME.json` is the problem: `space`, `objectives` and `constraints` as in the contract, and `noise`: whether a look-up
is drawn with the standard errors of the table, or is the table's value itself. The rows are beside it, in one of two forms:

- `NAME.jsonl.gz`, one object a line: {"configuration": [...], "metrics": {"latency": [12.5, 0.2], ...}}, a value and its
  standard error, or in the place of metrics {"failed": "why"} or {"infeasible": "why"};
- `NAME.csv.gz` with a header: `configuration` as JSON, a column for each metric and one named `METRIC.standard-error`;
  optionally `failed` and `infeasible`, with the reason.

A configuration that is not in the table has the values of the nearest one that is. The true front is that of the table.
"""

import csv
import gzip
import json
from pathlib import Path

import numpy as np

from ..problem import Constraint, Objective, Outcome, Problem, Unmeasured
from ..space import Space

FOLDER = Path(__file__).parent.parent / "tables"


def rows(path: Path):
    """Pairs of a configuration and its outcome."""
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file) if ".csv" in path.suffixes else map(json.loads, file):
            if isinstance(row["configuration"], str):
                row = _from_csv(row)
            metrics = row.get("metrics", {})
            yield row["configuration"], Outcome({name: value for name, (value, _) in metrics.items()},
                                                {name: error for name, (_, error) in metrics.items()},
                                                row.get("infeasible") or row.get("failed") or "",
                                                bool(row.get("infeasible")))


def _from_csv(row):
    reasons = {key: row[key] for key in ("failed", "infeasible") if row.get(key)}
    metrics = {} if reasons else {
        name: (float(value), float(row.get(f"{name}.standard-error") or 0.0)) for name, value in row.items()
        if value and name not in ("configuration", "failed", "infeasible") and not name.endswith(".standard-error")}
    return {"configuration": json.loads(row["configuration"]), "metrics": metrics, **reasons}


class Table:
    def __init__(self, space: Space, found):
        self.space = space
        self.outcomes = [outcome for _, outcome in found]
        self.places = np.array([self.place(space.settings(configuration)) for configuration, _ in found])

    def place(self, settings: dict[str, dict]) -> np.ndarray:
        """A point where a different category is a distance of 1, as is a whole range."""
        raws = self.space.raws([{"technique": name, "settings": [{"name": n, "value": v} for n, v in given.items()]}
                                for name, given in settings.items()])
        place = []
        for variable in self.space.variables:
            if variable.kind == "category":
                place += [0.5 * (raws[variable.name] == index) for index in range(len(variable.values))]
            else:
                place.append(variable.to_unit(raws[variable.name]))
        return np.array(place)

    def outcome(self, settings) -> Outcome:
        return self.outcomes[int(np.abs(self.places - self.place(settings)).sum(axis=1).argmin())]

    def measure(self, settings) -> dict[str, float]:
        found = self.outcome(settings)
        if not found.values:
            raise Unmeasured(found.reason, found.infeasible)
        return found.values


def load(path: Path) -> Problem:
    """The problem that a file NAME.json describes."""
    given = json.loads(path.read_text())
    data = next(p for p in (path.with_suffix(".jsonl.gz"), path.with_suffix(".csv.gz")) if p.exists())
    space = Space(given["space"])
    table = Table(space, list(rows(data)))
    objectives = tuple(Objective(o["metric"], o["direction"] == "maximize") for o in given["objectives"])
    constraints = tuple(Constraint(c["metric"], c["bound"], c["at-most"]) for c in given["constraints"])

    def front():
        feasible = [outcome for outcome in table.outcomes if problem.feasible(outcome)]
        return np.array([problem.minimised(outcome) for outcome in feasible])

    problem = Problem(path.stem, space, objectives, table.measure, front, constraints,
                      (lambda settings: table.outcome(settings).errors) if given["noise"] else None,
                      any(not outcome.values for outcome in table.outcomes))
    return problem


def problems() -> list[Problem]:
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]

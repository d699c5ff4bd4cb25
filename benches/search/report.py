"""The runs as tables in Markdown. Cells are medians over seeds; absent values (no feasible point) count as the worst.

A cell of ours is marked as won or lost against the best rival of its problem, budget and indicator: the one with the best
median among those that ran. With a tie of medians it is not worse, so it counts as "at least the best rival"."""

import math
import statistics
from collections import defaultdict
from pathlib import Path

from . import plots
from .judge import median, percentile
from .runner import OURS

TIE = 1e-9


class Results:
    """Runs by problem, method and budget."""

    def __init__(self, runs: list[dict], ours: str | None):
        self.runs = runs
        self.methods = sorted({run["method"] for run in runs}, key=lambda m: (m.startswith(OURS), m))
        self.problems = list(dict.fromkeys(run["problem"] for run in runs))
        mine = [run["method"] for run in runs if run["method"].startswith(OURS)]
        self.ours = OURS + ours if ours else (mine[0] if mine else None)
        self.rivals = [method for method in self.methods if not method.startswith(OURS)]
        self.at = defaultdict(list)
        for run in runs:
            for budget, values in run["at"].items():
                self.at[run["problem"], run["method"], int(budget)].append(values)
        self.budgets = sorted({budget for _, _, budget in self.at})

    def cell(self, problem, method, budget, indicator) -> float | None:
        """None where it did not run."""
        found = self.at.get((problem, method, budget))
        if not found:
            return None
        values = [values[indicator] for values in found]
        return statistics.fmean(values) if indicator == "feasible" else median(values)

    def best(self, methods, problem, budget, indicator) -> str | None:
        cells = {m: self.cell(problem, m, budget, indicator) for m in methods}
        known = [m for m, cell in cells.items() if cell is not None]
        return min(known, key=lambda m: loss(cells[m], indicator), default=None)

    def holds(self, problem, budget, indicator) -> bool | None:
        """Whether our default is at least as good as the best rival."""
        rival = self.best(self.rivals, problem, budget, indicator)
        mine = self.cell(problem, self.ours, budget, indicator) if self.ours else None
        if rival is None or mine is None:
            return None
        return loss(mine, indicator) <= loss(self.cell(problem, rival, budget, indicator), indicator) + TIE


INDICATORS = {
    "hypervolume": "Hypervolume, share of the true front's (more is better)",
    "igd_plus": "IGD+ (less is better)",
    "regret": "Regret of the recommended point (less is better)",
    "feasible": "Share of runs that hand back a feasible point (more is better)",
}


def loss(value: float, indicator: str) -> float:
    return -value if indicator in ("hypervolume", "feasible") else value


def write(runs: list[dict], folder: Path, ours: str | None):
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(runs, ours)
    parts = ["# Search benchmark", summary(results), *(section(results, budget, name) for budget in results.budgets
                                                       for name in INDICATORS), costs(results), errors(results)]
    (folder / "results.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    plots.draw(results, folder)
    print(folder / "results.md")


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])


def summary(results: Results) -> str:
    if results.ours is None:
        return "Rivals only: the file has no run of a strategy of ours."
    rows = []
    for indicator in INDICATORS:
        cells = [indicator.replace("_plus", "+")]
        for budget in results.budgets:
            held = [h for p in results.problems if (h := results.holds(p, budget, indicator)) is not None]
            cells.append(f"{sum(held)} of {len(held)} ({sum(held) / len(held):.0%})" if held else "-")
        rows.append(cells)
    head = f"Problems on which `{results.ours}` is at least the best rival of that problem, by medians over seeds."
    return f"{head}\n\n" + table(["indicator", *(f"{budget} measurements" for budget in results.budgets)], rows)


def section(results: Results, budget: int, indicator: str) -> str:
    """By problem: **bold** is the best rival, or several that are equal, and ours is marked ✓ (at least it) or ✗."""
    rows = []
    for problem in results.problems:
        best = results.best(results.rivals, problem, budget, indicator)
        row = [problem]
        for method in results.methods:
            value = results.cell(problem, method, budget, indicator)
            cell = shown(value)
            if method in results.rivals and value is not None and value == results.cell(problem, best, budget, indicator):
                cell = f"**{cell}**"
            if method == results.ours and (held := results.holds(problem, budget, indicator)) is not None:
                cell += " ✓" if held else " ✗"
            row.append(cell)
        rows.append(row)
    return f"## {INDICATORS[indicator]}, {budget} measurements\n\n" + table(["problem", *results.methods], rows)


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return "none" if math.isinf(value) else f"{value:.3f}"


def costs(results: Results) -> str:
    rows = []
    for method in results.methods:
        for budget in results.budgets:
            runs = [run for run in results.runs if run["method"] == method and run["budget"] == budget]
            if runs:
                rows.append([method, str(budget), *cost(runs)])
    header = ["method", "budget", "runs", "seconds a run, median", "largest", "ms an ask, median", "95th percentile",
              "version"]
    return "## What the methods themselves take\n\n" + table(header, rows)


def cost(runs) -> list[str]:
    seconds = [run["seconds"] for run in runs]
    asked = [run for run in runs if run["ask_median"] is not None]
    return [
        str(len(runs)), f"{median(seconds):.2f}", f"{max(seconds):.2f}",
        f"{1000 * median(run['ask_median'] for run in asked):.1f}" if asked else "-",
        f"{1000 * percentile([run['ask_p95'] for run in asked], 0.95):.1f}" if asked else "-",
        ", ".join(sorted({run["version"] for run in runs})),
    ]


def errors(results: Results) -> str:
    found = [run for run in results.runs if run["error"]]
    rows = [[run["problem"], run["method"], str(run["seed"]), str(run["measured"]), run["error"].splitlines()[0]]
            for run in found]
    header = ["problem", "method", "seed", "measured", "error"]
    return "## Runs that ended with an error\n\n" + table(header, rows) if rows else ""

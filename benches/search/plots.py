"""A plot a problem: the share of the true front's hypervolume over measurements, medians over seeds with their quartiles."""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def draw(results, folder: Path):
    colours = dict(zip(results.methods, plt.get_cmap("tab20").colors[::2] + plt.get_cmap("tab20").colors[1::2]))
    colours[results.ours] = "black"
    for problem in results.problems:
        figure, axes = plt.subplots(figsize=(7.5, 4.5))
        for method in results.methods:
            measured, low, middle, high = quartiles(results.runs, problem, method)
            if len(measured):
                mine = method == results.ours
                axes.plot(measured, middle, label=method, color=colours[method], linewidth=2.8 if mine else 1.4)
                axes.fill_between(measured, low, high, color=colours[method], alpha=0.12, linewidth=0)
        axes.set(title=problem, xlabel="measurements", ylabel="share of the true front's hypervolume", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{problem}.svg")
        plt.close(figure)


def quartiles(runs, problem, method):
    """From the runs of the method's largest budget."""
    runs = [run for run in runs if run["problem"] == problem and run["method"] == method]
    largest = max((run["budget"] for run in runs), default=0)
    values = defaultdict(list)
    for run in runs:
        if run["budget"] == largest:
            for measured, value in run["curve"]:
                values[measured].append(value)
    measured = sorted(values)
    if not measured:
        return [], [], [], []
    return measured, *np.array([np.percentile(values[n], [25, 50, 75]) for n in measured]).T

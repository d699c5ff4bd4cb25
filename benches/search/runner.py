"""Runs methods on problems, and keeps a line of JSON for each run. What is in the file already is not done again, and a run
that ended with an error counts as it is: with what it had measured."""

import json
import multiprocessing
import random
import shlex
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from . import problems
from .driver import Driver
from .judge import judged, percentile
from .rivals import RIVALS

OURS = "aehost:"
CURVE_STEP = 5


@dataclass(frozen=True)
class Task:
    """`budgets` that one run answers: several where a smaller budget is the beginning of a larger one. `program` is the
    command that our methods are run by, up to the strategy's name."""

    problem: str
    method: str
    seed: int
    budgets: tuple[int, ...]
    program: str

    @property
    def key(self):
        return self.problem, self.method, self.seed, self.budgets[-1]


def tasks(names, methods, budgets, seeds, program, full=False) -> list[Task]:
    """`full` is without the rivals' own limits. By seed first, so that what is there when it is stopped is balanced."""
    groups = {}
    for method in methods:
        rival = RIVALS.get(method)
        limit = None if rival is None or full else rival.largest
        allowed = sorted(budget for budget in budgets if limit is None or budget <= limit)
        groups[method] = [tuple(allowed)] if rival and rival.prefix and allowed else [(budget,) for budget in allowed]

    def begins(method, seed):
        limit = None if method not in RIVALS or full else RIVALS[method].seeds
        return limit is None or seed < limit

    return [Task(problem, method, seed, group, program) for seed in range(seeds) for problem in names
            for method in methods if begins(method, seed) for group in groups[method]]


def started(task: Task, problem):
    """The method, ready for the baseline, and its version."""
    if task.method.startswith(OURS):
        name, *settings = task.method.removeprefix(OURS).split(",")
        pairs = (setting.split("=", 1) for setting in settings)
        settings = [{"name": key, "value": json.loads(value)} for key, value in pairs]
        command = [*shlex.split(task.program), name]
        return Driver(command, problem, task.budgets[-1], task.seed, settings), ""
    rival = RIVALS[task.method]
    return rival.start(problem, task.budgets[-1], task.seed), rival.version()


def run(task: Task) -> dict:
    problem = problems.every()[task.problem]
    noise = random.Random(f"{task.problem} {task.seed}")
    begin = time.perf_counter()
    observed, truths, asks, error, version, method = [], [], [], None, "", None

    def measure(configuration):
        truths.append(problem.truth(configuration))
        observed.append(problem.observe(truths[-1], noise))
        method.tell(configuration, observed[-1])

    try:
        method, version = started(task, problem)
        warnings.simplefilter("ignore")  # packages turn theirs on when they are imported
        measure([])
        while len(observed) < task.budgets[-1]:
            before = time.perf_counter()
            configuration = method.ask()
            asks.append(time.perf_counter() - before)
            if configuration is None:
                break
            measure(configuration)
    except Exception as failure:  # whatever a package raises is a result of its run
        error = f"{type(failure).__name__}: {failure}"
    finally:
        if method is not None:
            method.close()
    seconds = time.perf_counter() - begin
    points = sorted({*range(CURVE_STEP, task.budgets[-1], CURVE_STEP), *task.budgets})
    after = {n: judged(problem, observed[:n], truths[:n]) for n in points}
    return {
        "problem": task.problem, "method": task.method, "seed": task.seed, "budget": task.budgets[-1], "version": version,
        "measured": len(observed), "seconds": round(seconds, 3), "error": error,
        "ask_median": percentile(asks, 0.5) if asks else None, "ask_p95": percentile(asks, 0.95) if asks else None,
        "at": {str(budget): after[budget] for budget in task.budgets},
        "curve": [[n, after[n]["hypervolume"]] for n in points],
    }


def load(path: Path) -> list[dict]:
    """The runs of the file. A last line that was cut off is taken out of it."""
    if not path.exists():
        return []
    *lines, rest = path.read_text().split("\n")
    if rest:
        path.write_text("".join(line + "\n" for line in lines))
    return [json.loads(line) for line in lines]


def run_all(planned: list[Task], path: Path, workers: int):
    done = {(r["problem"], r["method"], r["seed"], r["budget"]) for r in load(path)}
    left = [task for task in planned if task.key not in done]
    print(f"{len(planned) - len(left)} runs are there, {len(left)} are to be done")
    with multiprocessing.get_context("spawn").Pool(workers) as pool, open(path, "a") as file:
        for number, record in enumerate(pool.imap_unordered(run, left), 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(f"{number}/{len(left)} {record['problem']} {record['method']} seed {record['seed']} budget "
                  f"{record['budget']}: {record['seconds']:.1f} s" + (f", {record['error']}" if record["error"] else ""),
                  flush=True)

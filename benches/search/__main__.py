"""python -m benches.search run | table: see README.md."""

import argparse
import os
import shlex
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before any package is imported: rivals are timed on one core each

from . import problems, report, runner
from .rivals import RIVALS


def main():
    parser = argparse.ArgumentParser(prog="python -m benches.search")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that are not in the file yet")
    run.add_argument("--ours", nargs="*", default=[], metavar="STRATEGY",
                     help="names or files of our strategies, the default one first; settings as NAME,key=value,...")
    run.add_argument("--program", default="target/release/aehost plugins drive --plugins plugins/dist", help="what runs them")
    run.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=RIVALS)
    run.add_argument("--problems", nargs="*", default=list(problems.every()), choices=problems.every(), metavar="PROBLEM")
    run.add_argument("--budgets", nargs="*", type=int, default=[30, 60, 120])
    run.add_argument("--seeds", type=int, default=20)
    run.add_argument("--full", action="store_true", help="expensive rivals too have all seeds and budgets")
    run.add_argument("--workers", type=int, default=1)
    run.add_argument("--runs", type=Path, default=Path("search-runs.jsonl"))
    table = commands.add_parser("table", help="write the table and the plots of the runs in the file")
    table.add_argument("--runs", type=Path, default=Path("search-runs.jsonl"))
    table.add_argument("--out", type=Path, default=Path("search-results"), help="folder for results.md and the plots")
    table.add_argument("--ours", help="our default strategy; else the first of ours in the file")
    arguments = parser.parse_args()
    if arguments.command == "table":
        return report.write(runner.load(arguments.runs), arguments.out, arguments.ours)
    if missing := absent(arguments):
        parser.error(missing)
    methods = [*arguments.rivals, *(runner.OURS + name for name in arguments.ours)]
    planned = runner.tasks(arguments.problems, methods, arguments.budgets, arguments.seeds, arguments.program, arguments.full)
    runner.run_all(planned, arguments.runs, arguments.workers)


def absent(arguments) -> str | None:
    """What is not there, before it becomes the error of a thousand runs."""
    program = shlex.split(arguments.program)[0]
    if arguments.ours and shutil.which(program) is None:
        return f"there is no program {program}: build it, or name another in --program"
    for name in arguments.rivals:
        try:
            RIVALS[name].version()
        except PackageNotFoundError as missing:
            return f"{name} needs the package {missing.name}: install benches/search/requirements.txt, or leave it out of --rivals"
    return None


if __name__ == "__main__":
    main()

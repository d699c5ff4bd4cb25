"""Makes a table of the benchmark: has aehost measure every configuration of tables/NAME.toml, and packs what it found.

    venv/bin/python -m benches.search.make_tables target/release/aehost smollm2 [--store tables.db] [--plugins plugins]

Takes an hour or two with nothing else running, and goes on where it was interrupted. problems/tables.py describes the form.
"""

import argparse
import gzip
import json
import subprocess
from pathlib import Path

from . import host_form

FOLDER = Path(__file__).parent / "tables"


def aehost(program, *words):
    done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"aehost {' '.join(map(str, words))} ended with code {done.returncode}")
    return done.stdout


def row(trial, names):
    """A configuration and what was found of it."""
    configuration = host_form.listed(trial["configuration"])
    outcome = trial["outcome"]
    match outcome["kind"]:
        case "ok":
            metrics = outcome["measurements"]["metrics"]
            found = {name: [metrics[name]["value"], metrics[name]["standard_error"]] for name in names}
            return {"configuration": configuration, "metrics": found}
        case "infeasible":
            return {"configuration": configuration, "infeasible": outcome["reason"]}
        case _:
            return {"configuration": configuration, "failed": outcome.get("message", outcome["kind"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("aehost")
    parser.add_argument("name", help="of tables/NAME.toml")
    parser.add_argument("--store", default="tables.db")
    parser.add_argument("--plugins", default="plugins")
    arguments = parser.parse_args()
    file, study = FOLDER / f"{arguments.name}.toml", f"table-{arguments.name}"
    where = ("--store", arguments.store)
    aehost(arguments.aehost, "run", file, "--study", study, "--resume", "--cold", "--plugins", arguments.plugins, "--json", *where)
    export = json.loads(aehost(arguments.aehost, "export-json", study, *where))
    record = export["study"]
    names = sorted({o["metric"] for o in record["objectives"]} | {c.split()[0] for c in record["constraints"]})
    rows = [row(trial, names) for trial in export["trials"]]
    constraints = [{"metric": metric, "at-most": sign == "<=", "bound": float(bound)}
                   for metric, sign, bound in (constraint.split() for constraint in record["constraints"])]
    problem = {"space": host_form.space(record["space"]), "objectives": record["objectives"], "constraints": constraints, "noise": True}
    (FOLDER / f"{arguments.name}.json").write_text(json.dumps(problem, indent=1) + "\n")
    # Without a time in it the file is the same whenever it is made of the same rows.
    text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows)
    (FOLDER / f"{arguments.name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{arguments.name}: {len(rows)} configurations, {sum('metrics' in r for r in rows)} of them measured")


if __name__ == "__main__":
    main()

"""Methods on small budgets: the client of our driver with a fake one, and each rival's adapter."""

import json
import sys
from pathlib import Path

import pytest

from benches.search import host_form, problems, report, runner
from benches.search.judge import judged
from benches.search.method import Translator
from benches.search.problem import Outcome
from benches.search.rivals import RIVALS

FAKE = f"{sys.executable} -m benches.search.tests.fake_driver"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", ["zdt1", "methods", "staged-failing", "staged-noisy"])
def test_the_driver_is_told_all_and_asked_for_the_budget(name):
    record = runner.run(runner.Task(name, "aehost:any,initial=4", 1, (30,), FAKE))
    assert record["error"] is None
    assert record["measured"] == 30


def test_problems_and_results_have_the_form_of_the_host():
    problem = problems.every()["methods"]
    method = host_form.problem(problem, 30, 1, [])["space"][0]["parameters"][1]
    assert method["domain"] == {"kind": "choice", "values": ["rounding", "low-rank", "distilled"], "ordered": False}
    configuration = problem.space.configuration(problem.space.raws([]))
    assert host_form.listed(host_form.tabled(configuration)) == configuration
    measured = host_form.outcome(Outcome({"loss": 1.0}, {"loss": 0.1}))
    assert measured == {"kind": "measured", "metrics": [{"metric": "loss", "value": 1.0, "standard_error": 0.1}]}


def test_a_driver_that_finishes_early_keeps_what_it_has(monkeypatch):
    monkeypatch.setenv("STOP_AFTER", "10")
    record = runner.run(runner.Task("zdt1", "aehost:any", 1, (30,), FAKE))
    assert record["error"] is None and record["measured"] == 11
    assert record["curve"][-1][1] == record["at"]["30"]["hypervolume"] > 0


def test_a_driver_that_dies_is_an_error_of_its_run():
    record = runner.run(runner.Task("zdt1", "aehost:any", 1, (30,), f"{sys.executable} -c pass"))
    assert "the driver ended" in record["error"] and record["measured"] == 0
    assert record["at"]["30"]["feasible"] is False


def test_expensive_rivals_have_fewer_seeds_and_budgets():
    def planned(full):
        return [(task.seed, task.budgets) for task in runner.tasks(["zdt1"], ["optuna-gp"], [30, 60, 120], 20, "", full)]

    assert planned(False) == [(seed, (30, 60)) for seed in range(5)]
    assert planned(True) == [(seed, (30, 60, 120)) for seed in range(20)]


CHEAP = [name for name in RIVALS if name not in ("botorch-qlognehvi", "optuna-gp")]


@pytest.mark.parametrize("rival", CHEAP)
@pytest.mark.parametrize("name", ["zdt1-integers", "methods", "staged-failing", "mw7"])
def test_rivals_take_every_kind_of_problem(rival, name):
    record = runner.run(runner.Task(name, rival, 1, (25,), ""))
    assert record["error"] is None and record["measured"] == 25


@pytest.mark.parametrize("rival", ["botorch-qlognehvi", "optuna-gp"])
def test_model_based_rivals_beat_random_search(rival):
    share = lambda method: runner.run(runner.Task("zdt1", method, 1, (18,), ""))["at"]["18"]["hypervolume"]
    assert share(rival) > share("random") + 0.1


@pytest.mark.parametrize("rival", ["pymoo-nsga2", "pymoo-nsga3", "optuna-nsga2", "optuna-tpe"])
def test_evolution_and_tpe_beat_random_search(rival):
    def mean(method):
        runs = [runner.run(runner.Task("zdt1", method, seed, (120,), "")) for seed in range(5)]
        return sum(run["at"]["120"]["hypervolume"] for run in runs) / len(runs)

    assert mean(rival) > mean("random") + 0.05


def test_a_run_is_the_same_again():
    task = runner.Task("staged-noisy", "pymoo-nsga2", 4, (25,), "")
    assert runner.run(task)["curve"] == runner.run(task)["curve"]


def test_what_fails_is_told_as_the_worst_so_far():
    problem = problems.every()["staged-failing"]
    translate = Translator(problem)
    for latency, memory in ((5.0, 300.0), (9.0, 100.0)):
        translate(Outcome({"divergence": 0.1, "latency": latency, "memory": memory}))
    assert translate(Outcome(reason="out of memory")) == ([0.1, 9.0], [0.5, 1.0])


def test_points_that_are_infeasible_in_truth_are_dropped():
    problem = problems.every()["staged-noisy"]
    good, bad = ({"divergence": d, "latency": 3.0, "memory": 100.0} for d in (0.2, 0.3))
    lucky = Outcome({"divergence": 0.2, "latency": 2.0, "memory": 90.0})
    assert not judged(problem, [lucky], [Outcome(bad)])["feasible"]
    both = judged(problem, [Outcome(good), lucky], [Outcome(good), Outcome(bad)])
    assert not both["feasible"] and both["regret"] is None, "it hides the good one, which was not handed back"


def test_runs_resume_and_make_tables(tmp_path, capsys):
    planned = runner.tasks(["zdt1", "staged"], ["random", "pymoo-nsga2", "aehost:any"], [10, 20], 1, FAKE)
    assert len(planned) == 2 * (1 + 2 + 2), "random search answers both budgets by one run"
    path = tmp_path / "runs.jsonl"
    runner.run_all(planned[:4], path, 1)
    path.write_text(path.read_text() + '{"problem": "cut o')
    runner.run_all(planned, path, 2)
    records = runner.load(path)
    assert len(records) == len(planned)
    report.write(records, tmp_path, None)
    written = (tmp_path / "results.md").read_text()
    assert "`aehost:any`" in written and ("✓" in written or "✗" in written)
    assert (tmp_path / "staged.svg").exists()
    json.dumps(records, allow_nan=False)

import gzip
import json
import random

import numpy as np
import pytest
from pymoo.problems import get_problem
from pymoo.problems.many.cdtlz import C2DTLZ2
from pymoo.problems.multi.mw import MW1, MW7

from benches.search import indicators, problems
from benches.search.problems import standard, tables
from benches.search.space import Space, choice, integer, real, technique

EVERY = problems.every()
STANDARD = [
    (standard.zdt1, get_problem("zdt1", n_var=6)), (standard.zdt2, get_problem("zdt2", n_var=6)),
    (standard.zdt3, get_problem("zdt3", n_var=6)), (standard.zdt4, get_problem("zdt4", n_var=5)),
    (standard.zdt6, get_problem("zdt6", n_var=6)), (standard.dtlz1, get_problem("dtlz1", n_var=5, n_obj=3)),
    (standard.dtlz2, get_problem("dtlz2", n_var=6, n_obj=3)), (standard.dtlz7, get_problem("dtlz7", n_var=5, n_obj=3)),
    (standard.c2_dtlz2, C2DTLZ2(n_var=6, n_obj=2)), (standard.mw1, MW1(n_var=4)), (standard.mw7, MW7(n_var=6)),
]


@pytest.mark.parametrize("ours, theirs", STANDARD, ids=lambda given: getattr(given, "__name__", ""))
def test_standard_problems_agree_with_pymoo(ours, theirs):
    points = theirs.xl + np.random.default_rng(0).random((20, theirs.n_var)) * (theirs.xu - theirs.xl)
    expected = np.hstack(theirs.evaluate(points, return_values_of=["F", "G"]))
    assert np.array([ours(list(point)) for point in points]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_found_lies_beyond_the_front(name):
    """Random configurations and small steps from the best of them; a sampled front has gaps, so a little may be gained."""
    problem, draw = EVERY[name], random.Random(3)
    space = problem.space
    parents = [space.draw(draw) for _ in range(300)]
    found = np.empty((0, len(problem.objectives)))
    for _ in range(8):
        known = parents + [changed(space, draw.choice(parents), draw) for _ in range(300)]
        truths = [problem.truth(configuration) for configuration in known]
        feasible = [i for i, truth in enumerate(truths) if problem.feasible(truth)]
        points = problem.in_units([problem.minimised(truths[i]) for i in feasible])
        found = np.vstack([found, points])
        parents = [known[feasible[i]] for i in indicators.nondominated(points)] if feasible else known[-300:]
    both = np.vstack([problem.in_units(problem.true_front), found])
    assert indicators.hypervolume(both, problem.reference) < 1.001 * problem.front_hypervolume


def changed(space, configuration, draw):
    """One variable differs."""
    raws = space.raws(configuration)
    variable = draw.choice(space.variables)
    return space.configuration(raws | {variable.name: variable.draw(draw)})


@pytest.mark.parametrize("name", EVERY)
def test_configurations_and_raw_values_are_the_same_thing(name):
    space, draw = EVERY[name].space, random.Random(5)
    for _ in range(50):
        configuration = space.draw(draw)
        assert space.configuration(space.raws(configuration)) == configuration
        assert space.objection(configuration) is None
    if not space.plain:
        assert space.configuration(space.raws([])) == []


def test_three_in_ten_random_configurations_have_no_metrics():
    problem, draw = EVERY["staged-failing"], random.Random(7)
    missing = sum(not problem.truth(problem.space.draw(draw)).values for _ in range(1000))
    assert 250 < missing < 350


def test_the_later_of_what_excludes_one_another_is_left_out():
    space = Space([technique("first", [], conflicts=["second"]), technique("second", []),
                   technique("third", [], requires=["tag"]), technique("early", [], "architecture", provides=["tag"])])
    configuration = [{"technique": name, "settings": []} for name in ("first", "second", "third")]
    assert [chosen["technique"] for chosen in space.repaired(configuration)] == ["first"]
    assert space.objection([{"technique": name, "settings": []} for name in ("third", "early")]) is None


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_table_is_looked_up(tmp_path, form):
    one = technique("round", [choice("bits", [4, 8], 8, ordered=True), real("clip", 0.5, 1.0, 1.0)])
    other = technique("window", [integer("size", 128, 1024, 512, step=128)])
    given = {"space": [one, other], "objectives": [{"metric": "latency", "direction": "minimize"},
                                                   {"metric": "accuracy", "direction": "maximize"}],
             "constraints": [{"metric": "memory", "at-most": True, "bound": 100.0}], "noise": False}
    rounded = [{"technique": "round", "settings": [{"name": "bits", "value": 4}, {"name": "clip", "value": 0.75}]}]
    both = [*rounded, {"technique": "window", "settings": [{"name": "size", "value": 256}]}]
    found = [([], (10.0, 0.5, 120.0)), (rounded, (6.0, 0.4, 80.0)), (both, "out of memory")]
    (tmp_path / "small.json").write_text(json.dumps(given))
    with gzip.open(tmp_path / f"small.{form}.gz", "wt") as file:
        file.write(lines(form, found))
    problem = tables.load(tmp_path / "small.json")
    assert problem.true_front.tolist() == [[6.0, -0.4]]
    assert problem.truth(both).reason == "out of memory"
    near = [{"technique": "round", "settings": [{"name": "bits", "value": 4}, {"name": "clip", "value": 0.8}]}]
    assert problem.truth(near).values == {"latency": 6.0, "accuracy": 0.4, "memory": 80.0}
    assert problem.may_fail and problem.noise is None
    (tmp_path / "small.json").write_text(json.dumps(given | {"noise": True}))
    assert tables.load(tmp_path / "small.json").truth(near).errors["latency"] == 0.1


def lines(form, found):
    names = ("latency", "accuracy", "memory")
    if form == "jsonl":
        outcomes = [{"failed": m} if isinstance(m, str) else {"metrics": {n: [value, 0.1] for n, value in zip(names, m)}}
                    for _, m in found]
        rows = [{"configuration": configuration, **outcome} for (configuration, _), outcome in zip(found, outcomes)]
        return "".join(json.dumps(row) + "\n" for row in rows)
    rows = [",".join(["configuration", *names, *(f"{name}.standard-error" for name in names), "failed"])]
    for configuration, m in found:
        cells = [""] * 6 + [m] if isinstance(m, str) else [*map(str, m), "0.1", "0.1", "0.1", ""]
        rows.append(",".join(['"' + json.dumps(configuration).replace('"', '""') + '"', *cells]))
    return "\n".join(rows) + "\n"

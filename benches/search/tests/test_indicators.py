import numpy as np
import pytest
from pymoo.indicators.hv import HV
from pymoo.indicators.igd_plus import IGDPlus
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from benches.search import indicators


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_indicators_agree_with_pymoo(objectives, seed):
    draw = np.random.default_rng(seed)
    points, front = draw.random((40, objectives)) * 1.3, draw.random((25, objectives))
    points[7] = points[3]
    reference = np.ones(objectives)
    assert indicators.hypervolume(points, reference) == pytest.approx(HV(ref_point=reference)(points), rel=1e-9)
    assert indicators.igd_plus(points, front) == pytest.approx(IGDPlus(front)(points), rel=1e-9)


def test_nondominated_agrees_with_pymoo():
    points = np.random.default_rng(1).random((200, 3))
    expected = NonDominatedSorting().do(points, only_non_dominated_front=True)
    assert set(indicators.nondominated(points)) == set(expected)


def test_of_equal_points_the_first_stays():
    assert list(indicators.nondominated(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))) == [0, 1]


def test_an_empty_set_is_worth_nothing():
    nothing = np.empty((0, 2))
    assert indicators.hypervolume(nothing, np.ones(2)) == 0.0
    assert indicators.igd_plus(nothing, np.ones((1, 2))) == float("inf")

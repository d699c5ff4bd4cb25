"""The field's test problems in closed form: ZDT (Zitzler, Deb, Thiele, 2000), DTLZ (Deb et al., 2005), C2-DTLZ2 (Jain and
Deb, 2014) and MW (Ma and Wang, 2019), with 4 to 6 variables, so that 30 to 120 measurements can get somewhere, and with
grids in the place of real numbers in two of them. Every variable's default is its largest value, far from the front.
"""

from math import atan2, cos, exp, pi, sin, sqrt

import numpy as np

from ..problem import Constraint, Objective, Problem
from ..space import Space, choice, integer, real, technique

TECHNIQUE = "point"
FINE = np.linspace(0.0, 1.0, 2001)
COARSE = np.linspace(0.0, 1.0, 41)


def zdt1(x):
    g = 1 + 9 * mean(x[1:])
    return x[0], g * (1 - sqrt(x[0] / g))


def zdt2(x):
    g = 1 + 9 * mean(x[1:])
    return x[0], g * (1 - (x[0] / g) ** 2)


def zdt3(x):
    g = 1 + 9 * mean(x[1:])
    return x[0], g * (1 - sqrt(x[0] / g) - x[0] / g * sin(10 * pi * x[0]))


def zdt4(x):
    g = 1 + 10 * len(x[1:]) + sum(v * v - 10 * cos(4 * pi * v) for v in x[1:])
    return x[0], g * (1 - sqrt(x[0] / g))


def zdt6(x):
    g = 1 + 9 * mean(x[1:]) ** 0.25
    first = 1 - exp(-4 * x[0]) * sin(6 * pi * x[0]) ** 6
    return first, g * (1 - (first / g) ** 2)


def dtlz1(x):
    g = 100 * (len(x[2:]) + sum((v - 0.5) ** 2 - cos(20 * pi * (v - 0.5)) for v in x[2:]))
    return 0.5 * x[0] * x[1] * (1 + g), 0.5 * x[0] * (1 - x[1]) * (1 + g), 0.5 * (1 - x[0]) * (1 + g)


def dtlz2(x, objectives=3):
    radius = 1 + sum((v - 0.5) ** 2 for v in x[objectives - 1:])
    return sphere(x[:objectives - 1], radius)


def sphere(angles, radius):
    points = []
    for angle in angles:
        points.append(radius * sin(angle * pi / 2))
        radius *= cos(angle * pi / 2)
    return radius, *reversed(points)


def dtlz7(x):
    g = 1 + 9 * mean(x[2:])
    h = 3 - sum(v / (1 + g) * (1 + sin(3 * pi * v)) for v in x[:2])
    return x[0], x[1], (1 + g) * h


def c2_dtlz2(x):
    first, second = dtlz2(x, objectives=2)
    return first, second, c2(first, second)


def c2(first, second, radius=0.2):
    at_the_ends = min((first - 1) ** 2 + second**2, (second - 1) ** 2 + first**2)
    in_the_middle = (first - sqrt(0.5)) ** 2 + (second - sqrt(0.5)) ** 2
    return min(at_the_ends, in_the_middle) - radius**2


def mw1(x):
    n = len(x)
    g = 1 + sum(1 - exp(-10 * (x[i] ** (n - 2) - 0.5 - i / (2 * n)) ** 2) for i in range(1, n))
    return mw1_at(x[0], g)


def mw1_at(first, g):
    second = g - 0.85 * first
    return first, second, first + second - 1 - 0.5 * sin(2 * pi * sqrt(2) * (second - first)) ** 8


def mw7(x):
    g = 1 + sum(2 * (x[i] + (x[i - 1] - 0.5) ** 2 - 1) ** 2 for i in range(1, len(x)))
    return mw7_at(x[0], g)


def mw7_at(share, g):
    first, second = g * share, g * sqrt(1 - share * share)
    wave = sin(4 * atan2(second, first))
    outer = g * g - (1.2 + 0.4 * wave**16) ** 2
    inner = (1.15 - 0.2 * wave**8) ** 2 - g * g
    return first, second, outer, inner


def mean(values):
    return sum(values) / len(values)


def reals(count, low=0.0, high=1.0):
    """The first variable is in [0, 1]."""
    return [real(f"x{i + 1}", 0.0 if i == 0 else low, 1.0 if i == 0 else high, 1.0 if i == 0 else high) for i in range(count)]


def plain(name, parameters, function, front, objectives=2, divide=1):
    """What the function gives after the objectives are constraints, at most 0."""
    def measure(settings):
        values = function([value / divide for value in settings[TECHNIQUE].values()])
        return {f"f{i + 1}" if i < objectives else f"c{i - objectives + 1}": value for i, value in enumerate(values)}

    names = list(measure({TECHNIQUE: {p["name"]: p["default"] for p in parameters}}))
    constraints = tuple(Constraint(metric, 0.0) for metric in names[objectives:])
    return Problem(name, Space([technique(TECHNIQUE, parameters)]), tuple(map(Objective, names[:objectives])), measure,
                   front, constraints)


def curve(function, zeros, first=FINE):
    """The front where all further variables are at their best value, by the first variable."""
    return lambda: np.array([function([v, *zeros]) for v in first])


def surface(function, rest, steps=COARSE):
    return lambda: np.array([function([a, b, *rest]) for a in steps for b in steps])


def dtlz1_front():
    return np.array([(a * b / 2, a * (1 - b) / 2, (1 - a) / 2) for a in COARSE for b in COARSE])


def c2_front():
    points = [sphere([v], 1.0) for v in FINE]
    return np.array([point for point in points if c2(*point) <= 0])


def feasible_of(function):
    """MW's constraints cut into the front of the unconstrained problem, so distances from it matter as well."""

    def front():
        points = (function(v, 1 + 0.6 * g) for v in np.linspace(0.0, 1.0, 801) for g in np.linspace(0.0, 1.0, 401))
        return np.array([point[:2] for point in points if max(point[2:]) <= 0])

    return front


def problems():
    grid = [integer(f"x{i + 1}", 0, 20, 20) for i in range(6)]
    levels = [round(0.125 * i, 3) for i in range(9)]
    choices = [choice(f"x{i + 1}", levels, 1.0, ordered=True) for i in range(6)]
    return [
        plain("zdt1", reals(6), zdt1, curve(zdt1, [0] * 5)),
        plain("zdt2", reals(6), zdt2, curve(zdt2, [0] * 5)),
        plain("zdt3", reals(6), zdt3, curve(zdt3, [0] * 5)),
        plain("zdt4", reals(5, -5.0, 5.0), zdt4, curve(zdt4, [0] * 4)),
        plain("zdt6", reals(6), zdt6, curve(zdt6, [0] * 5)),
        plain("zdt1-integers", grid, zdt1, curve(zdt1, [0] * 5, np.linspace(0.0, 1.0, 21)), divide=20),
        plain("dtlz2-choices", choices, dtlz2, surface(dtlz2, [0.5] * 4, levels), objectives=3),
        plain("dtlz1", reals(5), dtlz1, dtlz1_front, objectives=3),
        plain("dtlz2", reals(6), dtlz2, surface(dtlz2, [0.5] * 4), objectives=3),
        plain("dtlz7", reals(5), dtlz7, surface(dtlz7, [0] * 3, np.linspace(0.0, 1.0, 101)), objectives=3),
        plain("c2-dtlz2", reals(6), c2_dtlz2, c2_front),
        plain("mw1", reals(4), mw1, feasible_of(mw1_at)),
        plain("mw7", reals(6), mw7, feasible_of(mw7_at)),
    ]

"""How good a set of points is. All objectives are minimised here, and points are rows of an array.

- hypervolume: the volume between the points and the reference point;
- IGD+ (Ishibuchi et al., EMO 2015): from each point of the true front, how far the nearest point of the set lies behind
  it, in the mean; 0 is a perfect set;
- score: what a recommendation is made by, the augmented Chebyshev distance to the ideal point (Steuer and Choo, 1983).
"""

import numpy as np

AUGMENTATION = 0.05


def nondominated(points: np.ndarray) -> np.ndarray:
    """Indices of the points that no other dominates, ascending; of equal points the first."""
    left = np.arange(len(points))
    order = np.argsort(points.sum(axis=1), kind="stable")
    left = left[order]
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[(points[left] < points[best]).any(axis=1)]
    return np.array(sorted(kept), dtype=int)


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    return _volume(points[nondominated(points)], reference)


def _volume(points, reference) -> float:
    """Slices along the last objective: between two neighbours the volume of all that lie below, one dimension less."""
    if points.shape[1] == 2:
        return _area(points, reference)
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])
    front = points[:0, :-1]
    volume = slice_volume = 0.0
    for point, end in zip(points, ends):
        flat = point[:-1]
        if not (front <= flat).all(axis=1).any():
            front = np.vstack([front[(front < flat).any(axis=1)], flat])
            slice_volume = _volume(front, reference[:-1])
        volume += slice_volume * (end - point[-1])
    return float(volume)


def _area(points, reference) -> float:
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    ceilings = np.minimum.accumulate(np.append(reference[1], points[:, 1]))
    return float(((reference[0] - points[:, 0]) * (ceilings[:-1] - ceilings[1:])).sum())


def igd_plus(points: np.ndarray, front: np.ndarray) -> float:
    """Infinite for an empty set."""
    if not len(points):
        return float("inf")
    behind = np.maximum(points[None, :, :] - front[:, None, :], 0.0)
    return float(np.sqrt((behind**2).sum(axis=2)).min(axis=1).mean())


def score(points: np.ndarray) -> np.ndarray:
    """Of points in units of the true front: 0 is its ideal point, 1 its worst value of each objective. Less is better."""
    return points.max(axis=1) + AUGMENTATION * points.sum(axis=1)

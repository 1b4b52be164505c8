"""Correlations of a score with accuracy, for many subsets of the tasks at once.

Every statistic takes ``keep [r, t]``, r subsets of the t tasks, and returns r values: a delete-one
table is one call with a matrix instead of a loop. In float64 NumPy. A statistic of a score or an
accuracy that does not vary is undefined: NaN.
"""

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def pearson(x: np.ndarray, y: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Pearson's r of ``x [t]`` and ``y [t]`` in each subset ``keep [r, t]``."""
    return _pearson(np.broadcast_to(x, keep.shape), np.broadcast_to(y, keep.shape), keep)


def spearman(x: np.ndarray, y: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Spearman's rho: Pearson's r of the ranks within each subset, ties sharing their mean rank."""
    return _pearson(_ranks(x, keep), _ranks(y, keep), keep)


def kendall(x: np.ndarray, y: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Kendall's tau-b, which corrects for ties in both variables."""
    w = keep.astype(float)
    a, b = (np.sign(v[:, None] - v) for v in (x, y))

    def pairs(m):
        return np.einsum("rt,rt->r", w @ m, w)  # sum over the ordered pairs of each subset

    scale = np.sqrt(pairs(a * a) * pairs(b * b))
    return np.divide(pairs(a * b), scale, out=np.full(len(w), np.nan), where=scale > 0)


def partial_pearson(factor: np.ndarray) -> Statistic:
    """Pearson's r given a factor: ``x`` and ``y`` each about their mean at the level of the task.

    With the class count as factor it is the partial correlation given the number of classes; with
    the group (script, alphabet), the group-centred correlation. ``factor [t]`` is any labels.
    """
    _, level = np.unique(factor, return_inverse=True)
    member = np.eye(level.max() + 1)[level]  # [t, levels]

    def centred(v, keep):
        count = keep @ member
        mean = (keep * v) @ member / np.maximum(count, 1)
        return v - mean[:, level]

    def statistic(x, y, keep):
        # Centring leaves rounding noise where a variable varies only between levels.
        rx, ry = centred(x, keep), centred(y, keep)
        return _pearson(rx, ry, keep, reference=(np.abs(x).max(), np.abs(y).max()))

    return statistic


def _pearson(x, y, keep, reference=(0.0, 0.0)):
    """Rows of ``x [r, t]`` against rows of ``y [r, t]`` over ``keep [r, t]``."""
    w = keep / np.maximum(keep.sum(1, keepdims=True), 1)
    moments = []
    for v, size in ((x, reference[0]), (y, reference[1])):
        centred = v - np.sum(w * v, 1, keepdims=True)
        variance = np.sum(w * centred**2, 1)
        # Scores are float32: below this, variation is rounding.
        floor = (1e-6 * np.maximum(np.abs(v).max(1, initial=0), size)) ** 2
        moments.append((centred, np.where(variance > floor, variance, np.nan)))
    (x, vx), (y, vy) = moments
    return np.clip(np.sum(w * x * y, 1) / np.sqrt(vx * vy), -1, 1)


def _ranks(v, keep):
    below = (v[:, None] < v) + 0.5 * (v[:, None] == v)  # [j, i]: how far j pushes i up
    return keep.astype(float) @ below

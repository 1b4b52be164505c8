"""Whether a score says anything of the labels: the same under shuffled labels.

A permutation test with few permutations where few suffice: none but the first, which is shown, for
a score far above it; and no more once as many are ahead of it as leave nothing open (J. Besag,
P. Clifford, Sequential Monte Carlo p-values, Biometrika, 1991).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

MOST, ENOUGH = 199, 10  # shuffles; those that are ahead of the score
CLEAR = 2.5  # standard errors above nothing: by the jackknife, which is wide there


def shuffle(labels: np.ndarray, i: int = 0, groups: np.ndarray | None = None) -> np.ndarray:
    """The labels in the i-th other order, the same for every source.

    Whole groups change places, in which they keep their order: where they are of several sizes, one
    begins where the one before ends. ``groups [n]`` ascend.

    >>> print(shuffle(np.array([1, 1, 1, 2, 2, 3]), 3, np.array([0, 0, 0, 1, 1, 2])))
    [3 2 2 1 1 1]
    """
    rng = np.random.default_rng(i)
    if groups is None:
        return labels[rng.permutation(len(labels))]
    parts = np.split(labels, np.flatnonzero(np.diff(groups)) + 1)
    return np.concatenate([parts[j] for j in rng.permutation(len(parts))])


def shuffled_scores(
    value: float,
    error: float,
    first: float,
    score: Callable[[np.ndarray], float],
    labels: Any,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """``[s]`` scores under shuffled labels.

    Args:
      value: the score under ``labels [n, ...]``.
      error: its standard error.
      first: the score under ``shuffle(labels, 0, groups)``.
      score: of labels.
      labels: ``[n, ...]``.
      groups: ``[n]``, those that stay together.
    """
    found = [first]
    if value - first > CLEAR * error:
        return np.array(found)
    while len(found) < MOST and np.sum(np.array(found) >= _least(value)) < ENOUGH:
        found.append(score(shuffle(labels, len(found), groups)))
    return np.array(found)


def p_value(value: float, shuffled: np.ndarray) -> float:
    """Probability, by chance alone, of as high a score; 0 where it was clear without a test.

    >>> print(p_value(0.5, np.array([0.1, 0.6, 0.2])))
    0.5
    """
    if len(shuffled) == 1:
        return 0.0
    return float(1 + np.sum(shuffled >= _least(value))) / (1 + len(shuffled))


def _least(value: float) -> float:
    """What is as high as the value, but for rounding."""
    return value - 1e-9 - 1e-6 * abs(value)

"""Which of several scores is the largest, when all are estimated from the same samples.

Scores of m sources are taken for jointly normal about what they are: covariances say what another
draw of as many samples of the target would do to their order. Both are finite; float64 NumPy.
"""

from typing import NamedTuple

import numpy as np

DRAWS = 20_000  # a probability is then known to .004 (one standard error) or better
_SAME = 1e-6  # standard errors: scores nearer to each other are equal


class Paired(NamedTuple):
    """A difference of two scores of the same samples, and its standard error."""

    value: float
    standard_error: float


def paired(scores: np.ndarray, covariance: np.ndarray, i: int, j: int) -> Paired:
    """Score i less score j, of ``scores [m]`` with ``covariance [m, m]``.

    >>> covariance = np.array([[0.010, 0.009], [0.009, 0.010]])  # hard samples are hard for both
    >>> found = paired(np.array([-1.0, -1.2]), covariance, 0, 1)
    >>> print(f"{found.value:.2f} +- {found.standard_error:.3f}, alone {0.01**0.5:.3f} each")
    0.20 +- 0.045, alone 0.100 each
    """
    variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    return Paired(float(scores[i] - scores[j]), float(np.sqrt(np.maximum(variance, 0))))


def probability_best(scores: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """``[m]`` probability in [0, 1] that each is the largest; equals share it, so they sum to 1.

    >>> print(probability_best(np.array([0.3, 0.2, -5.0]), 0.01 * np.eye(3)).round(1))
    [0.8 0.2 0. ]
    """
    values, vectors = np.linalg.eigh(covariance)  # may be singular: twins, few samples
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = np.random.default_rng(0).standard_normal((DRAWS, len(scores)))
    drawn = scores + normal @ root.T
    tolerance = _SAME * float(np.sqrt(np.diag(covariance).max()))
    first = drawn >= drawn.max(1, keepdims=True) - tolerance
    return (first / first.sum(1, keepdims=True)).mean(0)


def smallest_set(p: np.ndarray, confidence: float) -> np.ndarray:
    """Indices, likeliest first, of the fewest that together have this probability.

    Equals of the last one come along: nothing tells them from it.

    >>> print(smallest_set(np.array([0.2, 0.75, 0.05]), confidence=0.9))
    [1 0]
    """
    order = np.argsort(-p, kind="stable")
    last = order[np.searchsorted(np.cumsum(p[order]), confidence - 1e-9)]
    return order[p[order] >= p[last] - 1e-9]

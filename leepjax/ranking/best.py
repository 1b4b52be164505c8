"""Which of several scores is the largest, when all are estimated from the same samples.

Scores of m sources are taken for jointly normal about what they are: covariances say what another
draw of as many samples of the target would do to their order. Both are finite; float64 NumPy.
"""

from typing import NamedTuple

import numpy as np

DRAWS = 20_000  # a probability is then known to .004 (one standard error) or better
# Standard errors of a score: nearer ones are equal. The same network saved as float16 or bfloat16
# differs from itself by up to 0.014, and other samples change that by as much (300 to 2,000
# samples, 64 to 512 features). Far less than what is not known of either, and seen in no accuracy.
_SAME = 0.05


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
    """``[m]`` probability in [0, 1] that each is the largest; they sum to 1.

    Scores that differ by less than a twentieth of the standard error share it.

    >>> print(probability_best(np.array([0.3, 0.2, -5.0]), 0.01 * np.eye(3)).round(1))
    [0.8 0.2 0. ]
    """
    values, vectors = np.linalg.eigh(covariance)  # may be singular: twins, few samples
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = np.random.default_rng(0).standard_normal((DRAWS, len(scores)))
    drawn = scores + normal @ root.T
    tolerance = _SAME * np.sqrt(np.diag(covariance))[drawn.argmax(1)]
    first = drawn >= (drawn.max(1) - tolerance)[:, None]
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

"""Which of several scores is the largest, when all are estimated from the same samples.

Scores of m sources are taken for jointly normal about what they are: covariances say what another
draw of as many samples of the target would do to their order. Both are finite; float64 NumPy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 20_000  # a probability is then known to .004 (one standard error) or better
# Standard errors of a score: nearer ones are equal. The same network saved as float16 or bfloat16
# differs from itself by up to 0.014, and other samples change that by as much (300 to 2,000
# samples, 64 to 512 features). Far less than what is not known of either, and seen in no accuracy.
_SAME = 0.05
ALL = 500  # of so many sources all covariances are kept: each pair has an interval
# Standard errors of a difference: a source so far behind is best with a probability below 1e-9.
_FAR = 6.0
_BLOCK = 1000  # draws at once, so that memory grows with the sources alone


class Spread(NamedTuple):
    """What is kept of the covariances of m scores.

    Attributes:
      covariance: ``[m, k]`` of every score with those that lead; NaN where one has no deviations.
      leading: ``[k]`` indices of those that could be the largest; None: all, as of up to 500.
      variance: ``[m]``; None: the diagonal.
    """

    covariance: np.ndarray
    leading: np.ndarray | None
    variance: np.ndarray | None


def covariances(scores: np.ndarray, deviations: Sequence[np.ndarray | None]) -> Spread:
    """Covariances of ``scores [m]`` by deviations of equal length, whose products sum to them.

    Memory is that of the deviations and of ``m k`` numbers.
    """
    m = len(scores)
    has = np.array([i for i, u in enumerate(deviations) if u is not None], int)
    leading, variance = np.arange(m if m <= ALL else 0), np.full(m, np.nan)
    covariance = np.full((m, len(leading)), np.nan)
    if len(has):
        # Twins differ by less than float32 says.
        u = np.stack([u for u in deviations if u is not None]).astype(float)
        variance[has] = np.einsum("ij,ij->i", u, u)
        if m > ALL:
            leading = has[_could_be_best(scores[has], variance[has], u)]
            covariance = np.full((m, len(leading)), np.nan)
        led = np.flatnonzero(np.isin(leading, has))
        covariance[has[:, None], led] = u @ u[np.isin(has, leading)].T
    return Spread(covariance, None, None) if m <= ALL else Spread(covariance, leading, variance)


def _could_be_best(scores: np.ndarray, variance: np.ndarray, u: np.ndarray) -> np.ndarray:
    """``[m]`` bool: within six standard errors of the best, or so near that they count as equal."""
    best = int(np.argmax(scores))
    away = np.sqrt(np.maximum(variance + variance[best] - 2 * (u @ u[best]), 0))
    return scores[best] - scores <= _FAR * away + _SAME * np.sqrt(variance)


class Paired(NamedTuple):
    """A difference of two scores of the same samples, and its standard error."""

    value: float
    standard_error: float


def less(scores: np.ndarray, variance: np.ndarray, with_j: np.ndarray, j: int) -> list[Paired]:
    """Each of ``scores [m]`` less score j, by their variances and covariances ``[m]`` with it.

    >>> variance, with_second = np.array([0.010, 0.010]), np.array([0.009, 0.010])
    >>> found = less(np.array([-1.0, -1.2]), variance, with_second, 1)[0]  # hard samples are shared
    >>> print(f"{found.value:.2f} +- {found.standard_error:.3f}, alone {0.01**0.5:.3f} each")
    0.20 +- 0.045, alone 0.100 each
    """
    error = np.sqrt(np.maximum(variance + variance[j] - 2 * with_j, 0))
    return [Paired(float(x), float(e)) for x, e in zip(scores - scores[j], error, strict=True)]


def probability_best(scores: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """``[m]`` probability in [0, 1] that each is the largest; they sum to 1.

    Scores that differ by less than a twentieth of the standard error share it.

    >>> print(probability_best(np.array([0.3, 0.2, -5.0]), 0.01 * np.eye(3)).round(1))
    [0.8 0.2 0. ]
    """
    values, vectors = np.linalg.eigh(covariance)  # may be singular: twins, few samples
    root = vectors * np.sqrt(np.maximum(values, 0))
    rng, errors, p = np.random.default_rng(0), np.sqrt(np.diag(covariance)), np.zeros(len(scores))
    for _ in range(DRAWS // _BLOCK):
        drawn = scores + rng.standard_normal((_BLOCK, len(scores))) @ root.T
        tolerance = _SAME * errors[drawn.argmax(1)]
        first = drawn >= (drawn.max(1) - tolerance)[:, None]
        p += (first / first.sum(1, keepdims=True)).sum(0)
    return p / DRAWS


def smallest_set(p: np.ndarray, confidence: float) -> np.ndarray:
    """Indices, likeliest first, of the fewest that together have this probability.

    Equals of the last one come along: nothing tells them from it.

    >>> print(smallest_set(np.array([0.2, 0.75, 0.05]), confidence=0.9))
    [1 0]
    """
    order = np.argsort(-p, kind="stable")
    last = order[np.searchsorted(np.cumsum(p[order]), confidence - 1e-9)]
    return order[p[order] >= p[last] - 1e-9]

"""Which of several scores is the largest, when all are estimated from the same samples.

Scores of m sources are taken for jointly normal about what they are, with the covariance of their
infinitesimal jackknife (``leepjax.metrics.uncertainty``): what another draw of as many samples of
the target would do to their order. Scores and covariance are finite; float64 NumPy.
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


def in_top(scores: np.ndarray, covariance: np.ndarray, k: int) -> np.ndarray:
    """``[m]`` probability in [0, 1] that each is among the k largest; of equals all are.

    >>> print(in_top(np.array([0.3, 0.2, -5.0]), 0.01 * np.eye(3), k=1).round(1))
    [0.8 0.2 0. ]
    """
    drawn, tolerance = _draws(scores, covariance)
    k = min(k, len(scores))
    bar = np.partition(drawn, len(scores) - k, 1)[:, len(scores) - k]
    return (drawn >= bar[:, None] - tolerance).mean(0)


def best_among(scores: np.ndarray, covariance: np.ndarray, chosen: np.ndarray) -> float:
    """Probability in [0, 1] that the largest of all is one of ``chosen [m] bool``.

    >>> chosen = np.array([True, True, False])
    >>> print(f"{best_among(np.array([0.3, 0.2, 0.1]), 0.01 * np.eye(3), chosen):.2f}")
    0.95
    """
    if not chosen.any():
        return 0.0
    drawn, tolerance = _draws(scores, covariance)
    return float((drawn[:, chosen].max(1) >= drawn.max(1) - tolerance).mean())


def _draws(scores: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, float]:
    """``[DRAWS, m]``, the same at every call, and how far apart equals may be."""
    eigenvalues, vectors = np.linalg.eigh(covariance)  # may be singular: twins, few samples
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    normal = np.random.default_rng(0).standard_normal((DRAWS, len(scores)))
    return scores + normal @ root.T, _SAME * float(np.sqrt(np.diag(covariance).max()))

"""What a linear head says of samples that it has not seen, and how sure that is: what decides.

The fit and its penalties are those of ``leepjax.metrics.linear_probe`` and ``predictive_r2``, to
any columns; here in float64 NumPy, which compiles nothing for each source's shape, and with the
deviations that the scores of several sources are compared by.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from leepjax.ranking import by_group
from leepjax.ranking.shuffles import shuffle, shuffled_scores

PENALTIES = 10.0 ** (np.arange(4, -9, -1) / 2)  # of which the largest wins a tie
TIE = 1e-5  # scores of two classes that differ by no more are equal


class HeldOut(NamedTuple):
    """A linear head, each sample judged by the fit to all others, or to those of other groups.

    Attributes:
      r2: as ``predictive_r2``.
      accuracy: as ``linear_probe``; of several labels the mean over them; of numbers NaN.
      deviations: ``[n]``, or one a group, whose products, summed, are (co)variances of ``r2`` over
        other samples or groups.
      shuffled_r2: ``[s]`` as ``shuffled_scores``.
      shuffled_accuracy: under the first of them.
    """

    r2: float
    accuracy: float
    deviations: np.ndarray
    shuffled_r2: np.ndarray
    shuffled_accuracy: float


def held_out(
    features: np.ndarray, columns: np.ndarray, kind: str = "class", groups: np.ndarray | None = None
) -> HeldOut:
    """Judge ``features [n, d]`` by ``columns [n, t]``: one-hot classes, 0 and 1, or numbers.

    Args:
      features: of n >= 3 samples.
      columns: what is predicted; of several numbers the unit of each is its weight.
      kind: what the columns are, as ``targets.KINDS``.
      groups: ``[n]`` ascending from 0: whole groups are left out, at least three.
    """
    basis = _basis(np.asarray(features, float))

    def judged(columns: np.ndarray) -> tuple[float, _Fit]:
        fit = _fit(basis, columns, kind, groups)
        spread = _spread(columns) if groups is None else by_group.spread(columns, groups)
        return 1 - fit.error.sum() / spread, fit

    r2, fit = judged(columns)
    deviations = _deviations(basis, fit, columns, groups)
    nothing, first = judged(shuffle(columns, 0, groups))
    shuffled = shuffled_scores(
        r2,
        np.sqrt(np.sum(deviations**2)),
        nothing,
        lambda others: judged(others)[0],
        columns,
        groups,
    )
    return HeldOut(r2, fit.accuracy, deviations, shuffled, first.accuracy)


def accuracy(
    features: np.ndarray, columns: np.ndarray, kind: str, groups: np.ndarray | None = None
) -> float:
    """``HeldOut.accuracy`` alone; arguments as of :func:`held_out`."""
    return _fit(_basis(np.asarray(features, float)), columns, kind, groups).accuracy


class _Basis(NamedTuple):
    left: np.ndarray  # [n, r] singular vectors of the centred features
    values: np.ndarray  # [r] their squared singular values


class _Fit(NamedTuple):
    kept: np.ndarray  # [r] share of each direction that the penalty leaves
    residual: np.ndarray  # [n, t] of samples left out
    error: np.ndarray  # [n] their squares, summed
    accuracy: float
    room: by_group.Room  # 1 - H_ii, of the hat matrix H; of groups 1 - H_gg


def _basis(features):
    centred = features - features.mean(0)
    size = np.abs(centred).max(initial=0)
    centred = centred / (size if size > 0 else 1)
    n, d = centred.shape
    values, vectors = np.linalg.eigh(centred @ centred.T if n <= d else centred.T @ centred)
    most = min(n - 1, d)
    values, vectors = values[len(values) - most :], vectors[:, vectors.shape[1] - most :]
    kept = values > max(1e-6 * values.max(initial=0), 0)
    values, vectors = values[kept], vectors[:, kept]
    return _Basis(vectors if n <= d else centred @ vectors / np.sqrt(values), values)


def _fit(basis, columns, kind="class", groups=None):
    """The penalty of least error. Residuals left out are R_i / (1 - H_ii)."""
    left, values = basis
    target = columns - columns.mean(0)
    projected = left.T @ target
    # At rank n - 1 this vanishes, and must not be what rounding leaves of it.
    spare = len(values) < len(left) - 1
    outside = target - left @ projected if spare else 0.0
    mean = values.mean() if len(values) else 1.0
    room_of = (
        partial(_single, left, spare) if groups is None else by_group.rooms(left, spare, groups)
    )

    def judged(relative):
        taken = relative * mean / (relative * mean + values)
        room = room_of(taken)
        residual = room(outside + left @ (taken[:, None] * projected))
        accuracy = _accuracy(columns, columns - residual, kind)
        return _Fit(1 - taken, residual, np.sum(residual**2, 1), accuracy, room)

    return min(map(judged, PENALTIES), key=lambda fit: fit.error.sum())  # the first of equals


def _single(left, spare, taken):
    """Division by 1 - H_ii."""
    square = left**2
    free = np.maximum(1 - 1 / len(left) - square.sum(1), 0) if spare else 0.0
    room = free + square @ taken
    room = np.where(room > 0, room, 1)[:, None]
    return lambda x: x / room


def _accuracy(own, score, kind):
    if kind == "class":
        rivals = np.where(own > 0, -np.inf, score).max(1)
        return float(np.mean(score[own > 0] > rivals + TIE))
    if kind == "multilabel":  # of two classes, yes and no, the scores are s and 1 - s
        return float(np.mean((2 * own - 1) * (2 * score - 1) > TIE))
    return np.nan


def _deviations(basis, fit, columns, groups):
    """``[n]``: delete-one jackknife of the R² of samples left out; ``[g]`` of groups.

    Left-out errors share their training set, so that their own spread is too small a standard
    error. With sample i deleted too, the residual of j is, exactly,

        ((1 - H_ii) R_j + H_ij R_i) / ((1 - H_ii) (1 - H_jj) - H_ij^2),

    R those of the fit to all. Its square, to the second order in H_ij, sums over j to products of
    H with vectors: no matrix [n, n].
    """
    n, left, error = len(columns), basis.left, fit.error
    root = np.hstack([np.full((n, 1), n**-0.5), left * np.sqrt(fit.kept)])  # H = root root'
    if groups is not None:
        return by_group.deviations(root, fit.residual, fit.room, columns, groups)
    hat, room = np.sum(root**2, 1), 1 / fit.room(np.ones((n, 1)))[:, 0]

    def squares(b):  # sum_j H_ij^2 b_j over j other than i
        return np.sum(root @ (root.T @ (b[:, None] * root)) * root, 1) - hat**2 * b

    along = root @ (root.T @ (fit.residual / room[:, None]))  # sum_j H_ij E_j / (1 - H_jj)
    others = error.sum() - error + 2 * (np.sum(fit.residual * along, 1) - hat / room * error)
    others += error * squares(room**-2.0) + 2 / room * squares(error / room)
    # of 1 - error / total, linear in what deleting i does to both
    total, less = _spread(columns) / n, _spread_without(columns) / (n - 1)
    change = (others / (n - 1) - error.mean()) / total + error.mean() * (total - less) / total**2
    return (change - change.mean()) * np.sqrt((n - 1) / n)


def _spread(columns):
    """Squared error of the columns, summed, each sample predicted by the mean of the others."""
    n = len(columns)
    return (n / (n - 1)) ** 2 * np.sum((columns - columns.mean(0)) ** 2)


def _spread_without(columns):
    """``[n]``: that of all samples but one."""
    n = len(columns)
    away = np.sum((columns - columns.mean(0)) ** 2, 1)
    return ((n - 1) / (n - 2)) ** 2 * (away.sum() - n / (n - 1) * away)

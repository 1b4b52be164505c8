"""What a linear head says of samples that it has not seen, and how sure that is: what decides.

The fit and its penalties are those of ``leepjax.metrics.linear_probe`` and ``predictive_r2``; here
in float64 NumPy, which compiles nothing for each source's shape, and with the deviations that the
scores of several sources are compared by.
"""

from typing import NamedTuple

import numpy as np

from leepjax.ranking.shuffles import shuffle, shuffled_scores

PENALTIES = 10.0 ** (np.arange(4, -9, -1) / 2)  # of which the largest wins a tie
TIE = 1e-5  # scores of two classes that differ by no more are equal


class HeldOut(NamedTuple):
    """A linear head, each sample judged by the fit to all others.

    Attributes:
      r2: as ``predictive_r2``.
      accuracy: as ``linear_probe``.
      deviations: ``[n]`` whose products, summed, are (co)variances of ``r2`` over other samples.
      shuffled_r2: ``[s]`` as ``shuffled_scores``.
      shuffled_accuracy: under the first of them.
    """

    r2: float
    accuracy: float
    deviations: np.ndarray
    shuffled_r2: np.ndarray
    shuffled_accuracy: float


def held_out(features: np.ndarray, labels: np.ndarray) -> HeldOut:
    """Judge ``features [n, d]`` by ``labels [n]``, each of 0..c-1 there; n >= 3, c >= 2."""
    basis = _basis(np.asarray(features, float))
    fit = _fit(basis, labels)
    total = _spread(np.bincount(labels))
    r2, deviations = 1 - fit.error.mean() / total, _deviations(basis, fit, labels)
    first, error = _fit(basis, shuffle(labels)), np.sqrt(np.sum(deviations**2))
    shuffled = shuffled_scores(
        r2,
        error,
        1 - first.error.mean() / total,
        lambda others: 1 - _fit(basis, others).error.mean() / total,
        labels,
    )
    return HeldOut(r2, fit.accuracy, deviations, shuffled, first.accuracy)


class _Basis(NamedTuple):
    left: np.ndarray  # [n, r] singular vectors of the centred features
    values: np.ndarray  # [r] their squared singular values


class _Fit(NamedTuple):
    kept: np.ndarray  # [r] share of each direction that the penalty leaves
    room: np.ndarray  # [n] 1 - H_ii, of the hat matrix H
    residual: np.ndarray  # [n, c] of samples left out
    error: np.ndarray  # [n] their squares, summed
    accuracy: float


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


def _fit(basis, labels):
    """The penalty of least error. Residuals left out are R_i / (1 - H_ii)."""
    left, values = basis
    n, own = len(labels), np.eye(labels.max() + 1)[labels]
    target = own - own.mean(0)
    projected, square = left.T @ target, left**2
    # At rank n - 1 both vanish, and must not be what rounding leaves of them.
    spare = len(values) < n - 1
    outside = target - left @ projected if spare else 0.0
    free = np.maximum(1 - 1 / n - square.sum(1), 0) if spare else 0.0
    mean = values.mean() if len(values) else 1.0

    def judged(relative):
        taken = relative * mean / (relative * mean + values)
        room = free + square @ taken
        room = np.where(room > 0, room, 1)
        residual = (outside + left @ (taken[:, None] * projected)) / room[:, None]
        score = own - residual
        rivals = np.where(own > 0, -np.inf, score).max(1)
        accuracy = float(np.mean(score[own > 0] > rivals + TIE))
        return _Fit(1 - taken, room, residual, np.sum(residual**2, 1), accuracy)

    return min(map(judged, PENALTIES), key=lambda fit: fit.error.sum())  # the first of equals


def _deviations(basis, fit, labels):
    """``[n]``: delete-one jackknife of the R² of samples left out.

    Left-out errors share their training set, so that their own spread is too small a standard
    error. With sample i deleted too, the residual of j is, exactly,

        ((1 - H_ii) R_j + H_ij R_i) / ((1 - H_ii) (1 - H_jj) - H_ij^2),

    R those of the fit to all. Its square, to the second order in H_ij, sums over j to products of
    H with vectors: no matrix [n, n].
    """
    n, (left, _), room, error = len(labels), basis, fit.room, fit.error
    root = np.hstack([np.full((n, 1), n**-0.5), left * np.sqrt(fit.kept)])  # H = root root'
    hat = np.sum(root**2, 1)

    def squares(b):  # sum_j H_ij^2 b_j over j other than i
        return np.sum(root @ (root.T @ (b[:, None] * root)) * root, 1) - hat**2 * b

    along = root @ (root.T @ (fit.residual / room[:, None]))  # sum_j H_ij E_j / (1 - H_jj)
    others = error.sum() - error + 2 * (np.sum(fit.residual * along, 1) - hat / room * error)
    others += error * squares(room**-2.0) + 2 / room * squares(error / room)
    counts = np.bincount(labels)
    total, every = _spread(counts), np.eye(len(counts), dtype=int)
    less = np.array([_spread(counts - one) for one in every])[labels]
    # of 1 - error / total, linear in what deleting i does to both
    change = (others / (n - 1) - error.mean()) / total + error.mean() * (total - less) / total**2
    return (change - change.mean()) * np.sqrt((n - 1) / n)


def _spread(counts):
    """Mean squared error of one-hot labels, predicted by the class shares of the others."""
    n = counts.sum()
    return (n / (n - 1)) ** 2 * (1 - np.sum((counts / n) ** 2))

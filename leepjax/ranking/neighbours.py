"""Nearest neighbours for several labels, for numbers, and among other groups; float64 NumPy.

As ``leepjax.metrics.knn``, which is that of one class: neighbours are looked for once, and say of
any labels what the nearest others have.
"""

from typing import NamedTuple

import numpy as np

K, BLOCK = 5, 1024  # neighbours; rows of similarities held at once


class Nearest(NamedTuple):
    """Neighbours of each sample, nearest first.

    Attributes:
      rows: ``[n, k]`` indices.
      there: ``[n, k]`` bool; false where fewer than k samples are in other groups.
    """

    rows: np.ndarray
    there: np.ndarray


def nearest(features: np.ndarray, groups: np.ndarray | None = None, k: int = K) -> Nearest:
    """The k nearest by cosine similarity, of other groups where ``groups [n]`` are given."""
    unit = np.asarray(features, float)
    groups = np.arange(len(unit)) if groups is None else groups
    for norm in (np.inf, 2):  # by the largest entry first, whose square may be too large
        size = np.linalg.norm(unit, norm, axis=1, keepdims=True)
        unit = unit / np.where(size > 0, size, 1)
    zero = size[:, 0] == 0
    u = unit - unit.mean(0)  # directions that are nearly the same are told apart
    half, k = np.sum(u**2, 1) / 2, min(k, len(u) - 1)
    rows, there = [], []
    for start in range(0, len(u), BLOCK):
        part = slice(start, start + BLOCK)
        similarity = u[part] @ u.T - half - half[part, None]
        similarity[zero[part, None] | zero] = -1
        similarity[groups[part, None] == groups] = -np.inf
        first = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(similarity, first, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows.append(np.take_along_axis(first, order, 1))
        there.append(np.take_along_axis(values, order, 1) > -np.inf)
    return Nearest(np.concatenate(rows), np.concatenate(there))


def predict(found: Nearest, labels: np.ndarray, kind: str) -> np.ndarray:
    """What the neighbours say: ``[n]`` the class of most, of ties that of the nearest; or columns.

    Each of several labels ``[n, t]`` is decided the same way; numbers are the mean.
    """
    if kind == "multilabel":
        return np.stack([predict(found, column, "class") for column in labels.T], 1)
    if kind == "regression":
        return np.mean(labels[found.rows], 1, where=found.there[:, :, None])
    n, k = found.rows.shape
    votes = np.zeros((n, labels.max() + 1), int)
    for place in range(k):  # a vote outweighs all places; of equals the nearest voter's wins
        here = np.flatnonzero(found.there[:, place])
        voted = labels[found.rows[here, place]]
        nearer = np.where(votes[here, voted] == 0, k - place, 0)
        votes[here, voted] += k + 1 + nearer
    return np.argmax(votes, 1)


def judge(found: Nearest, labels: np.ndarray, kind: str, spread: float) -> float:
    """The share of labels that neighbours say right; of numbers 1 - squared error / ``spread``."""
    said = predict(found, labels, kind)
    if kind == "regression":
        return float(1 - np.sum((labels - said) ** 2) / spread)
    return float(np.mean(said == labels))

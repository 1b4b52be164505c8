"""Tasks in levels of a score: what the tasks of each level do on average, with intervals."""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student


class Level(NamedTuple):
    """Tasks whose scores are next to each other.

    Attributes:
      scores: the lowest and the highest score of these tasks.
      tasks: how many there are.
      mean: ``[e]`` mean of their values.
      low: ``[e]`` lower end of its 95 % interval; NaN where fewer than three clusters say anything.
      high: ``[e]`` upper end.
    """

    scores: tuple[float, float]
    tasks: int
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def in_levels(
    score: np.ndarray, values: np.ndarray, membership: np.ndarray, *, levels: int = 5
) -> list[Level]:
    """Mean values of the tasks in levels of as many tasks each, lowest scores first.

    The interval is that of a mean over tasks that share clusters, by the delete-one-cluster
    jackknife: V = (g - 1)/g sum_c (m_(-c) - mean)^2 over the g clusters of a level, m +- t_{g-1}
    sqrt(V). It errs on the wide side where a task belongs to several clusters.

    Args:
      score: ``[t]``.
      values: ``[t, e]``, such as accuracies after each of e epochs.
      membership: ``[t, g]`` bool, the clusters (target classes, groups) of each task.
      levels: how many.

    Raises:
      ValueError: lengths differ, there are fewer tasks than levels, or values are not finite.
    """
    score, values = np.asarray(score, float), np.asarray(values, float)
    membership = np.asarray(membership, bool)
    for name, array in (("values", values), ("membership", membership)):
        if array.ndim != 2 or len(array) != len(score):
            raise ValueError(
                f"{name}: wanted shape [{len(score)}, ...] like score, got {list(array.shape)}"
            )
    if not np.isfinite(score).all() or not np.isfinite(values).all():
        raise ValueError("values: wanted finite scores and values of every task")
    if not 1 <= levels <= len(score):
        raise ValueError(f"levels: wanted 1 to {len(score)}, the number of tasks, got {levels}")
    parts = np.array_split(np.argsort(score, kind="stable"), levels)
    return [_level(score[rows], values[rows], membership[rows]) for rows in parts]


def _level(score: np.ndarray, values: np.ndarray, membership: np.ndarray) -> Level:
    mean = values.mean(0)
    kept = ~membership[:, membership.any(0)]
    kept = kept[:, kept.any(0)]  # a cluster that every task belongs to cannot be left out
    g = kept.shape[1]
    half = np.full_like(mean, np.nan)
    if g >= 3:
        deleted = kept.T @ values / kept.sum(0)[:, None]
        variance = (g - 1) / g * np.sum((deleted - deleted.mean(0)) ** 2, 0)
        half = student.ppf(0.975, g - 1) * np.sqrt(variance)
    return Level((score.min(), score.max()), len(score), mean, mean - half, mean + half)

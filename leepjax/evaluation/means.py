"""Means over tasks that share clusters, with 95 % intervals: of all tasks, or by level of a score.

Tasks that share classes or groups are not independent. So the interval leaves out one cluster at a
time, with all tasks that belong to it (the delete-one-cluster jackknife):

    V = (g - 1)/g sum_c (m_(-c) - mean_c m_(-c))^2,    m +- t_{g-1} sqrt(V),    g clusters

Where every task is a cluster of its own this is Student's interval. Where a task belongs to k
clusters its own noise is counted about (g - 1) k / (g - k) times, so that the interval is wide
rather than narrow.

A mean of correlations is not of this kind. It is bounded by -1 and 1, and its rows are often
crossed (models by targets): :func:`leepjax.evaluation.jackknife` works on Fisher's z.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from leepjax.evaluation.interval import Estimate


class Level(NamedTuple):
    """Tasks whose scores are next to each other.

    Attributes:
      scores: the lowest and the highest score of these tasks.
      tasks: how many there are.
      mean: ``[e]`` mean of their values.
      low: ``[e]`` lower end of its 95 % interval; NaN with fewer than three clusters.
      high: ``[e]`` upper end.
    """

    scores: tuple[float, float]
    tasks: int
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(values: np.ndarray, membership: np.ndarray | None) -> Estimate:
    """Mean over tasks with a 95 % interval for other tasks, clustered on what the tasks share.

    Args:
      values: ``[t]`` of t tasks, in any unit; or ``[t, e]``, such as accuracies after each of e
        epochs.
      membership: ``[t, g]`` bool, the clusters (target classes, groups) of each task, as of
        :func:`leepjax.evaluation.task_membership`; None: every task is its own cluster, independent
        of the others. A cluster of no task or of all tasks does not count.

    Returns:
      value, low and high, in the unit of the values: numbers, or ``[e]``. The ends are NaN with
      fewer than three clusters.

    Raises:
      ValueError: shapes do not go together, or values are not finite; it names the argument.

    >>> print(mean(np.array([0.0, 1.0, 2.0]), None))
    Estimate(value=1.0, low=-1.484..., high=3.484...)

    Source: Cameron, Miller, A practitioner's guide to cluster-robust inference, Journal of Human
    Resources 2015, for the jackknife over clusters and t with g - 1 degrees of freedom.
    """
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or not len(values):
        raise ValueError(f"values: wanted shape [t] or [t, e], got {list(values.shape)}")
    membership = np.asarray(np.eye(len(values)) if membership is None else membership, bool)
    if membership.ndim != 2 or len(membership) != len(values):
        raise ValueError(
            f"membership: wanted shape [{len(values)}, g], one row per task like values, got "
            f"{list(membership.shape)}"
        )
    if not np.isfinite(values).all():
        raise ValueError("values: wanted finite numbers; leave tasks that failed out first")
    value: Any = values.mean(0)
    kept = ~membership[:, membership.any(0)]
    kept = kept[:, kept.any(0)]  # a cluster that every task belongs to cannot be left out
    g = kept.shape[1]
    half: Any = np.full_like(value, np.nan)
    if g >= 3:
        deleted = (kept.T @ values).T / kept.sum(0)
        away = deleted - deleted.mean(-1, keepdims=True)
        half = student.ppf(0.975, g - 1) * np.sqrt((g - 1) / g * np.sum(away**2, -1))
    ends = value, value - half, value + half
    return Estimate(*ends) if values.ndim == 2 else Estimate(*map(float, ends))


def in_levels(
    score: np.ndarray, values: np.ndarray, membership: np.ndarray, *, levels: int = 5
) -> list[Level]:
    """Means, as of :func:`mean`, of the tasks in levels of a score: as many tasks in each.

    Args:
      score: ``[t]``.
      values: ``[t, e]``, such as accuracies after each of e epochs.
      membership: ``[t, g]`` bool, the clusters (target classes, groups) of each task.
      levels: how many; the lowest scores come first.

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
    if not np.isfinite(score).all():
        raise ValueError("score: wanted finite numbers of every task")
    if not 1 <= levels <= len(score):
        raise ValueError(f"levels: wanted 1 to {len(score)}, the number of tasks, got {levels}")
    parts = np.array_split(np.argsort(score, kind="stable"), levels)
    return [
        Level(
            (score[rows].min(), score[rows].max()),
            len(rows),
            *map(np.asarray, mean(values[rows], membership[rows])),
        )
        for rows in parts
    ]

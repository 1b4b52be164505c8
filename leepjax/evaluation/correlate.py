"""The finding of a study: how each score goes with accuracy, and how much of that is its own."""

from typing import NamedTuple

import numpy as np

from leepjax.evaluation.correlation import (
    Statistic,
    kendall,
    partial_pearson,
    pearson,
    spearman,
)
from leepjax.evaluation.interval import Estimate, jackknife

NULLS = ("neg_label_entropy", "knn")  # what looks at no model, and what needs no theory


class Correlation(NamedTuple):
    """How one score goes with accuracy over the tasks of a study.

    Attributes:
      score: its name.
      estimates: by statistic: ``pearson``, ``spearman``, ``kendall``; ``pearson|num_classes`` where
        tasks differ in their class counts; ``pearson|group`` where they come from several groups.
      without_class: ``[C]`` Pearson's r with all tasks that contain a class left out.
    """

    score: str
    estimates: dict[str, Estimate]
    without_class: np.ndarray


def correlate(
    scores: dict[str, np.ndarray],
    accuracy: np.ndarray,
    *,
    classes: np.ndarray,
    groups: np.ndarray,
    num_bank_classes: int,
) -> list[Correlation]:
    """Correlations of all scores with accuracy, with intervals that cluster on target classes.

    Args:
      scores: ``{name: [t]}``.
      accuracy: ``[t]``.
      classes: ``[t, k]`` class ids of each task, padded with -1.
      groups: ``[t]`` group of each task.
      num_bank_classes: number C of classes that tasks were drawn from.

    Raises:
      ValueError: a score has another length, or an accuracy or score is not finite.
    """
    for name, values in {"accuracy": accuracy, **scores}.items():
        if np.shape(values) != (len(classes),) or not np.isfinite(values).all():
            raise ValueError(f"{name}: wanted {len(classes)} finite numbers, one per task")
    membership = np.zeros((len(classes), num_bank_classes), bool)
    for task, row in zip(membership, classes, strict=True):
        task[row[row >= 0]] = True
    statistics: dict[str, Statistic] = {
        "pearson": pearson,
        "spearman": spearman,
        "kendall": kendall,
    }
    counts = membership.sum(1)
    if len(set(counts.tolist())) > 1:
        statistics["pearson|num_classes"] = partial_pearson(counts)
    if len(set(np.asarray(groups).tolist())) > 1:
        statistics["pearson|group"] = partial_pearson(groups)
    used = membership.any(0)
    table = []
    for name, values in scores.items():
        both = {
            label: jackknife(statistic, _steady(values), accuracy, membership[:, used])
            for label, statistic in statistics.items()
        }
        without = np.full(num_bank_classes, np.nan)
        without[used] = both["pearson"][1]
        table.append(Correlation(name, {k: v[0] for k, v in both.items()}, without))
    return table


def _steady(values: np.ndarray) -> np.ndarray:
    """A score that varies by rounding alone does not vary: its ranks mean nothing."""
    values = np.asarray(values, float)
    return np.full_like(values, values[0]) if np.ptp(values) <= 1e-6 * abs(values).max() else values

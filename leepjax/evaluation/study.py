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

# What looks at no model, what needs no theory, and, over models, what looks at no target.
NULLS = (
    *("neg_label_entropy", "knn", "linear_probe"),
    *("static_ranking", "parameters", "source_accuracy"),
)


class Correlation(NamedTuple):
    """How one score goes with accuracy over the tasks of a study.

    Attributes:
      score: its name.
      estimates: by statistic: ``pearson``, ``spearman``, ``kendall``; ``pearson|num_classes`` where
        tasks differ in their class counts; ``pearson|group`` where they come from several groups.
        Intervals cluster on the target classes. Where tasks come from groups, those of the first
        four cluster on the groups instead, in which the classes nest: they say what to expect of
        new groups, ``pearson|group`` of new classes of the same groups.
      without_class: ``[C]`` Pearson's r with all tasks that contain a class left out.
    """

    score: str
    estimates: dict[str, Estimate]
    without_class: np.ndarray


def clusters(classes: np.ndarray, groups: np.ndarray, num_bank_classes: int) -> np.ndarray:
    """What tasks share, for intervals to cluster on: ``[t, g]`` bool, who has what.

    The groups that tasks come from, where there are several (classes nest in them); otherwise the
    classes that tasks hold.

    Args:
      classes: ``[t, k]`` class ids of each task, padded with -1.
      groups: ``[t]`` group of each task; -1 where drawn across groups.
      num_bank_classes: number C of classes that tasks were drawn from.
    """
    names = np.unique(groups)
    return groups[:, None] == names if len(names) > 1 else _holds(classes, num_bank_classes)


def _holds(classes: np.ndarray, num_bank_classes: int) -> np.ndarray:
    holds = np.zeros((len(classes), num_bank_classes), bool)
    for task, row in zip(holds, classes, strict=True):
        task[row[row >= 0]] = True
    return holds


def correlate(
    scores: dict[str, np.ndarray],
    accuracy: np.ndarray,
    *,
    classes: np.ndarray,
    groups: np.ndarray,
    num_bank_classes: int,
) -> list[Correlation]:
    """Correlations of all scores with accuracy, with intervals that cluster on classes or groups.

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
    groups = np.asarray(groups)
    if groups.shape != (len(classes),):
        raise ValueError(f"groups: wanted shape [{len(classes)}], got {list(groups.shape)}")
    if np.max(classes) >= num_bank_classes:
        raise ValueError(f"classes: wanted ids below {num_bank_classes}, got {np.max(classes)}")
    of_classes = _holds(classes, num_bank_classes)
    shared = clusters(classes, groups, num_bank_classes)
    counts = of_classes.sum(1)
    statistics: dict[str, tuple[Statistic, np.ndarray]] = {
        "pearson": (pearson, shared),
        "spearman": (spearman, shared),
        "kendall": (kendall, shared),
    }
    if len(np.unique(counts)) > 1:
        statistics["pearson|num_classes"] = partial_pearson(counts), shared
    if len(np.unique(groups)) > 1:
        statistics["pearson|group"] = partial_pearson(groups), of_classes
    table = []
    for name, values in scores.items():
        values = np.asarray(values, float)
        estimates = {
            label: jackknife(statistic, values, accuracy, membership)[0]
            for label, (statistic, membership) in statistics.items()
        }
        without = pearson(values, np.asarray(accuracy, float), ~of_classes.T)
        table.append(Correlation(name, estimates, without))
    return table

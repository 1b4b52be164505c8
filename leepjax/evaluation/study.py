"""The finding of a study: how each score correlates with accuracy, and given which factors."""

from typing import NamedTuple, Protocol

import numpy as np

from leepjax.evaluation.correlation import (
    Statistic,
    kendall,
    partial_pearson,
    pearson,
    spearman,
)
from leepjax.evaluation.interval import Estimate, jackknife

# Nulls: they use no model, need no theory, or, over models, use no target.
NULLS = (
    *("neg_label_entropy", "knn", "linear_probe", "predictive_r2"),
    *("static_ranking", "parameters", "source_accuracy"),
)


class Correlation(NamedTuple):
    """The correlation of one score with accuracy over the tasks of a study.

    Attributes:
      score: its name.
      estimates: by statistic: ``pearson``, ``spearman``, ``kendall``; ``pearson|num_classes`` if
        tasks differ in their class counts; ``pearson|group`` if they come from several groups.
        Intervals are clustered on the target classes. If tasks come from groups, in which classes
        are nested, the intervals of the first four are clustered on the groups instead: they are
        for new groups. That of ``pearson|group`` is for new classes of the same groups.
      without_class: ``[C]`` Pearson's r with all tasks that contain a class left out, by class id.
    """

    score: str
    estimates: dict[str, Estimate]
    without_class: np.ndarray


class Targets(Protocol):
    """The classes and groups of tasks: ``leepjax.tasks.Tasks``, or anything with these two.

    Attributes:
      classes: ``[t, k]`` class ids of each task, >= 0, padded with -1.
      groups: ``[t]`` group of each task; -1 where drawn across groups.
    """

    @property
    def classes(self) -> np.ndarray: ...  # noqa: D102
    @property
    def groups(self) -> np.ndarray: ...  # noqa: D102


def task_membership(tasks: Targets) -> np.ndarray:
    """Which clusters each task belongs to, ``[t, g]`` bool, for intervals.

    The clusters are the groups that tasks come from, if there are several (classes are nested in
    them); otherwise the classes of the tasks, by their ids.
    """
    groups = np.asarray(tasks.groups)
    names = np.unique(groups)
    return groups[:, None] == names if len(names) > 1 else _holds(np.asarray(tasks.classes))


def _holds(classes: np.ndarray) -> np.ndarray:
    holds = np.zeros((len(classes), np.max(classes) + 2), bool)
    np.put_along_axis(holds, classes, True, 1)
    return holds[:, :-1]  # the last is -1, the padding


def _first_odd(x: np.ndarray) -> str:
    """Where an array has a value that is not finite, for messages."""
    if x.ndim != 1 or x.dtype.kind == "O":
        return ""
    odd = np.flatnonzero(~np.isfinite(x)) if x.dtype.kind in "iuf" else np.arange(len(x))
    return f" with {x[odd[0]]!s:.40} at {odd[0]}" if len(odd) else ""


def correlate(
    scores: dict[str, np.ndarray], accuracy: np.ndarray, tasks: Targets
) -> list[Correlation]:
    """Correlations of all scores with accuracy, with intervals clustered on classes or groups.

    Args:
      scores: ``{name: [t]}``.
      accuracy: ``[t]``.
      tasks: their classes and groups.

    Raises:
      ValueError: a score has another length, or an accuracy or score is not finite.
    """
    classes, groups = np.asarray(tasks.classes), np.asarray(tasks.groups)
    for name, values in {"accuracy": accuracy, **scores}.items():
        x = np.asarray(values)
        if x.shape != (len(classes),) or x.dtype.kind not in "iuf" or not np.isfinite(x).all():
            raise ValueError(
                f"{name}: wanted {len(classes)} finite numbers, one per task, got {x.dtype} of "
                f"shape {list(x.shape)}{_first_odd(x)}"
            )
    if groups.shape != (len(classes),):
        raise ValueError(f"groups: wanted shape [{len(classes)}], got {list(groups.shape)}")
    of_classes = _holds(classes)
    shared = task_membership(tasks)
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

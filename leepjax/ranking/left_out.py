"""Scores whose samples are left out in float64 NumPy: a linear head, neighbours, LEEP of groups."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from leepjax.ranking import by_group
from leepjax.ranking.held_out import accuracy, held_out
from leepjax.ranking.left_out_leep import left_out_leep
from leepjax.ranking.neighbours import judge, nearest
from leepjax.ranking.shuffles import shuffle, shuffled_scores

HEADS = ("predictive_r2", "linear_probe")


class Target(NamedTuple):
    """What all sources are judged by.

    Attributes:
      labels: ``[n]`` in 0..c-1, each of which is there; ``[n, t]`` 0 and 1, or numbers.
      num_classes: c; of the others how many columns.
      key: of random metrics and half-samples, the same for all sources.
      num_halves: half-samples for the deviations of metrics without weights; 0: none.
      kind: what the labels are, of ``targets.KINDS``.
      groups: ``[n]`` ascending from 0, those that are left out, and vary, together; None: samples.
    """

    labels: np.ndarray
    num_classes: int
    key: jax.Array
    num_halves: int
    kind: str = "class"
    groups: np.ndarray | None = None

    @property
    def columns(self) -> np.ndarray:
        """``[n, t]`` what a linear head predicts."""
        if self.kind == "class":
            return np.eye(self.num_classes)[self.labels]
        return self.labels.astype(float)

    @property
    def counts(self) -> dict[str, int]:
        """What metrics are told."""
        return {"num_classes": self.num_classes} if self.kind == "class" else {}


class Scored(NamedTuple):
    """A score, and numbers of which the sums of products are covariances between sources.

    Attributes:
      value: the score.
      shuffled: ``[s]`` as ``shuffled_scores``.
      deviations: ``[n]`` influences of the samples, or one a group, or ``[r]`` centred scores of
        half-samples; None without either.
    """

    value: float
    shuffled: np.ndarray
    deviations: np.ndarray | None = None


def reason_of(error: Exception) -> str:
    """One line: errors of bad input say it themselves, others with their kind."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = "" if isinstance(error, ValueError) and line else type(error).__name__
    return ": ".join(filter(None, (kind, line)))


def is_left_out(name: str, target: Target, deciding: Sequence[str]) -> bool:
    """Whether a score is computed here; others are the registry's own metrics."""
    plain = target.kind == "class" and target.groups is None
    if (
        name in HEADS
    ):  # where the probe itself decides it wants half-samples, which are the metric's
        return not plain or name == "predictive_r2" or name not in deciding
    if name == "cross_fitted_leep":
        return target.groups is not None
    return name == "knn" and not plain


def left_out(
    names: Sequence[str],
    few: Mapping[str, Any],
    of_some: Target,
    ready: Mapping[str, Any],
    target: Target,
    deciding: Sequence[str],
) -> dict[str, Scored | str]:
    """These scores, or why there is none.

    Args:
      names: those that ``is_left_out`` is true of.
      few: arrays of the samples that heads and neighbours see.
      of_some: their labels.
      ready: arrays of all samples.
      target: their labels.
      deciding: those that may decide.
    """
    heads = tuple(name for name in names if name in HEADS)
    ways = [
        (heads, lambda: _heads(few, of_some, heads, deciding)),
        (("knn",), lambda: {"knn": _knn(few, of_some, "knn" in deciding)}),
        (("cross_fitted_leep",), lambda: {"cross_fitted_leep": _left_out_leep(ready, target)}),
    ]
    found: dict[str, Scored | str] = {}
    for of, scored in ways:
        if of and {*of} <= {*names}:
            try:
                found |= scored()
            except Exception as error:  # of memory, or of LAPACK
                found |= dict.fromkeys(of, reason_of(error))
    return found


def halves(target: Target) -> Iterator[tuple[Target, np.ndarray]]:
    """Half of the samples, or of the groups, and their rows; as many times as are asked for."""
    units = np.arange(len(target.labels)) if target.groups is None else target.groups
    rng, number = np.random.default_rng(0), units[-1] + 1
    for _ in range(target.num_halves):
        rows = np.flatnonzero(rng.permutation(number)[units] < number / 2)
        groups = None if target.groups is None else target.groups[rows]
        yield target._replace(labels=target.labels[rows], groups=groups), rows


def spread_of(scores: Any) -> np.ndarray | None:
    """Deviations of scores of halves, whose squares sum to the variance of that of all."""
    scores = np.asarray(scores, float)
    if not len(scores):
        return None
    return (scores - scores.mean()) / np.sqrt(max(len(scores) - 1, 1))


def _heads(ready, target: Target, names, deciding) -> dict[str, Scored]:
    x = np.asarray(ready["features"])
    judged = held_out(x, target.columns, target.kind, target.groups)
    both = {
        "predictive_r2": Scored(float(judged.r2), judged.shuffled_r2, judged.deviations),
        "linear_probe": Scored(judged.accuracy, np.array([judged.shuffled_accuracy])),
    }
    if "linear_probe" in deciding:
        right = [accuracy(x[r], p.columns, p.kind, p.groups) for p, r in halves(target)]
        both["linear_probe"] = both["linear_probe"]._replace(deviations=spread_of(right))
    return {name: both[name] for name in names}


def _knn(ready, target: Target, deciding: bool) -> Scored:
    """Of several labels, of numbers, and among other groups."""

    def judged(part: Target, *rows: np.ndarray) -> list[float]:
        found = nearest(np.asarray(ready["features"])[rows], part.groups)
        own = np.arange(len(part.labels)) if part.groups is None else part.groups
        orders = part.labels, shuffle(part.labels, 0, part.groups)
        return [judge(found, y, part.kind, by_group.spread(part.columns, own)) for y in orders]

    value, nothing = judged(target)
    of_halves = [judged(part, rows)[0] for part, rows in halves(target) if deciding]
    return Scored(value, np.array([nothing]), spread_of(of_halves))


def _left_out_leep(ready, target: Target) -> Scored:
    """Where groups are left out; of several labels the mean over them."""
    groups, probs = target.groups, np.asarray(ready["probs"])
    assert groups is not None

    def judged(labels: np.ndarray) -> tuple[float, np.ndarray]:
        columns = labels.T if target.kind == "multilabel" else labels[None]
        values, deviations = zip(*(left_out_leep(probs, y, groups) for y in columns), strict=True)
        return float(np.mean(values)), np.mean(deviations, 0)

    value, deviations = judged(target.labels)
    error = float(np.sqrt(np.sum(deviations**2)))
    first = judged(shuffle(target.labels, 0, groups))[0]
    shuffled = shuffled_scores(
        value, error, first, lambda labels: judged(labels)[0], target.labels, groups
    )
    return Scored(value, shuffled, deviations)

"""Ways of choosing a source, looked up in a table of real fine-tunings; their regret and cost."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from leepjax.choosing import Choice, expected_recall, expected_regret, successive_halving
from leepjax.evaluation import (
    NULLS,
    cluster_membership,
    jackknife,
    mean,
    mean_over_groups,
    pearson,
    static_ranking,
)
from leepjax.report import estimate_columns

CHANCE, EVERY = "chance", "all sources"
RANK = "rank's choice"  # the sources that ``leepjax.rank`` recommends


class Table(NamedTuple):
    """The measurements of m sources on t tasks, at r budgets.

    Attributes:
      names: ``[m]``.
      scores: ``{name: [t, m]}``, the nulls of features among them.
      facts: ``{name: [m]}``: parameters, source_accuracy (NaN where unknown), operations.
      head: ``[t, m]`` test accuracy of the retrained head.
      validation: ``[t, m, r]`` accuracy on held-out images; NaN where training diverged.
      test: ``[t, m, r]`` test accuracy; NaN where training diverged.
      named: ``[t, m]`` bool, the sources that ``leepjax.rank`` recommends.
      score_cost: ``[m]`` of the forward pass over a task's labelled images.
      tune_cost: ``[m, r]`` of a fine-tuning, in the same unit.
      membership: ``[t, g]`` bool, the clusters (target groups or classes) of each task.
    """

    names: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    facts: Mapping[str, np.ndarray]
    head: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    named: np.ndarray
    score_cost: np.ndarray
    tune_cost: np.ndarray
    membership: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """``[t, m]`` test accuracy at the full budget: 0 where training diverged."""
        return np.nan_to_num(self.test[..., -1])

    def columns(self) -> dict[str, np.ndarray]:
        """``[t, m]`` of every score and null that a source can be chosen by."""
        t = len(self.head)
        facts = {k: np.tile(v, (t, 1)) for k, v in self.facts.items() if k in NULLS}
        static = static_ranking(self.reached).round(9)  # rounding must not break ties
        return {**self.scores, **facts, "static_ranking": static}


class Way(NamedTuple):
    """A way of choosing: by what, how many sources are fine-tuned and how; and its choice."""

    by: str
    tried: float  # the mean over tasks
    short: bool  # whether short fine-tunings come first
    choice: Choice

    @property
    def null(self) -> bool:
        """Whether a score must beat it."""
        return self.by in NULLS or self.by == CHANCE


def choices(table: Table, top: int) -> list[Way]:
    """Every way: each score or null alone, halving its first few, halving all, all in full.

    The sources that ``leepjax.rank`` recommends, however many on each task, are halved too.
    """
    validation, cost, m = table.validation, table.tune_cost, len(table.names)
    blind = np.zeros(table.head.shape)
    ways = []
    for by, score in {**table.columns(), CHANCE: blind}.items():
        scoring = table.score_cost.sum() if by in table.scores else 0.0
        for tried in (1, top):
            found = successive_halving(score, validation, cost, top=tried)
            choice = found._replace(cost=found.cost + scoring)
            ways.append(Way(by, tried, tried > 1, choice))
    ways.append(Way(RANK, float(table.named.sum(1).mean()), True, _of_named(table)))
    ways.append(Way(EVERY, m, True, successive_halving(blind, validation, cost, top=m)))
    full = successive_halving(blind, validation[..., -1:], cost[:, -1:], top=m)
    return [*ways, Way(EVERY, m, False, full)]


def _of_named(table: Table) -> Choice:
    """Halving those that ``rank`` recommends; if it recommends one, that one."""
    score = np.where(table.named, 0.0, -np.inf)
    found = [
        successive_halving(score[[t]], table.validation[[t]], table.tune_cost, top=int(tried))
        for t, tried in enumerate(table.named.sum(1))
    ]
    probability, cost = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Choice(probability, cost + table.score_cost.sum())


def summary(table: Table, ways: list[Way]) -> list[dict[str, Any]]:
    """Rows of ``ways.csv``: mean regret with its interval, cost, and lead over the best null.

    ``ahead`` is the regret of the best null with as many sources fine-tuned, minus the row's own
    regret. For ``rank`` the null has at least as many sources fine-tuned.
    """
    losses = [expected_regret(way.choice.probability, table.reached) for way in ways]
    rows = []
    for way, lost in zip(ways, losses, strict=True):
        least = min((w.tried for w in ways if w.null and w.tried >= way.tried), default=None)
        same = [i for i, w in enumerate(ways) if w.null and w.tried == least]
        null = min(same, key=lambda i: losses[i].mean(), default=None)
        row = {"by": way.by, "tried": way.tried, "short": way.short, "null": way.null}
        row |= estimate_columns("regret", mean(lost, table.membership))
        row |= {"cost": float(way.choice.cost.mean())}
        best = expected_recall(way.choice.probability, table.reached)
        row |= {"best_chosen": float(best.mean())}
        if null is not None and not way.null and way.by != EVERY:
            row |= {"best_null": ways[null].by}
            row |= estimate_columns("ahead", mean(losses[null] - lost, table.membership))
        rows.append(row)
    return rows


def correlations(table: Table) -> Iterator[dict[str, Any]]:
    """Rows of ``correlation.csv``: Pearson's r over the sources of a task, mean over tasks.

    Tasks and sources are crossed: the interval is for other tasks and other sources.
    """
    t, m = table.head.shape
    task, source = np.repeat(np.arange(t), m), np.tile(np.arange(m), t)
    for name, score in table.columns().items():
        for kind, values in (("head", table.head), ("fine_tuned", table.test[..., -1])):
            x, y = score.ravel(), values.ravel()
            both = np.isfinite(x) & np.isfinite(y)
            found, _ = jackknife(
                mean_over_groups(pearson, task[both]),
                x[both],
                y[both],
                (table.membership[task[both]], cluster_membership(source[both])),
            )
            yield {"score": name, "accuracy": kind} | found._asdict()

"""The tables of an audit: correlations, differences, selection and stability, row by row."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from leepjax.audit.pool import Pool
from leepjax.audit.printed import (
    printed_mean_rows,
    printed_rows,
    repeated_columns,
    summary_uses,
)
from leepjax.audit.table import TextTable
from leepjax.choosing import pairwise_accuracy, recall_at_k, regret_at_k, rel_at_k
from leepjax.evaluation import (
    NULLS,
    clusters_needed,
    difference,
    holm,
    jackknife,
    mean_over_groups,
    partial_pearson,
    stability,
    williams,
)
from leepjax.evaluation.correlation import STATISTICS, Statistic
from leepjax.evaluation.interval import Membership, cluster_membership

ALL = "mean over targets"
COMPARED = ("pearson", "weighted_tau:both")  # statistics of which scores are compared in pairs


def recompute(pool: Pool, summary: TextTable | None = None) -> dict[str, list[dict[str, Any]]]:
    """Recompute a table of scores and accuracies, and check whether printed values follow from it.

    Args:
      pool: the table, as of :func:`read_pool`.
      summary: the correlations that were printed for it: one row for each part and ``measure``, one
        column for each score; or one row for each ``metric``, one column for each part.

    Returns:
      Rows by the name of their table, without empty tables. ``columns``: what every column of the
      files is used for, or why it is not. ``rows``: how many rows a part has, and what is wrong
      with its columns. ``correlations``: of every score, target by target and over all, under every
      convention of the weighted tau, with clustered intervals. ``without``: the same with one
      class, group, family, model or target left out. ``differences``: of every two scores.
      ``selection``: the cost of choosing by a score. ``stability``: whether targets and conventions
      agree. ``printed``, ``printed_means``: the summary compared with the columns, and its means
      beside those of the nulls.

    Raises:
      ValueError: the summary cannot be read; it names line and column.
    """
    correlations = list(correlation_rows(pool))
    columns = [*pool.columns, *(summary_uses(pool, summary) if summary is not None else ())]
    tables = {
        "columns": [use._asdict() for use in columns],
        "rows": part_rows(pool),
        "correlations": correlations,
        "without": list(without_rows(pool)),
        "differences": list(difference_rows(pool)),
        "selection": list(selection_rows(pool)),
        "stability": stability_rows(correlations),
    }
    if summary is not None:
        tables["printed"] = list(printed_rows(pool, summary))
        tables["printed_means"] = printed_mean_rows(pool, summary)
    return {name: rows for name, rows in tables.items() if rows}


def part_rows(pool: Pool) -> list[dict[str, Any]]:
    """How many rows each part has, their accuracy, and what is wrong with its columns."""
    repeated = {part: f"{a} repeats {b}" for part, b, a in repeated_columns(pool)}
    found = []
    for part, rows in pool.parts():
        accuracy = pool.accuracy[rows]
        ceiling = pool.ceilings.get(part)
        found.append(
            {"part": part, "rows": len(rows), "left_out": pool.left_out[part]}
            | {"mean": accuracy.mean(), "standard_deviation": accuracy.std()}
            | {"ceiling": ceiling.value if ceiling else "", "defect": repeated.get(part, "")}
        )
    return found


def correlation_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """One row for each part, score and statistic, with its interval; then means over targets."""
    for part, rows in _scopes(pool):
        for score in pool.scores:
            x, y, here = pool.scored(rows, score)
            for name, (statistic, membership) in _statistics(pool, part, here).items():
                found, _ = jackknife(statistic, x, y, membership)
                key = {"part": part, "score": score, "statistic": name, "rows": len(here)}
                yield key | found._asdict()


def without_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """Pearson's r of every score with one class, group, family, model or target left out."""
    for part, rows in _scopes(pool):
        statistic, _ = _statistics(pool, part, rows)["pearson"]
        for kind, (member, names) in pool.clusters.items():
            held = member[rows]
            shown = np.flatnonzero(held.any(0) & ~held.all(0))
            columns = {}
            for score, values in pool.scores.items():
                counts = ~held[:, shown].T & np.isfinite(values[rows])
                columns[score] = statistic(np.nan_to_num(values[rows]), pool.accuracy[rows], counts)
            for i, c in enumerate(shown):
                key = {"part": part, "kind": kind, "left_out": names[c]}
                yield key | {score: float(column[i]) for score, column in columns.items()}


def difference_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """Every two scores compared on the same rows, adjusted for the number of pairs (Holm).

    ``needed`` is the approximate number of models (or targets, whichever are fewer) with which the
    difference would be significant four times in five. Pearson's rows also have Williams' test,
    which takes rows for independent.
    """
    for part, rows in _scopes(pool):
        for name in COMPARED:
            pairs = combinations(pool.scores, 2)
            compared = [_compare(pool, part, rows, name, *pair) for pair in pairs]
            p = np.array([row["p"] for row in compared])
            for row, adjusted in zip(compared, holm(p), strict=True):
                yield {"part": part, "statistic": name} | row | {"p_holm": float(adjusted)}


def _compare(pool: Pool, part: str, rows: np.ndarray, name: str, a: str, b: str) -> dict[str, Any]:
    both = rows[np.isfinite(pool.scores[a][rows]) & np.isfinite(pool.scores[b][rows])]
    x, other, y = pool.scores[a][both], pool.scores[b][both], pool.accuracy[both]
    statistic, membership = _statistics(pool, part, both)[name]
    found = difference(statistic, x, other, y, membership)
    crossing = membership if isinstance(membership, tuple) else (membership,)
    clusters = min(len(both) if one is None else int(one.any(0).sum()) for one in crossing)
    p_williams = np.nan
    if name == "pearson" and part != ALL and len(both) > 3:
        every = np.ones((1, len(both)))
        r_x, r_other, r_scores = (
            float(statistic(u, v, every)[0]) for u, v in ((x, y), (other, y), (x, other))
        )
        p_williams = williams(r_x, r_other, r_scores, len(both))[1]
    return (
        {"score": a, "other": b, "rows": len(both)}
        | found._asdict()
        | {"p_williams": p_williams, "needed": clusters_needed(found, clusters)}
    )


def selection_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """The cost of choosing models by each score, target by target; empty if rows are tasks."""
    if "model" not in pool.clusters:
        return
    for part, rows in pool.parts():
        for score in pool.scores:
            x, y, _ = pool.scored(rows, score)
            if not len(x):
                continue
            row: dict[str, Any] = {"part": part, "score": score, "models": len(x)}
            for k in (1, 3):
                measures = {"rel": rel_at_k, "recall": recall_at_k, "regret": regret_at_k}
                for name, measure in measures.items():
                    row[f"{name}@{k}"] = float(measure(x, y, k)) if k <= len(x) else np.nan
            yield row | {"pairwise_accuracy": float(pairwise_accuracy(x, y))}


def stability_rows(correlations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do targets, and conventions, agree on which score is best? Nulls do not take part."""
    scores = list(dict.fromkeys(r["score"] for r in correlations if r["score"] not in NULLS))
    studies: dict[tuple[str, str], dict[str, float]] = {}
    for row in correlations:
        if row["part"] != ALL and row["statistic"] in STATISTICS and row["score"] in scores:
            studies.setdefault((row["part"], row["statistic"]), {})[row["score"]] = row["value"]
    if len(scores) < 3 or not studies:
        return []
    components = [{"target": part, "statistic": name} for part, name in studies]
    found = stability(components, np.array([[s[n] for n in scores] for s in studies.values()]))
    return [{"component": k, "kendall": tau, "pairs": n} for k, (tau, n) in found.items()]


def _scopes(pool: Pool) -> Iterator[tuple[str, np.ndarray]]:
    """Each part and its rows; then all of them, if the same models occur in several parts."""
    yield from pool.parts()
    if pool.crossed:
        yield ALL, np.arange(len(pool.part))


def _statistics(pool: Pool, part: str, rows: np.ndarray) -> dict[str, tuple[Statistic, Membership]]:
    """By name, the statistics for some rows of a scope, and the clusters of their intervals."""
    if part == ALL:
        # Another draw would have other models as well as other targets.
        crossed = cluster_membership(pool.part[rows]), cluster_membership(pool.name[rows])
        return {
            name: (mean_over_groups(s, pool.part[rows]), crossed) for name, s in STATISTICS.items()
        }
    shared = pool.membership(rows)
    found: dict[str, tuple[Statistic, Membership]] = {
        name: (statistic, shared) for name, statistic in STATISTICS.items()
    }
    for name, factor in pool.factors.items():
        if len(set(factor[rows])) > 1:
            # Given the group, another draw would have other classes within groups.
            within = name == "group" and "classes" in pool.clusters
            membership = pool.clusters["classes"][0][rows] if within else shared
            found[f"pearson|{name}"] = partial_pearson(factor[rows]), membership
    return found

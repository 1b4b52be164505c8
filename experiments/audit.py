r"""What is a published table of transferability scores worth?

    python -m experiments.audit TABLE.csv --summary SUMMARY.csv

recomputes the correlations of every score with accuracy, target by target and over all of them,
under every convention of the weighted tau, with intervals that cluster and beside nulls; holds what
was printed against what the columns give; and says what choosing by each score would have cost.
TABLE has one row for each model and target, or for each task: scores and accuracies as columns
(``leepjax.evaluation.read_pool`` says how they are found, ``leepjax.evaluation.printed`` how
SUMMARY is laid out). ``results.csv`` of a study is such a table.

    python -m experiments.audit tllib_model_ranking.csv \
        --summary tllib_model_ranking_summary.csv --models experiments/torchvision_models.csv

What it finds in that table is in docs/results.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from experiments import _audit_tables
from leepjax import report
from leepjax.choosing import pairwise_accuracy, recall_at_k, regret_at_k, rel_at_k
from leepjax.evaluation import (
    NULLS,
    Pool,
    Table,
    averaged,
    difference,
    holm,
    jackknife,
    needed,
    partial_pearson,
    read_csv,
    read_pool,
    stability,
    williams,
)
from leepjax.evaluation.correlation import STATISTICS, Statistic
from leepjax.evaluation.interval import Membership, members
from leepjax.evaluation.printed import check_printed, read_printed, repeated_columns

ALL = "mean over targets"
COMPARED = ("pearson", "weighted_tau:both")  # statistics of which scores are compared in pairs
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Config:
    """A published table recomputed: conventions, intervals, nulls, and what was printed."""

    table: Annotated[Path, tyro.conf.Positional]
    """CSV, one row for each model and target or for each task, scores and accuracies as columns."""
    summary: Path | None = None
    """CSV of the correlations that were printed for it."""
    models: Path | None = None
    """CSV of facts about the models that become nulls: model, parameters, source_accuracy."""
    accuracy: str | None = None
    """Column of accuracies; default accuracy, else the only one with that word in its name."""
    part: str | None = None
    """Column within whose values rows are compared; default dataset, target or setting."""
    cluster: str | None = None
    """Column that names what rows of a part share; default group, else classes, else nothing."""
    scores: tuple[str, ...] = ()
    """Columns of scores; default all that hold numbers, but for those known to be no scores."""
    output_dir: Path | None = None
    """Where results go; default runs/audit/KEY, KEY of the configuration and the files' content."""
    overwrite: bool = False
    """Start anew where the same command has already run."""


def run(config: Config, console: Console) -> Path:
    """Audit the table, or show the audit where it has already run; return its directory."""
    table = read_csv(config.table)
    summary = None if config.summary is None else read_csv(config.summary)
    pool = read_pool(
        table,
        accuracy=config.accuracy,
        part=config.part,
        cluster=config.cluster,
        scores=config.scores,
        models=None if config.models is None else read_csv(config.models),
    )
    with report.open_run(
        "audit", config, output_dir=config.output_dir, overwrite=config.overwrite
    ) as study:
        if not study.finished:
            _write(study, pool, summary)
            found = list(_audit_tables.sections(study.path))
            report.write_page(study.path / "page.html", f"{config.table.name}, audited", found)
    for section in _audit_tables.sections(study.final):
        report.print_section(section, console)
    console.print(f"* null; ... out: range of r with one left out. Tables, page: {study.final}")
    return study.final


def _write(study: report.Run, pool: Pool, summary: Table | None) -> None:
    correlations = list(correlation_rows(pool))
    tables = {
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
    for name, rows in tables.items():
        if rows:
            study.write_table(name, rows)


def part_rows(pool: Pool) -> Rows:
    """How many rows each part has, what they reached, and what is wrong with its columns."""
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
    for part, rows in pool.parts():
        for score in pool.scores:
            x, y, here = _both(pool, rows, score)
            for name, (statistic, membership) in _statistics(pool, here).items():
                found, _ = jackknife(statistic, x, y, membership)
                key = {"part": part, "score": score, "statistic": name, "rows": len(here)}
                yield key | found._asdict()
    if pool.crossed:
        for score in pool.scores:
            x, y, here = _both(pool, np.arange(len(pool.part)), score)
            for name, statistic in STATISTICS.items():
                mean = averaged(statistic, pool.part[here])
                found, _ = jackknife(mean, x, y, _crossed(pool, here))
                key = {"part": ALL, "score": score, "statistic": name, "rows": len(here)}
                yield key | found._asdict()


def _statistics(pool: Pool, rows: np.ndarray) -> dict[str, tuple[Statistic, Membership]]:
    """By name, what is computed of some rows of one part, and what its interval clusters on."""
    shared = pool.membership(rows)
    found: dict[str, tuple[Statistic, Membership]] = {
        name: (statistic, shared) for name, statistic in STATISTICS.items()
    }
    for name, factor in pool.factors.items():
        if len(set(factor[rows])) > 1:
            # Given the group, what varies with another draw is the classes within groups.
            within = name == "group" and "classes" in pool.clusters
            membership = pool.clusters["classes"][0][rows] if within else shared
            found[f"pearson|{name}"] = partial_pearson(factor[rows]), membership
    return found


def without_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """Pearson's r of every score with one class, group, family, model or target left out."""
    pearson = STATISTICS["pearson"]
    scopes = [(part, rows, pearson) for part, rows in pool.parts()]
    if pool.crossed:
        scopes.append((ALL, np.arange(len(pool.part)), averaged(pearson, pool.part)))
    for part, rows, statistic in scopes:
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

    ``needed`` is about how many models (or targets, whichever are fewer) would tell them apart four
    times in five. Williams' test, which takes rows for independent, stands beside Pearson's.
    """
    scopes = [(part, rows, False) for part, rows in pool.parts()]
    if pool.crossed:
        scopes.append((ALL, np.arange(len(pool.part)), True))
    for part, rows, crossed in scopes:
        for name in COMPARED:
            compared = [
                _compare(pool, rows, name, crossed, *pair) for pair in combinations(pool.scores, 2)
            ]
            p = np.array([row["p"] for row in compared])
            for row, adjusted in zip(compared, holm(p), strict=True):
                yield {"part": part, "statistic": name} | row | {"p_holm": float(adjusted)}


def _compare(pool: Pool, rows: np.ndarray, name: str, crossed: bool, a: str, b: str):
    both = rows[np.isfinite(pool.scores[a][rows]) & np.isfinite(pool.scores[b][rows])]
    x, other, y = pool.scores[a][both], pool.scores[b][both], pool.accuracy[both]
    membership = _crossed(pool, both) if crossed else pool.membership(both)
    statistic = averaged(STATISTICS[name], pool.part[both]) if crossed else STATISTICS[name]
    found = difference(statistic, x, other, y, membership)
    ways = membership if isinstance(membership, tuple) else (membership,)
    clusters = min(len(both) if way is None else int(way.any(0).sum()) for way in ways)
    p_williams = np.nan
    if name == "pearson" and not crossed and len(both) > 3:
        every = np.ones((1, len(both)))
        r_x, r_other, r_scores = (
            float(statistic(u, v, every)[0]) for u, v in ((x, y), (other, y), (x, other))
        )
        p_williams = williams(r_x, r_other, r_scores, len(both))[1]
    return (
        {"score": a, "other": b, "rows": len(both)}
        | found._asdict()
        | {"p_williams": p_williams, "needed": needed(found, clusters)}
    )


def selection_rows(pool: Pool) -> Iterator[dict[str, Any]]:
    """What choosing models by each score costs, target by target; none where rows are tasks."""
    if "model" not in pool.clusters:
        return
    for part, rows in pool.parts():
        for score in pool.scores:
            x, y, _ = _both(pool, rows, score)
            if not len(x):
                continue
            row: dict[str, Any] = {"part": part, "score": score, "models": len(x)}
            for k in (1, 3):
                measures = {"rel": rel_at_k, "recall": recall_at_k, "regret": regret_at_k}
                for name, measure in measures.items():
                    row[f"{name}@{k}"] = float(measure(x, y, k)) if k <= len(x) else np.nan
            yield row | {"pairwise_accuracy": float(pairwise_accuracy(x, y))}


def stability_rows(correlations: Rows) -> Rows:
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


def printed_rows(pool: Pool, summary: Table) -> Iterator[dict[str, Any]]:
    """Every printed value whose columns are in the table, held against them."""
    for printed in check_printed(pool, summary):
        yield {
            "part": printed.part,
            "score": printed.score,
            "measure": printed.measure,
            "printed": printed.value,
            **{name: printed.recomputed.get(name, "") for name in STATISTICS},
            "low": min((low for low, _ in printed.ranges.values()), default=""),
            "high": max((high for _, high in printed.ranges.values()), default=""),
            "follows": " ".join(printed.follows),
            "exact": printed.exact,
        }


def printed_mean_rows(pool: Pool, summary: Table) -> Rows:
    """Means over targets of what was printed, beside those of the nulls by the same measure.

    The interval of a difference to the static ranking is Student's over targets.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    statistics: dict[str, Statistic] = {}
    parts = dict(pool.parts())
    for cell in read_printed(summary, set(parts)):
        found.setdefault((cell.measure, cell.score), {})[cell.part] = cell.value
        statistics[cell.measure] = STATISTICS[cell.conventions[-1]]  # of weighted tau: both
    for measure, statistic in statistics.items():
        for score in NULLS:
            if score in pool.scores:
                columns = ((part, _both(pool, rows, score)) for part, rows in parts.items())
                found[measure, score] = {
                    part: float(statistic(x, y, np.ones((1, len(x))))[0])
                    for part, (x, y, _) in columns
                }
    rows = []
    for (measure, score), values in sorted(found.items()):
        null = found.get((measure, "static_ranking"), {})
        shared = [p for p in values if p in null and np.isfinite([values[p], null[p]]).all()]
        row = {"measure": measure, "score": score, "targets": len(values)}
        row |= {"mean": float(np.mean(list(values.values())))}
        ahead = np.array([null[p] - values[p] for p in shared])
        rows.append(row | _audit_tables.mean_interval(ahead))
    return rows


def _both(pool: Pool, rows: np.ndarray, score: str):
    """Score, accuracy and index of those of some rows that have the score."""
    here = rows[np.isfinite(pool.scores[score][rows])]
    return pool.scores[score][here], pool.accuracy[here], here


def _crossed(pool: Pool, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Another draw would have other models as well as other targets."""
    return members(pool.part[rows]), members(pool.name[rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and turn bad input into one clear line."""
    config = tyro.cli(Config, args=sys.argv[1:] if arguments is None else arguments)
    console = Console()
    console.width = max(console.width, 126)  # rather lines that wrap than names cut short
    try:
        run(config, console)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""The rows to compare, from a plain table: models on targets, or tasks in settings, with nulls."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from leepjax.audit.columns import Use, facts_of, uses
from leepjax.audit.table import TextTable
from leepjax.evaluation.interval import Estimate, Membership, cluster_membership
from leepjax.evaluation.reliability import noise_ceiling, static_ranking

PARTS = ("dataset", "target", "setting")  # columns that divide a table, if there is one
_NOT_SCORES = (
    *("num_classes", "num_train", "num_test", "task", "seed", "failed", "epoch", "recipe"),
    *("objective", "gap", "iterations", "fold", "index"),
)
_USES = {
    "group": "rows that share it are not independent",
    "classes": "rows that share one are not independent",
    "num_classes": "r given it",
    "failed": "rows of which it is > 0 are left out",
    "seed": "rows are averaged over it",
}


@dataclasses.dataclass(frozen=True)
class Pool:
    """Scores and accuracies of n rows that fall into parts, within which they are compared.

    Attributes:
      part: ``[n]`` name of the target or setting of each row.
      name: ``[n]`` name of its model or task.
      accuracy: ``[n]``, larger is better, in the table's unit.
      scores: ``{name: [n]}``, NaN where missing.
      half_units: half a unit in the last printed decimal of each score and of ``accuracy``.
      clusters: by kind (class, group, family, model, target), ``[n, g]`` bool and ``[g]`` names.
      factors: ``{name: [n]}`` labels to condition on: class count, group.
      sharing: kinds of cluster that rows of a part may share, the one that nests others first.
      left_out: by part, how many rows had no accuracy: transfers that failed.
      ceilings: by part, the noise ceiling, if the table has a column ``seed``.
      columns: the use of every column of the table and of the facts.
    """

    part: np.ndarray
    name: np.ndarray
    accuracy: np.ndarray
    scores: dict[str, np.ndarray]
    half_units: dict[str, float]
    clusters: dict[str, tuple[np.ndarray, np.ndarray]]
    factors: dict[str, np.ndarray]
    sharing: tuple[str, ...]
    left_out: dict[str, int]
    ceilings: dict[str, Estimate]
    columns: list[Use]

    def parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each part's name and the indices of its rows, in the table's order."""
        for name in dict.fromkeys(self.part):
            yield name, np.flatnonzero(self.part == name)

    def scored(self, rows: np.ndarray, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score, accuracy and index of the given rows that have the score."""
        here = rows[np.isfinite(self.scores[score][rows])]
        return self.scores[score][here], self.accuracy[here], here

    def membership(self, rows: np.ndarray) -> Membership:
        """Clusters of some rows of one part, for its intervals; None if the rows share nothing."""
        for kind in self.sharing:
            member = self.clusters[kind][0][rows]
            if member.any(0).sum() > 1:
                return member
        return None

    @property
    def crossed(self) -> bool:
        """Whether the same models occur in several parts."""
        return "model" in self.clusters and "target" in self.clusters


def read_pool(
    table: TextTable,
    *,
    accuracy: str | None = None,
    part: str | None = None,
    cluster: str | None = None,
    scores: Sequence[str] = (),
    models: TextTable | None = None,
) -> Pool:
    """Interpret the columns of a table.

    Models are named in a column ``model``. The letters at the start of the name are their family,
    unless there is a column ``family``. Models, parts and columns are the same only if their names
    are equal letter by letter. If the table has seeds, a score is averaged over those that have it.
    Rows of tasks are those of ``results.csv`` of a study. Tasks share ``classes``, numbers with
    spaces between them, and ``group``.

    Args:
      table: one row for each model and target, or each task.
      accuracy: its column; default ``accuracy``, else the only one with that word in its name.
      part: the column within whose values rows are compared; default dataset, target or setting.
      cluster: the column that names what rows of a part share; default groups, else classes.
      scores: columns; default all that hold numbers, except those known not to be scores.
      models: facts of models, one row each with a column ``model``; columns of numbers (parameters,
        source_accuracy) become nulls. It has every model of the table, under the same name.

    Raises:
      ValueError: a column is missing, a cell is no number (it names line and column), a model
        or task occurs twice in a part, no row has an accuracy, no column is a score, or a model has
        no facts; its nearest name is given.
    """
    reached = _accuracy_column(table, accuracy)
    dividing = part or next((name for name in PARTS if name in table.columns), None)
    parts = table.text(dividing) if dividing else np.full(len(table), "all", object)
    values = table.numbers(reached)
    if "failed" in table.columns:
        values = np.where(table.numbers("failed") > 0, np.nan, values)
    there = np.isfinite(values)
    if not there.any():
        raise ValueError(f"{table.source}, column {reached!r}: wanted accuracies, got none")
    left_out = {p: int((~there & (parts == p)).sum()) for p in dict.fromkeys(parts)}
    row = next((name for name in ("model", "task") if name in table.columns), None)
    known = {reached, dividing, cluster, "model", "family", "group", "classes", *_NOT_SCORES}
    chosen = [*scores] or [c for c in table.columns if c not in known and table.is_numeric(c)]
    columns = {name: table.numbers(name)[there] for name in chosen}
    half_units = {name: table.half_unit(name) for name in chosen}
    half_units["accuracy"] = table.half_unit(reached)
    used = {name: use for name, use in _USES.items() if name in table.columns}
    used |= {"family": "family of the model"} if row == "model" else {}
    used |= {row: f"name of the {row}"} if row else {}
    used |= {cluster: "rows that share it are not independent"} if cluster else {}
    used |= {dividing: "rows are compared within it"} if dividing else {}
    used |= {reached: "accuracy"} | dict.fromkeys(chosen, "score")
    notes = uses(table, used, _NOT_SCORES)
    table, parts, values = table.where(there), parts[there], values[there]
    names = table.text(row) if row else np.array([f"row {line}" for line in table.lines], object)
    ceilings: dict[str, Estimate] = {}
    if "seed" in table.columns:
        seeds = table.text("seed")
        _check_once(table, parts, names, seeds)
        ceilings = _ceilings(parts, names, seeds, values)
        first, same = _over_seeds(list(zip(parts, names, strict=True)))
        columns = {name: _mean(same, column) for name, column in columns.items()}
        table, parts, names = table.where(first), parts[first], names[first]
        values = _mean(same, values)
    else:
        _check_once(table, parts, names)
    if row == "model" and models is not None:
        facts, of_facts = facts_of(names, models)
        _check_new(models.source, columns, facts)
        columns |= facts
        half_units |= {name: models.half_unit(name) for name in facts}
        notes += of_facts
    elif models is not None:
        raise ValueError(
            f"{models.source}: wanted a column 'model' in {table.source} too, got none"
        )
    if row == "model" and len(set(parts)) > 1:
        _check_new(table.source, columns, ["static_ranking"])
        columns["static_ranking"] = _elsewhere(parts, names, values)
        half_units["static_ranking"] = 0.0
    if not columns:
        why = "; ".join(f"{use.column!r}: {use.note}" for use in notes if not use.used)
        raise ValueError(
            f"{table.source}: wanted a column of scores, got none of {', '.join(table.columns)}"
            + (f" ({why})" if why else "")
        )
    clusters = _clusters(table, parts, cluster)
    factors = {
        name: table.text(name)
        for name in ("num_classes", "group")
        if name in table.columns and len(set(table.text(name))) > 1
    }
    kinds = (cluster,) if cluster else ("group", "classes")
    sharing = tuple(kind for kind in kinds if kind in clusters)
    return Pool(
        *(parts, names, values, columns, half_units, clusters, factors, sharing, left_out),
        *(ceilings, notes),
    )


def _check_new(source: str, columns: Collection[str], more: Collection[str]) -> None:
    for name in more:
        if name in columns:
            raise ValueError(
                f"{source}: wanted each column once, got {name!r} twice, as a score and as a null; "
                "rename the one in the table"
            )


def _accuracy_column(table: TextTable, wanted: str | None) -> str:
    if wanted is None and "accuracy" in table.columns:
        return "accuracy"

    def likely(name: str) -> bool:
        return "accuracy" in name.lower() and not name.lower().startswith("source")

    return table.find(wanted, "accuracies (name it with --accuracy)", likely)


def _clusters(table: TextTable, parts: np.ndarray, cluster: str | None):
    columns = {}
    if cluster is not None:
        columns[cluster] = table.text(cluster)
    if "group" in table.columns:
        columns["group"] = table.text("group")
    if "model" in table.columns:
        columns["model"] = table.text("model")
        family = table.columns.get("family")
        columns["family"] = _families(columns["model"]) if family is None else family
        columns["target"] = parts
    found = {
        kind: (cluster_membership(cells), np.unique(cells))
        for kind, cells in columns.items()
        if len(set(cells)) > 1
    }
    if "classes" in table.columns:
        cells = [set(cell.split()) for cell in table.text("classes")]
        every = np.array(sorted(set().union(*cells)), object)
        found["classes"] = np.array([[name in cell for name in every] for cell in cells]), every
    return found


def _families(names: np.ndarray) -> np.ndarray:
    """The letters that each name begins with, in any script; of one without, the whole name."""
    found = [re.match(r"[^\W\d_]+", name.lower()) for name in names]
    return np.array([m.group() if m else n for m, n in zip(found, names, strict=True)], object)


def _check_once(table: TextTable, *columns: np.ndarray) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for line, key in zip(table.lines, zip(*columns, strict=True), strict=True):
        if key in seen:
            raise ValueError(
                f"{table.source}, line {line}: wanted each row once, got {', '.join(key)} on line "
                f"{seen[key]} too"
            )
        seen[key] = line


def _elsewhere(parts: np.ndarray, names: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Static ranking of each row."""
    rows, row = np.unique(parts, return_inverse=True)
    columns, column = np.unique(names, return_inverse=True)
    table = np.full((len(rows), len(columns)), np.nan)
    table[row, column] = accuracy
    return static_ranking(table)[row, column]


def _over_seeds(keys: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Index ``[m]`` of the first row of each key, and which rows ``[m, n]`` have the same key."""
    first = list({key: i for i, key in reversed(list(enumerate(keys)))}.values())[::-1]
    return np.array(first), np.array([[key == keys[i] for key in keys] for i in first])


def _mean(same: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means ``[m]`` of the values that are not missing; NaN if all are."""
    weights = (same & np.isfinite(values)).astype(float)
    count = weights.sum(1, keepdims=True)
    mean = (weights / np.maximum(count, 1)) @ np.nan_to_num(values)
    return np.where(count[:, 0] > 0, mean, np.nan)


def _ceilings(parts, names, seeds, accuracy) -> dict[str, Estimate]:
    """Noise ceiling of each part, of the rows that have an accuracy of every seed."""
    found = {}
    for part in dict.fromkeys(parts):
        here = parts == part
        seed, of_seed = np.unique(seeds[here], return_inverse=True)
        row, of_row = np.unique(names[here], return_inverse=True)
        table = np.full((len(seed), len(row)), np.nan)
        table[of_seed, of_row] = accuracy[here]
        whole = table[:, np.isfinite(table).all(0)]
        if min(whole.shape) >= 2 and whole.shape[1] >= 3:
            found[part] = noise_ceiling(whole)
    return found

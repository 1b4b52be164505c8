"""Does a printed correlation follow from the columns that were printed beside it?"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from leepjax._names import without_partner
from leepjax.audit.columns import Use
from leepjax.audit.pool import Pool
from leepjax.audit.table import TextTable
from leepjax.evaluation import NULLS, Estimate, mean
from leepjax.evaluation.correlation import STATISTICS, Statistic

ROUNDINGS = 1000  # random values that the printed cells may have been rounded from


class Cell(NamedTuple):
    """A printed value: its part, score and measure, and how it was rounded.

    ``conventions`` are the names of the statistics that the measure may stand for.
    """

    part: str
    score: str
    measure: str
    conventions: list[str]
    value: float
    half_unit: float


def read_printed(summary: TextTable, parts: set[str]) -> list[Cell]:
    """The values of a summary.

    Two layouts are read. The first has one row for each part and ``measure``, and one column for
    each score. The second has one row for each ``metric`` and one column for each part; its measure
    is named in a column ``measure``, else it is weighted tau.

    Raises:
      ValueError: neither layout, an unknown part or measure, or a cell that is no number; it names
        line and column.
    """
    names, rows = list(summary.columns), range(len(summary))
    if "metric" in names:
        scores = summary.text("metric")
        columns = [name for name in names if name not in ("metric", "measure")]
        cells = [(part, i, part, scores[i]) for part in columns for i in rows]
        measures = summary.columns.get("measure", np.full(len(summary), "weighted_tau", object))
    else:
        of_parts = [name for name in names if set(summary.text(name)) & parts]
        if not of_parts or "measure" not in names:
            raise ValueError(
                f"{summary.source}: wanted a column 'measure' and one that names parts of the "
                f"table ({', '.join(sorted(parts))}), or a column 'metric' and one for each part; "
                f"got {', '.join(map(repr, names))}"
            )
        part, measures = summary.text(of_parts[0]), summary.text("measure")
        columns = [name for name in names if name not in (of_parts[0], "measure")]
        cells = [(score, i, part[i], score) for score in columns for i in rows]
    for _, i, name, _ in cells:
        if name not in parts:
            raise ValueError(
                f"{summary.source}, line {summary.lines[i]}: wanted a part of the table, one of "
                f"{', '.join(sorted(parts))}, got {name!r}"
            )
    values = {name: summary.numbers(name) for name in columns}
    half_units = {name: summary.half_unit(name) for name in columns}
    conventions = [_conventions(summary, i, measures[i]) for i in rows]
    _check_once(summary, [(part, score, measures[i]) for _, i, part, score in cells], cells)
    return [
        Cell(part, score, measures[i], conventions[i], float(values[column][i]), half_units[column])
        for column, i, part, score in cells
        if np.isfinite(values[column][i])
    ]


def _check_once(summary: TextTable, keys: list[tuple[str, ...]], cells: list[Any]) -> None:
    lines: dict[tuple[str, ...], int] = {}
    for key, (_, i, *_) in zip(keys, cells, strict=True):
        line = int(summary.lines[i])
        if key in lines:
            raise ValueError(
                f"{summary.source}, line {line}: wanted each value once, got {', '.join(key)} on "
                f"line {lines[key]} too"
            )
        lines[key] = line


def summary_uses(pool: Pool, summary: TextTable) -> list[Use]:
    """Columns and scores of a summary: whether the table has the columns that they describe."""
    scores = dict.fromkeys(cell.score for cell in read_printed(summary, {*pool.part}))
    others = [name for name in summary.columns if name not in scores]
    found = [Use(summary.source, name, "what is printed", "") for name in others]
    for score in scores:
        missing = without_partner([score], pool.scores)
        use = "means over targets" if missing else "printed values"
        near = missing.removeprefix(repr(score))
        note = f"the table has no column of this name{near}" if missing else ""
        found.append(Use(summary.source, score, use, note))
    return found


def printed_rows(pool: Pool, summary: TextTable) -> Iterator[dict[str, Any]]:
    """Every printed value whose columns are in the table, compared with them.

    A row has the value that the cells give by each convention; its ``low`` and ``high`` over random
    values that round to the cells; and ``follows``, the conventions from which the printed value
    follows within its last decimal (``exact``) or, if there is none, within the rounding of the
    cells.

    Raises:
      ValueError: as :func:`read_printed`.
    """
    rows = dict(pool.parts())
    rng = np.random.default_rng(0)
    for part, score, measure, names, value, half in read_printed(summary, set(rows)):
        if score not in pool.scores:
            continue
        x, y, _ = pool.scored(rows[part], score)
        every = np.ones((1, len(x)))
        recomputed = {name: float(STATISTICS[name](x, y, every)[0]) for name in names}
        near = half * (1 + 1e-9)
        follows = [name for name in names if abs(recomputed[name] - value) <= near]
        exact, ranges = bool(follows), {}
        if not exact:
            halves = pool.half_units[score], pool.half_units["accuracy"]
            for name in names:
                values = [
                    STATISTICS[name](
                        x + rng.uniform(-halves[0], halves[0], len(x)),
                        y + rng.uniform(-halves[1], halves[1], len(y)),
                        every,
                    )[0]
                    for _ in range(ROUNDINGS)
                ]
                ranges[name] = float(np.min(values)), float(np.max(values))
            follows = [
                name for name, (low, high) in ranges.items() if low - near <= value <= high + near
            ]
        yield {
            **{"part": part, "score": score, "measure": measure, "printed": value},
            **{name: recomputed.get(name, "") for name in STATISTICS},
            "low": min((low for low, _ in ranges.values()), default=""),
            "high": max((high for _, high in ranges.values()), default=""),
            "follows": " ".join(follows),
            "exact": exact,
        }


def printed_mean_rows(pool: Pool, summary: TextTable) -> list[dict[str, Any]]:
    """Means over targets of the printed values, beside those of the nulls by the same measure.

    ``ahead`` is the lead of the static ranking; its interval takes targets as independent.
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
                columns = ((part, pool.scored(rows, score)) for part, rows in parts.items())
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
        estimate = mean(ahead, None) if len(ahead) else Estimate(np.nan, np.nan, np.nan)
        rows.append(row | dict(zip(("ahead", "low", "high"), estimate, strict=True)))
    return rows


def repeated_columns(pool: Pool) -> list[tuple[str, str, str]]:
    """Parts in which two scores are the same numbers: part, score, score. One of them is wrong."""
    found = []
    for part, rows in pool.parts():
        for name, other in combinations(pool.scores, 2):
            a, b = pool.scores[name][rows], pool.scores[other][rows]
            both = np.isfinite(a) & np.isfinite(b)
            shared = 2 * both.sum() >= len(rows) and len(set(a[both])) > 1
            if shared and np.array_equal(a[both], b[both]):
                found.append((part, name, other))
    return found


def _conventions(summary: TextTable, i: int, measure: str) -> list[str]:
    name = measure.lower()
    if "weighted" in name and "tau" in name:
        return [key for key in STATISTICS if key.startswith("weighted_tau")]
    for key, words in (
        ("pearson", ("pearson",)),
        ("spearman", ("spearman",)),
        ("kendall", ("kendall", "tau")),
    ):
        if any(word in name for word in words):
            return [key]
    raise ValueError(
        f"{summary.source}, line {summary.lines[i]}, column 'measure': wanted a name with pearson, "
        f"spearman, kendall or weighted tau in it, got {measure!r}"
    )

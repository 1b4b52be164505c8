"""The tables of an audit for a terminal, from its CSV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from leepjax.evaluation import NULLS, Estimate
from leepjax.evaluation.correlation import STATISTICS
from leepjax.report import format_estimate, read_table

Rows = list[dict[str, str]]
ALL = "mean over targets"
SHOWN = {
    "pearson": "r [95 %]",
    "weighted_tau:both": "weighted τ [95 %]",
    "weighted_tau:accuracy": "by accuracy",
    "weighted_tau:score": "by score",
    "pearson|num_classes": "r | class count",
    "pearson|group": "r | group",
}
# Kinds of clusters whose delete-one range is shown; the rest, and Kendall's tau, are in the files.
LEFT_OUT = {"classes": "class", "group": "group", "family": "family", "model": "model"}


def show(path: Path, console: Console) -> None:
    """Print what an audit found, and where its files are."""
    tables = {file.stem: read_table(file) for file in path.glob("*.csv")}
    for part in tables["rows"]:
        _show_part(part, tables, console)
    console.print("... out: range of r with one of them left out. * null.\n")
    if any(row["part"] == ALL for row in tables["correlations"]):
        _show_all(tables, console)
    if "printed" in tables:
        _show_printed(tables["printed"], console)
    if "printed_means" in tables:
        _show_printed_means(tables["printed_means"], console)
    for row in tables.get("stability", ()):
        if int(row["pairs"]):
            console.print(
                f"Two studies that differ in their {row['component']} alone rank the scores with a "
                f"mean Kendall τ of {float(row['kendall']):.2f} ({row['pairs']} pairs).",
                soft_wrap=True,
            )
    console.print(f"Tables: {path}", soft_wrap=True)


def _show_part(part: dict[str, str], tables: dict[str, Rows], console: Console) -> None:
    title = (
        f"{part['part']}: {part['rows']} rows, accuracy {float(part['mean']):.4g} ± "
        f"{float(part['standard_deviation']):.2g} (standard deviation)"
    )
    if int(part["left_out"]):
        title += f"; left out: {part['left_out']} more without an accuracy"
    if part["ceiling"]:
        title += f"; noise ceiling of r from seeds {float(part['ceiling']):.2f}"
    if part["defect"]:
        title += f"; the column {part['defect']}"
    without = [row for row in tables.get("without", ()) if row["part"] == part["part"]]
    _correlations(title, part["part"], tables["correlations"], without, console)


def _show_all(tables: dict[str, Rows], console: Console) -> None:
    title = f"{ALL}; intervals for other targets and other models"
    without = [row for row in tables["without"] if row["part"] == ALL]
    _correlations(title, ALL, tables["correlations"], without, console)
    selection = tables.get("selection", [])
    scores = list(dict.fromkeys(row["score"] for row in selection))
    measures = [name for name in selection[0] if name not in ("part", "score", "models")]
    grid = _grid("choosing models, means", *measures)
    for score in scores:
        rows = [row for row in selection if row["score"] == score]
        columns = [[float(row[m]) for row in rows if row[m] not in ("", "nan")] for m in measures]
        cells = [float(np.mean(values)) if values else np.nan for values in columns]
        _add(grid, score, [_cell(cell) for cell in cells])
    console.print(grid)
    shown = [
        row
        for row in tables.get("differences", ())
        if row["part"] == ALL and "static_ranking" in (row["score"], row["other"])
    ]
    if not shown:
        return
    grid = _grid("static ranking less", "statistic", "difference [95 %]", "p (Holm)", "needed")
    for row in shown:
        flip = -1 if row["other"] == "static_ranking" else 1
        value, *ends = (flip * float(row[k]) for k in ("value", "low", "high"))
        estimate = Estimate(value, *sorted(ends))
        other = row["score"] if row["other"] == "static_ranking" else row["other"]
        p = float(row["p_holm"])
        cells = [SHOWN[row["statistic"]].removesuffix(" [95 %]"), format_estimate(estimate)]
        need = float(row["needed"])
        cells += [f"{p:.3f}" if np.isfinite(p) else "undefined"]
        cells += [f"{need:.0f}" if np.isfinite(need) else "undefined"]
        _add(grid, other, cells)
    console.print(grid)
    console.print(
        "needed: about how many models or targets, whichever are fewer here, would tell the two "
        "apart four times in five.\n",
        soft_wrap=True,
    )


def _correlations(
    title: str, part: str, correlations: Rows, without: Rows, console: Console
) -> None:
    rows = [row for row in correlations if row["part"] == part]
    shown = [s for s in SHOWN if any(row["statistic"] == s for row in rows)]
    kinds = [kind for kind in LEFT_OUT if any(row["kind"] == kind for row in without)]
    console.print(title, style="bold", soft_wrap=True)
    grid = _grid("score", *(SHOWN[s] for s in shown), *(f"{LEFT_OUT[k]} out" for k in kinds))
    for score in dict.fromkeys(row["score"] for row in rows):
        found = {
            row["statistic"]: Estimate(*(float(row[k]) for k in Estimate._fields))
            for row in rows
            if row["score"] == score
        }
        cells = [
            format_estimate(found[s], interval=s in ("pearson", "weighted_tau:both") or "|" in s)
            if s in found
            else ""
            for s in shown
        ]
        for kind in kinds:
            values = np.array([float(row[score]) for row in without if row["kind"] == kind])
            values = values[np.isfinite(values)]
            ends = [format_estimate(Estimate(v, v, v), interval=False) for v in np.sort(values)]
            cells.append(f"{ends[0]} to {ends[-1]}" if ends else "")
        _add(grid, score, cells)
    console.print(grid)


def _show_printed(rows: Rows, console: Console) -> None:
    follow = [row for row in rows if row["follows"]]
    exact = [row for row in follow if row["exact"] == "True"]
    console.print(
        f"Printed against recomputed: {len(rows)} values, {len(exact)} follow from their columns "
        f"to the last decimal, {len(follow) - len(exact)} within the rounding of the columns, "
        f"{len(rows) - len(follow)} do not:",
        style="bold",
        soft_wrap=True,
    )
    grid = _grid("target, score", "measure", "printed", "recomputed", "could be", "follows")
    for row in rows:
        if row["exact"] == "True":
            continue
        names = [name for name in STATISTICS if row[name]]
        values = ", ".join(_cell(float(row[name])) for name in names)
        could = f"{_cell(float(row['low']))} to {_cell(float(row['high']))}"
        verdict = "in rounding" if row["follows"] else "no"
        grid.add_row(
            f"{row['part']}, {row['score']}",
            *(row["measure"], _cell(float(row["printed"])), values, could, verdict),
        )
    console.print(grid)
    console.print("weighted tau recomputed: ranked by accuracy, by score, both.\n")


def _show_printed_means(rows: Rows, console: Console) -> None:
    console.print("As printed, means over targets, beside nulls", style="bold")
    grid = _grid("score", "measure", "targets", "mean", "static ranking ahead by [95 %, targets]")
    for row in sorted(rows, key=lambda r: (r["measure"], -float(r["mean"]))):
        ahead = Estimate(*(float(row[k]) for k in ("ahead", "low", "high")))
        cell = "" if row["score"] == "static_ranking" else format_estimate(ahead)
        _add(grid, row["score"], [row["measure"], row["targets"], _cell(float(row["mean"])), cell])
    console.print(grid)


def mean_interval(values: np.ndarray) -> dict[str, float]:
    """Mean of independent values with Student's 95 % interval; NaN of fewer than three."""
    n = len(values)
    if n < 3:
        return {"ahead": np.nan, "low": np.nan, "high": np.nan}
    half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    mean = float(values.mean())
    return {"ahead": mean, "low": float(mean - half), "high": float(mean + half)}


def _grid(first: str, *columns: str) -> Table:
    grid = Table(box=SIMPLE_HEAD)
    grid.add_column(first, no_wrap=True)
    for name in columns:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _add(grid: Table, score: str, cells: Sequence[Any]) -> None:
    null = score in NULLS
    grid.add_row(f"{score} *" if null else score, *cells, style="dim" if null else None)


def _cell(x: float) -> str:
    """Three decimals, as such tables are printed."""
    return f"{x:.3f}" if np.isfinite(x) else "undefined"

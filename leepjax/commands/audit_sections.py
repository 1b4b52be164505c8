"""The sections of an audit, for a terminal and a page, from its CSV files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leepjax._text import Sheet, starred
from leepjax.audit.rows import ALL
from leepjax.evaluation import NULLS, Estimate
from leepjax.evaluation.correlation import STATISTICS
from leepjax.report import Section, format_estimate, format_range, read_estimate, read_table

Rows = list[dict[str, str]]
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


def sections(path: Path) -> Iterator[Section]:
    """The results of an audit, from the tables in its directory."""
    tables = {file.stem: read_table(file) for file in path.glob("*.csv")}
    crossed = any(row["part"] == ALL for row in tables["correlations"])
    if "printed" in tables:
        yield _printed(tables["printed"])
    if crossed:
        heading = f"{ALL}; intervals for other targets and other models"
        yield Section(heading, [_correlations(ALL, tables)], _stability(tables))
        yield _selection(tables["selection"])
    if "printed_means" in tables:
        yield _printed_means(tables["printed_means"])
    differences = _differences(tables.get("differences", []))
    if differences.rows:
        p = [float(row["p_holm"]) for row in tables["differences"] if row["part"] == ALL]
        text = (
            f"Of {len(p)} comparisons of two scores or nulls, each by r and by weighted τ, "
            f"{sum(value < 0.05 for value in p)} are significant at 5 % after Holm's correction. "
            "needed: the approximate number of models or targets, whichever are fewer here, with "
            "which the difference would be significant four times in five."
        )
        yield Section("The static ranking compared with every score", [differences], text)
    for part in tables["rows"]:
        yield Section(_title(part), [_correlations(part["part"], tables)])
    yield _columns(tables["columns"])


def _columns(rows: Rows) -> Section:
    """The use of every column of the files, or why it has none, as text: a table would be cut."""
    said = []
    for file in dict.fromkeys(row["file"] for row in rows):
        columns: dict[str, list[str]] = {}
        for row in rows:
            if row["file"] == file:
                named = f"{row['column']} ({row['note']})" if row["note"] else row["column"]
                columns.setdefault(row["used"] or "not used", []).append(named)
        said.append(f"{file}: {'; '.join(f'{k}: ' + ', '.join(v) for k, v in columns.items())}.")
    return Section("How every column is used", text=" ".join(said))


def _title(part: dict[str, str]) -> str:
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
    return title


def _correlations(part: str, tables: dict[str, Rows]) -> Sheet:
    """One row a score; "... out" is the range of r with one of them left out."""
    rows = [row for row in tables["correlations"] if row["part"] == part]
    without = [row for row in tables.get("without", ()) if row["part"] == part]
    shown = [s for s in SHOWN if any(row["statistic"] == s for row in rows)]
    kinds = [kind for kind in LEFT_OUT if any(row["kind"] == kind for row in without)]
    lines = []
    for score in dict.fromkeys(row["score"] for row in rows):
        found = {row["statistic"]: read_estimate(row) for row in rows if row["score"] == score}
        lines.append([starred(score, NULLS)])
        for s in shown:
            interval = s in ("pearson", "weighted_tau:both") or "|" in s
            lines[-1].append(format_estimate(found[s], interval=interval) if s in found else "")
        for kind in kinds:
            values = [float(row[score]) for row in without if row["kind"] == kind]
            lines[-1].append(format_range(np.array(values)))
    return Sheet(
        ["score", *(SHOWN[s] for s in shown), *(f"{LEFT_OUT[k]} out" for k in kinds)], lines
    )


def _selection(rows: Rows) -> Section:
    measures = [name for name in rows[0] if name not in ("part", "score", "models")]
    lines = []
    for score in dict.fromkeys(row["score"] for row in rows):
        of = [row for row in rows if row["score"] == score]
        columns = [[float(row[m]) for row in of if row[m] != "nan"] for m in measures]
        lines.append(
            [starred(score, NULLS), *(_cell(np.mean(c) if c else np.nan) for c in columns)]
        )
    headings = ["score", *(name.replace("_", " ") for name in measures)]
    return Section("Choosing models by a score: means over targets", [Sheet(headings, lines)])


def _differences(rows: Rows) -> Sheet:
    lines = []
    for row in rows:
        if row["part"] != ALL or "static_ranking" not in (row["score"], row["other"]):
            continue
        turned = row["other"] == "static_ranking"
        value, *ends = ((-1 if turned else 1) * float(row[k]) for k in ("value", "low", "high"))
        name = starred(row["score"] if turned else row["other"], NULLS)
        ahead = format_estimate(Estimate(value, *sorted(ends)))
        measure = SHOWN[row["statistic"]].removesuffix(" [95 %]")
        needed = float(row["needed"])
        count = f"{needed:.0f}" if np.isfinite(needed) else "undefined"
        lines.append([name, measure, ahead, _cell(float(row["p_holm"])), count])
    headings = ["score", "measure", "static ranking ahead by [95 %]", "p (Holm)", "needed"]
    return Sheet(headings, lines)


def _printed(rows: Rows) -> Section:
    wrong = [row for row in rows if not row["follows"]]
    near = [row for row in rows if row["follows"] and row["exact"] != "True"]
    heading = (
        f"Printed against recomputed: of {len(rows)} values "
        f"{len(rows) - len(wrong) - len(near)} follow from their columns to the last decimal, "
        f"{len(near)} within the rounding of the columns, {len(wrong)} do not"
    )
    lines = []
    for row in rows:
        if row["exact"] == "True":
            continue
        values = ", ".join(_cell(float(row[name])) for name in STATISTICS if row[name])
        could = f"{_cell(float(row['low']))} to {_cell(float(row['high']))}"
        follows = "in rounding" if row["follows"] else "no"
        name = f"{row['part']}, {row['score']}"
        cells = [row["measure"], _cell(float(row["printed"])), values, could, follows]
        lines.append([name, *cells])
    headings = ["target, score", "measure", "printed", "recomputed", "could be", "follows"]
    text = (
        "A weighted tau is recomputed with pairs weighted by the rank of the accuracy, by that of "
    )
    text = f"{text}the score, and by both." if lines else ""
    return Section(heading, [Sheet(headings, lines)] if lines else [], text)


def _printed_means(rows: Rows) -> Section:
    lines = []
    for row in sorted(rows, key=lambda r: (r["measure"], -float(r["mean"]))):
        ahead = Estimate(*(float(row[k]) for k in ("ahead", "low", "high")))
        cell = "" if row["score"] == "static_ranking" else format_estimate(ahead)
        mean = _cell(float(row["mean"]))
        lines.append([starred(row["score"], NULLS), row["measure"], row["targets"], mean, cell])
    headings = ["score", "measure", "targets", "mean", "static ranking ahead by [95 %, targets]"]
    return Section("Printed values, means over targets, beside nulls", [Sheet(headings, lines)])


def _stability(tables: dict[str, Rows]) -> str:
    return " ".join(
        f"Rankings of the scores by two studies that differ only in their {row['component']} have "
        f"a mean Kendall τ of {float(row['kendall']):.2f} ({row['pairs']} pairs)."
        for row in tables.get("stability", ())
        if int(row["pairs"])
    )


def _cell(x: float | np.floating) -> str:
    """Three decimals, as such tables are printed."""
    return f"{x:.3f}" if np.isfinite(x) else "undefined"

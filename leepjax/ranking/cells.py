"""A ranking as tables for a terminal and a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from leepjax._text import Sheet, decimal, grid, html_table, in_html, printable, probability, starred
from leepjax.evaluation.study import NULLS
from leepjax.ranking.scored import HELD_OUT, OF_SOME

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from leepjax.ranking.result import Ranking

WIDE = 4  # columns of scores beside each other in a terminal


def tables(ranking: Ranking, wide: int = WIDE) -> list[Sheet]:
    """What decides, with what is known of the order; then, so many beside each other, the rest."""
    r = ranking
    if len(r.names) == 1:
        return [_of_one(r)]
    columns = [_score_column(r, name) for name in r.scores if name != r.by]
    columns += [(_starred(fact), [*map(_fact, values)]) for fact, values in r.facts.items()]
    parts = [columns[i : i + wide] for i in range(0, len(columns), wide)]
    names = ("source", [*r.names])
    return [_sorted(r, _standing(r)), *(_sorted(r, [names, *part]) for part in parts)]


def notes(ranking: Ranking) -> list[str]:
    """What stands below the tables: how to read them, agreement, failures."""
    r, lines = ranking, reading(ranking)
    tau = {name: t for name, t in r.agreement().items() if math.isfinite(t)}
    if tau:
        listed = ", ".join(f"{_starred(name)} {decimal(t)}" for name, t in tau.items())
        lines.append(f"Agreement with {r.by} (Kendall's tau over sources): {listed}.")
    for failure in r.failures:
        what = f" ({', '.join(failure.metrics)})" if failure.metrics else ""
        lines.append(f"Not scored: {failure.source}{what}: {failure.reason}")
    return lines


def reading(ranking: Ranking) -> list[str]:
    """How to read the tables."""
    r = ranking
    lines = ["In parentheses: the same under shuffled labels."]
    hollow = [name for name in r.scores if name != r.by and r.misleading(name)]
    if hollow:
        lines[0] += f" Columns in parentheses are hardly better with labels: {', '.join(hollow)}."
    without = np.isnan(r.scores.get("predictive_r2", np.zeros(len(r.names))))
    if r.by == "cross_fitted_leep" and without.any() and not without.all():
        names = ", ".join(name for name, out in zip(r.names, without, strict=True) if out)
        lines.append(f"{r.by} decides, which all have: without features of their own are {names}.")
    if any(name in NULLS and name != r.by for name in (*r.scores, *r.facts)):
        lines.append("* null: it needs no theory of transfer.")
    if r.max_samples < r.num_samples:
        of_some = [name for name in r.scores if name in OF_SOME]
        seen = f"{r.max_samples:,} of the {r.num_samples:,} samples"
        lines.append(f"On {seen} (max_samples): {', '.join(of_some)}.")
    if r.num_groups is not None:
        whole = ", ".join(name for name in r.scores if name in (*OF_SOME, *HELD_OUT))
        lines.append(f"Groups are left out whole by {whole}.")
        lines[-1] += " Standard errors and shuffled labels are of groups."
    if (r.kind == "multilabel" or r.num_groups is not None) and r.kind != "regression":
        each = "of each label" if r.kind == "multilabel" else "among the labels"
        right = probability(r.baseline)
        lines.append(f"The most frequent value {each} is right for {right}, without a source.")
    if r.constant:
        columns = ", ".join(map(str, r.constant))
        lines.append(f"Left out: columns of the labels that do not vary: {columns}.")
    if np.isnan(r.standard_error).all():
        lines.append(f"No interval of {r.by}; half-samples (num_halves=100) give one.")
    return lines


def renderables(ranking: Ranking) -> Iterator[Table | Text]:
    """For rich: the decision first."""
    from rich.text import Text

    for line in headlines(ranking):
        yield Text(printable(line), style="bold")
    for sheet in tables(ranking):
        yield grid(sheet)
    for line in notes(ranking):
        yield Text(printable(line))


def html(ranking: Ranking) -> str:
    """For a notebook: the decision, one table, how to read it."""
    parts = [f"<p><b>{in_html(line)}</b></p>" for line in headlines(ranking)]
    parts += [html_table(joined(tables(ranking, wide=len(ranking.scores) + 9)))]
    return "\n".join([*parts, *(f"<p>{in_html(line)}</p>" for line in notes(ranking))])


def headlines(ranking: Ranking) -> list[str]:
    """What was looked at, and what follows."""
    r = ranking
    sources = f"{len(r.names)} source{'s' if len(r.names) > 1 else ''}"
    within = "" if r.num_groups is None else f" in {r.num_groups:,} groups,"
    one = r.num_classes == 1
    of = {
        "class": f"{r.num_classes} classes",
        "multilabel": "one label" if one else f"{r.num_classes} labels each",
        "regression": "one number" if one else f"{r.num_classes} numbers each",
    }
    if r.waiting:
        done = len(r.names) + sum(not failure.metrics for failure in r.failures)
        sources = f"{done} of {done + len(r.waiting)} sources so far"
    return [f"{sources} on {r.num_samples:,} samples{within} of {of[r.kind]}", r.decision]


def joined(sheets: list[Sheet]) -> Sheet:
    """Sheets of the same rows beside each other, the names of the sources once."""
    first, *others = sheets
    headings = [*first.headings, *(h for sheet in others for h in sheet.headings[1:])]
    rows = [[*cells] for cells in first.rows]
    for sheet in others:
        for row, cells in zip(rows, sheet.rows, strict=True):
            row += cells[1:]
    return Sheet(headings, rows, first.words)


def _standing(r: Ranking) -> list[tuple[str, list[str]]]:
    places = [""] * len(r.names)
    for place, name in enumerate(r.best, 1):
        places[r.names.index(name)] = str(place)
    error = r.standard_error
    decimals = _decimals(error)
    behind = np.array(r.behind())
    behind[int(np.nanargmax(r.scores[r.by]))] = np.nan
    lost = [_with_error(x, e, decimals) for x, e in behind]
    chance = [*map(probability, r.probability_best())]
    columns = [("", places), ("source", [*r.names]), _score_column(r, r.by)]
    return [*columns, ("behind the best", lost), ("P(best)", chance)]


def _of_one(r: Ranking) -> Sheet:
    """One source: a row for each score and fact."""
    rows = [[heading, *cells] for heading, cells in (_score_column(r, name) for name in r.scores)]
    rows += [[_starred(fact), _fact(values[0])] for fact, values in r.facts.items()]
    return Sheet(["score", r.names[0]], rows)


def _sorted(r: Ranking, columns: list[tuple[str, list[str]]]) -> Sheet:
    rows = [[cells[i] for _, cells in columns] for i in r.order]
    return Sheet([heading for heading, _ in columns], rows, words=("source",))


def _score_column(r: Ranking, name: str) -> tuple[str, list[str]]:
    """Scores, of what decides ± standard errors, and in parentheses those of shuffled labels."""
    values, shuffled = r.scores[name], r.shuffled[name]
    errors = r.standard_error if name == r.by else np.full(len(values), np.nan)
    decimals = _decimals(errors)
    cells = [_with_error(x, e, decimals) for x, e in zip(values, errors, strict=True)]
    cells = [
        f"{cell} ({y:.{decimals}f})" if cell and np.isfinite(y) else cell
        for cell, y in zip(cells, shuffled, strict=True)
    ]
    return _heading(r, name), cells


def _heading(r: Ranking, name: str) -> str:
    """A null has a star; what shuffled labels explain stands in parentheses; what decides, bare."""
    if name == r.by:
        return name
    return f"({_starred(name)})" if r.misleading(name) else _starred(name)


def _with_error(value: float, error: float, decimals: int) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:.{decimals}f}"
    return text if math.isnan(error) else f"{text} ± {error:.{decimals}f}"


def _decimals(errors: np.ndarray) -> int:
    errors = errors[errors > 0]  # NaN is not
    return min(max(1 - math.floor(math.log10(np.median(errors))), 0), 8) if len(errors) else 3


def _starred(name: str) -> str:
    return starred(name, NULLS)


def _fact(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

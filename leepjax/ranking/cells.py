"""A ranking as tables for a terminal and a notebook, and as a figure; drawing imports late."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from leepjax._text import Sheet, decimal, grid, html_table, probability, starred
from leepjax.evaluation.study import NULLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from rich.text import Text

    from leepjax.ranking.result import Ranking

FEW = 10  # samples for each dimension: below, a standard error of features is rough
WIDE = 4  # columns of scores beside each other
POINTS = "#0072B2"


def tables(ranking: Ranking) -> list[Sheet]:
    """The decisive score with what is known of the order; then every other score, null and fact."""
    r = ranking
    if len(r.names) == 1:
        return [_of_one(r)]
    scores = [_score_column(r, name) for name in r.scores if name != r.by]
    facts = [(_starred(fact), [*map(_fact, values)]) for fact, values in r.facts.items()]
    columns = [*scores, *facts]
    parts = [columns[i : i + WIDE] for i in range(0, len(columns), WIDE)]
    return [_standing(r), *(_beside(r, part) for part in parts)]


def notes(ranking: Ranking) -> list[str]:
    """What stands below the tables: agreement, limits, failures, and at last the decision."""
    r = ranking
    lines = []
    tau = {name: t for name, t in r.agreement().items() if math.isfinite(t)}
    if tau:
        listed = ", ".join(f"{_starred(name)} {decimal(t)}" for name, t in tau.items())
        lines.append(f"Agreement with {r.by} (Kendall's tau over sources): {listed}.")
    other: dict[str, list[str]] = {}
    for name in r.scores:
        first = r.names[int(np.nanargmax(r.scores[name]))]
        if first != r.best[0]:
            other.setdefault(first, []).append(_starred(name))
    if other:
        listed = "; ".join(f"{source} by {', '.join(names)}" for source, names in other.items())
        lines.append(f"Another is best by another score: {listed}.")
    if any(name in NULLS for name in (*r.scores, *r.facts)):
        seen = [name for name in r.scores if name in r.nulls and name != "neg_label_entropy"]
        part = f"{', '.join(seen)} on {r.null_samples:,} of the {r.num_samples:,} samples"
        said = f"; {part}" if seen and r.null_samples < r.num_samples else ""
        lines.append(f"* null, which a score must beat{said}.")
    bare = [name for name in r.scores if np.isnan(r.standard_error(name)).all()]
    if bare:
        lines.append(f"No interval: {', '.join(bare)}; half-samples (num_halves=100) give one.")
    rough = r.num_samples < FEW * r.dimensions.max(initial=0)
    of_features = [name for name in r.metrics if name in _OF_COVARIANCE and name not in bare]
    if rough and of_features:
        lines.append(
            f"Rough: {', '.join(of_features)}, with {r.dimensions.max()} dimensions for "
            f"{r.num_samples:,} samples."
        )
    for failure in r.failures:
        what = f" ({', '.join(failure.metrics)})" if failure.metrics else ""
        lines.append(f"Not scored: {failure.source}{what}: {failure.reason}")
    return lines if len(r.names) == 1 else [*lines, r.decision]


_OF_COVARIANCE = ("h_score", "regularized_h_score", "logme", "lfc", "transrate", "gbc")


def renderables(ranking: Ranking) -> Iterator[Table | Text]:
    """For rich."""
    from rich.text import Text

    yield Text(_title(ranking), style="bold")
    for sheet in tables(ranking):
        yield grid(sheet, left=("source", "score"))
    for line in notes(ranking):
        yield Text(line, style="bold" if line == ranking.decision else "")


def html(ranking: Ranking) -> str:
    """For a notebook."""
    parts = [f"<p><b>{escape(_title(ranking))}</b></p>", *map(html_table, tables(ranking))]
    return "\n".join([*parts, *(f"<p>{escape(line)}</p>" for line in notes(ranking))])


def draw(ranking: Ranking) -> Figure:
    """A panel for each score: sources behind its best, with paired 95 % intervals."""
    from matplotlib.figure import Figure

    r, places = ranking, np.arange(len(ranking.names))[::-1]
    shown = [name for name in r.scores if np.isfinite(r.scores[name]).any()]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    size = (1.5 + 2.4 * columns, rows * (1 + 0.22 * len(places)) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for axis, name in zip(axes, shown, strict=False):
        behind = np.array(r.behind(name))[r.order]
        error = 1.96 * np.nan_to_num(behind[:, 1])
        axis.axvline(0, color="0.7", linewidth=1)
        axis.errorbar(behind[:, 0], places, xerr=error, fmt="o", color=POINTS, markersize=4)
        axis.set_title(_starred(name), fontsize=9)
        axis.set_yticks(places, [r.names[i] for i in r.order], fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
        axis.locator_params(axis="x", nbins=5)  # more overlap
    for axis in axes[len(shown) :]:
        axis.remove()
    figure.supxlabel("behind the best, with 95 % intervals on the same samples", fontsize=8)
    return figure


def _standing(r: Ranking) -> Sheet:
    places = [""] * len(r.names)
    for place, name in enumerate(r.best, 1):
        places[r.names.index(name)] = str(place)
    _, written = _score_column(r, r.by)
    _, lost = _score_column(r, r.by, behind=True)
    columns = [
        ("", places),
        ("source", [*r.names]),
        (r.by, written),
        ("behind the best", lost),
        ("P(best)", [*map(probability, r.probability_in_top(1))]),
    ]
    if 1 < r.top < len(r.best):
        columns.append((f"P(top {r.top})", [*map(probability, r.probability_in_top(r.top))]))
    return _sorted(r, columns)


def _of_one(r: Ranking) -> Sheet:
    """One source: a row for each score and fact."""
    rows = [[heading, *cells] for heading, cells in (_score_column(r, name) for name in r.scores)]
    rows += [[_starred(fact), _fact(values[0])] for fact, values in r.facts.items()]
    return Sheet(["score", r.names[0]], rows)


def _beside(r: Ranking, columns: list[tuple[str, list[str]]]) -> Sheet:
    return _sorted(r, [("source", [*r.names]), *columns])


def _sorted(r: Ranking, columns: list[tuple[str, list[str]]]) -> Sheet:
    rows = [[cells[i] for _, cells in columns] for i in r.order]
    return Sheet([heading for heading, _ in columns], rows)


def _score_column(r: Ranking, name: str, *, behind: bool = False) -> tuple[str, list[str]]:
    """Scores ± standard errors, all with as many decimals as show two digits of the usual error."""
    values, errors = r.scores[name], r.standard_error(name)
    decimals = _decimals(errors)
    if behind:
        best = int(np.nanargmax(values))
        values, errors = np.array(r.behind(name)).T
        values[best] = np.nan
    cells = [_with_error(x, e, decimals) for x, e in zip(values, errors, strict=True)]
    return _starred(name), cells


def _with_error(value: float, error: float, decimals: int) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:.{decimals}f}"
    return text if math.isnan(error) else f"{text} ± {error:.{decimals}f}"


def _decimals(errors: np.ndarray) -> int:
    errors = errors[errors > 0]  # NaN is not
    return min(max(1 - math.floor(math.log10(np.median(errors))), 0), 8) if len(errors) else 3


def _title(r: Ranking) -> str:
    sources = f"{len(r.names)} source{'s' if len(r.names) > 1 else ''}"
    return f"{sources} on {r.num_samples:,} samples of {r.num_classes} classes"


def _starred(name: str) -> str:
    return starred(name, NULLS)


def _fact(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

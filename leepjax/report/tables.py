"""The tables of a study as text, for a terminal and in words."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from leepjax._page import Section
from leepjax._text import Sheet, decimal, grid, printable, starred
from leepjax.evaluation import NULLS, Correlation, Estimate

HEADINGS = {
    "pearson": "r [95 %]",
    "spearman": "Spearman",
    "pearson|num_classes": "r | class count",
    "pearson|group": "r | group",
}  # Kendall's tau is in correlation.csv: six columns do not fit 80 characters


def print_correlations(title: str, table: Sequence[Correlation], console: Console) -> None:
    """Print one row a score, best Pearson's r first, nulls marked, and the verdict below.

    "One class out" is the range of r when all tasks with one class are left out. 112 columns hold
    every table whole; on a narrower console rich cuts names short.
    """
    nulls = any(row.score in NULLS for row in table)
    text = f"{'* null. ' if nulls else ''}{verdict(table)}"
    print_section(Section(title, [correlation_sheet(table)], text), console)


def print_section(section: Section, console: Console) -> None:
    """Print a section to a terminal, nulls dim."""
    console.print(Text(printable(section.heading)), style="bold", soft_wrap=True)
    for sheet in section.sheets:
        console.print(grid(sheet))
    if section.text:
        console.print(Text(f"{printable(section.text)}\n"))


def correlation_sheet(table: Sequence[Correlation]) -> Sheet:
    """The correlations of a setting, best first."""
    shown = [statistic for statistic in table[0].estimates if statistic in HEADINGS]
    rows = [
        [
            starred(row.score, NULLS),
            *(format_estimate(row.estimates[s], interval=s != "spearman") for s in shown),
            format_range(row.without_class),
        ]
        for row in sorted(table, key=by_correlation)
    ]
    return Sheet(["score", *(HEADINGS[s] for s in shown), "one class out"], rows)


def format_estimate(estimate: Estimate, *, interval: bool = True) -> str:
    """``.85 [.80, .89]``; "undefined" where there is nothing to correlate.

    Rounded to two decimals; the interval outwards, so that it never looks narrower than it is.
    """
    if not np.isfinite(estimate.value):
        return "undefined"
    text = decimal(estimate.value)
    if not interval:
        return text
    if not np.isfinite(estimate.low):
        return f"{text} (no interval)"
    low, high = np.floor(estimate.low * 100) / 100, np.ceil(estimate.high * 100) / 100
    return f"{text} [{decimal(low)}, {decimal(high)}]"


def format_mean(estimate: Estimate, sign: str = "", *, percent: bool = True) -> str:
    """``4.2 [0.0, 14.3]``, in hundredths to one decimal; else to two. With ``sign="+"`` signed.

    The interval is rounded outwards.
    """
    scale, decimals = (100, 1) if percent else (1, 2)
    value, low, high = (scale * v for v in estimate)
    form = f"{sign}.{decimals}f"
    if not np.isfinite([low, high]).all():
        return f"{value:{form}} (no interval)"
    unit = 10**decimals
    low, high = np.round(low * unit, 9), np.round(high * unit, 9)  # .07 is 7, not above it
    low, high = np.floor(low) / unit + 0.0, np.ceil(high) / unit + 0.0  # never -0.0
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def read_estimate(row: Mapping[str, str], name: str = "") -> Estimate:
    """From the columns ``name``, ``name_low``, ``name_high``; or ``value``, ``low``, ``high``."""
    columns = (name, f"{name}_low", f"{name}_high") if name else Estimate._fields
    return Estimate(*(float(row[column]) for column in columns))


def estimate_columns(name: str, estimate: Estimate) -> dict[str, float]:
    """The columns ``name``, ``name_low``, ``name_high`` of a row, as :func:`read_estimate` reads.

    >>> estimate_columns("gain", Estimate(0.5, 0.4, 0.6))
    {'gain': 0.5, 'gain_low': 0.4, 'gain_high': 0.6}
    """
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def verdict(table: Sequence[Correlation]) -> str:
    """What the table says, in words: the best score held against the best null."""
    rows = [row for row in sorted(table, key=by_correlation) if np.isfinite(_r(row).value)]
    scores = [row for row in rows if row.score not in NULLS]
    nulls = [row for row in rows if row.score in NULLS]
    if not scores:
        return "No score has a defined correlation with accuracy."
    best = scores[0]
    text = f"Best score: {best.score}, r = {format_estimate(_r(best))}."
    if not nulls:
        return text
    null = nulls[0]
    text += f" Best null: {null.score}, r = {format_estimate(_r(null))}."
    clear = [row.score for row in scores if _r(row).low > _r(null).value]
    if clear:
        return f"{text} Interval above that null: {', '.join(clear)}."
    return f"{text} No score's interval lies above that null."


def _r(row: Correlation) -> Estimate:
    return row.estimates["pearson"]


def format_range(values: np.ndarray) -> str:
    """``.78 to .84``, lowest and highest of those that are defined."""
    values = values[np.isfinite(values)]
    return f"{decimal(values.min())} to {decimal(values.max())}" if len(values) else ""


def by_correlation(row: Correlation) -> float:
    """Sort key: largest Pearson's r first, undefined last."""
    return np.inf if np.isnan(_r(row).value) else -round(_r(row).value, 6)

"""Figures of a study: score against accuracy, as in the literature, with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student

from leepjax._extras import require
from leepjax.evaluation import NULLS, Correlation
from leepjax.report.tables import format_estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS, LINE = "#0072B2", "#D55E00"  # Okabe and Ito: safe for colour-blind readers


def scatter(
    path: Path | None,
    title: str,
    scores: Mapping[str, np.ndarray],
    accuracy: np.ndarray,
    table: Sequence[Correlation],
) -> "Figure":
    """Draw one panel a score: tasks as points, least-squares line, its 95 % band, r in the title.

    The band is the usual one for independent tasks; r's interval clusters.

    Args:
      path: the file; its suffix names the format (``.svg``, ``.png``). None: no file, as in a
        notebook, which shows the figure that is returned.
      title: of the whole figure.
      scores: ``{name: [t]}``.
      accuracy: ``[t]``.
      table: the correlations of these scores.
    """
    require("figures")
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(3, len(table))
    rows = -(-len(table) // columns)
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(3.3 * columns, 2.7 * rows + 0.4), layout="constrained")
        figure.suptitle("\n".join(wrap(title, 40 * columns)), fontweight="bold", fontsize=9)
        note = "band: least squares, tasks taken as independent; [ ]: 95 %, clustered"
        figure.supxlabel(note, fontsize=7)
        axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
        for axis, row in zip(axes, table, strict=False):
            x = scores[row.score]
            r = row.estimates["pearson"]
            points = {"color": POINTS, "alpha": 0.45, "markersize": 4, "markeredgewidth": 0}
            axis.plot(x, accuracy, "o", rasterized=True, **points)  # hundreds would swell an SVG
            if np.isfinite(r.value):
                _fit(axis, x, accuracy)
            name = f"{row.score} (null)" if row.score in NULLS else row.score
            equals = " =" if np.isfinite(r.value) else ""
            axis.set_title(f"{name}\nr{equals} {format_estimate(r)}", fontsize=9)
            axis.set_xlabel(row.score)
        for axis in axes[::columns]:
            axis.set_ylabel("test accuracy")
        for axis in axes[len(table) :]:
            axis.remove()
        if path is not None:
            figure.savefig(path, dpi=150)
    return figure


def _fit(axis, x, y):
    """Least-squares line with the 95 % confidence band of its mean."""
    n = len(x)
    if n < 3:
        return
    centre, spread = x.mean(), np.sum((x - x.mean()) ** 2)
    slope = np.sum((x - centre) * (y - y.mean())) / spread
    grid = np.linspace(x.min(), x.max(), 100)
    line = y.mean() + slope * (grid - centre)
    residual = np.sum((y - y.mean() - slope * (x - centre)) ** 2) / (n - 2)
    half = student.ppf(0.975, n - 2) * np.sqrt(residual * (1 / n + (grid - centre) ** 2 / spread))
    axis.fill_between(grid, line - half, line + half, color=LINE, alpha=0.2, linewidth=0)
    axis.plot(grid, line, color=LINE, linewidth=1.5)

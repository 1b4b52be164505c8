"""The lead of fine-tuning, epoch by epoch, in levels of a score: a table and a figure."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leepjax._extras import require
from leepjax.evaluation import Estimate, Level
from leepjax.report.tables import format_estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def print_levels(setting: str, score: str, levels: Sequence[Level], console: Console) -> None:
    """Print the lead of fine-tuning in each level, after the first epochs and the last."""
    last = len(levels[0].mean) - 1
    shown = sorted({epoch for epoch in (1, 2, 5, 10, 20, 50, last) if epoch <= last})
    title = f"{setting}: fine-tuned − from scratch, test accuracy [95 %], by number of epochs"
    console.print(title, style="bold", soft_wrap=True)
    grid = Table(box=SIMPLE_HEAD)
    grid.add_column(score, no_wrap=True)
    grid.add_column("tasks", justify="right")
    for epoch in shown:
        grid.add_column(str(epoch), justify="right", no_wrap=True)
    for level in levels:
        cells = [
            format_estimate(Estimate(level.mean[e], level.low[e], level.high[e])) for e in shown
        ]
        low, high = level.scores
        grid.add_row(f"{low:.2f} to {high:.2f}", str(level.tasks), *cells)
    console.print(grid)
    console.print(f"{finding(levels, score)}.\n")


def finding(levels: Sequence[Level], score: str) -> str:
    """What the levels show, in words: the highest compared with the lowest, half-way."""
    low, high, last = levels[0], levels[-1], len(levels[0].mean) - 1
    middle = max(1, last // 2)
    text = (
        f"After {middle} of {last} epochs the lead of fine-tuning is {high.mean[middle]:+.2f} "
        f"where {score} is highest and {low.mean[middle]:+.2f} where it is lowest"
    )
    if not np.isfinite([high.low[middle], low.low[middle]]).all():
        return f"{text}; too few tasks for intervals"
    apart = high.low[middle] > low.high[middle] or high.high[middle] < low.low[middle]
    return text if apart else f"{text}; the intervals overlap"


def draw_levels(path: Path | None, title: str, score: str, levels: Sequence[Level]) -> "Figure":
    """Draw one line for each level, with the 95 % bands of the lowest and the highest.

    Args:
      path: the file; its suffix names the format. None: no file, the figure is returned.
      title: the finding.
      score: name of the score that defines the levels.
      levels: lowest first; their means are accuracy differences after 0, 1, ... epochs.
    """
    require("figures")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    colours = matplotlib.colormaps["viridis"](np.linspace(0.9, 0.05, len(levels)))
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        figure.suptitle("\n".join(wrap(title, 84)), fontweight="bold", fontsize=9)
        axis = figure.subplots()
        axis.axhline(0, color="0.6", linewidth=0.8)
        for i, (colour, level) in enumerate(zip(colours, levels, strict=True)):
            epochs = np.arange(len(level.mean))
            low, high = level.scores
            label = f"{score} {low:.2f} to {high:.2f}, {level.tasks} tasks"
            axis.plot(epochs, level.mean, color=colour, label=label)
            if i in (0, len(levels) - 1):  # five bands hide one another; all are in the table
                band = level.low, level.high
                axis.fill_between(epochs, *band, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel(
            "epoch (bands: 95 % of the lowest and the highest, clustered on what tasks share)"
        )
        axis.set_ylabel("fine-tuned − from scratch, test accuracy")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = axis.get_legend_handles_labels()
        axis.legend(handles[::-1], labels[::-1], frameon=False, fontsize=8)
        if path is not None:
            figure.savefig(path, dpi=150)
    return figure

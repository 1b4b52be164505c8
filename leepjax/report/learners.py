"""Learners side by side: the lead of each over a retrained head, also in levels of a score."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from leepjax._extras import require
from leepjax.evaluation import NULLS, Correlation, Level, in_levels, mean
from leepjax.report.tables import Section, Sheet, estimate_columns, format_estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = "retrained head"  # the baseline, and its name in tables
LEVELS = 5
COLUMNS = 4  # of settings; five do not fit 112 characters
# Okabe and Ito: safe for colour-blind readers.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
MARKERS = ("o-", "s--", "^:")  # one more for each round of colours


def gain_rows(
    shots: int,
    accuracies: Mapping[str, np.ndarray],
    notes: Mapping[str, str],
    membership: np.ndarray,
) -> list[dict[str, Any]]:
    """Rows of a table of gains for one number of shots.

    Args:
      shots: labelled images of a class.
      accuracies: ``[t]`` of each learner on the same tasks, the baseline ``HEAD`` among them.
      notes: by learner, a note on its predictions.
      membership: ``[t, g]`` bool, the clusters (target groups or classes) of each task.
    """
    rows = []
    for name, accuracy in accuracies.items():
        gain = accuracy - accuracies[HEAD]
        row = {"learner": name, "shots": shots, "tasks": len(accuracy), "note": notes[name]}
        for what, values in (("accuracy", accuracy), ("gain", gain)):
            row |= estimate_columns(what, mean(values, membership))
            # Few-shot papers print this half-width, which takes tasks for independent. It is here
            # to compare with their numbers, not to judge by.
            half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            row |= {f"{what}_half": float(half)}
        rows.append(row)
    return rows


def side_by_side(settings: Mapping[str, Sequence[Correlation]]) -> Section:
    """Pearson's r of every score, one column for each setting, several side by side."""
    names, sheets = list(settings), []
    for start in range(0, len(names), COLUMNS):
        shown = names[start : start + COLUMNS]
        by_score: dict[str, list[str]] = {}
        for name in shown:
            for row in settings[name]:
                by_score.setdefault(row.score, []).append(format_estimate(row.estimates["pearson"]))
        lines = [[f"{s} *" if s in NULLS else s, *cells] for s, cells in by_score.items()]
        sheets.append(Sheet(["score", *shown], lines))
    heading = "r [95 %] of scores of the source with the accuracy of each"
    return Section(heading, sheets, "* null.")


def accuracy_levels(
    score: np.ndarray, accuracies: Mapping[str, np.ndarray], membership: np.ndarray
) -> dict[str, list[Level]]:
    """Mean accuracy of each learner in five levels of a score."""
    return {
        name: in_levels(score, values[:, None], membership, levels=LEVELS)
        for name, values in accuracies.items()
    }


def level_rows(score: str, shots: int, levels: Mapping[str, Sequence[Level]]) -> list[dict]:
    """Rows of a table of these levels for one number of shots."""
    return [
        {
            "score": score,
            "shots": shots,
            "learner": name,
            "level": i,
            "lowest": level.scores[0],
            "highest": level.scores[1],
            "tasks": level.tasks,
            "mean": level.mean[0],
            "low": level.low[0],
            "high": level.high[0],
        }
        for name, of_learner in levels.items()
        for i, level in enumerate(of_learner, start=1)
    ]


def plot_accuracy_levels(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """The figure of rows as of :func:`level_rows`: a panel for each shot count."""
    require("figures")
    import matplotlib
    from matplotlib.figure import Figure

    panels = sorted({int(row["shots"]) for row in rows})
    score = rows[0]["score"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 3.6 * len(panels), 3.6), layout="constrained")
        figure.suptitle("\n".join(wrap(_finding(rows), 40 * len(panels))), fontweight="bold")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        for axis, shots in zip(axes, panels, strict=True):
            here = [row for row in rows if int(row["shots"]) == shots]
            names = list(dict.fromkeys(row["learner"] for row in here))
            for j, name in enumerate(names):
                look = {"color": COLOURS[j % len(COLOURS)], "fmt": MARKERS[j // len(COLOURS)]}
                of = [row for row in here if row["learner"] == name]
                mean, low, high = (
                    np.array([float(r[k]) for r in of]) for k in ("mean", "low", "high")
                )
                at = np.arange(1, LEVELS + 1) + 0.12 * (j - (len(names) - 1) / 2)
                bars = [mean - low, high - mean]
                axis.errorbar(at, mean, bars, label=name, ms=4, capsize=2, **look)
            first = [row for row in here if row["learner"] == names[0]]
            labels = [f"{float(r['lowest']):.2f}\nto {float(r['highest']):.2f}" for r in first]
            axis.set_xticks(np.arange(1, LEVELS + 1), labels)
            axis.set_xlabel(f"{score} of the support, fifths of the tasks")
            axis.set_title(f"{shots} shot{'s' if shots > 1 else ''}", fontsize=9)
        axes[0].set_ylabel("test accuracy (95 %, clustered)")
        axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _finding(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the levels show, in words, for the most accurate learner at the most shots."""
    most = max(int(row["shots"]) for row in rows)
    here = [row for row in rows if int(row["shots"]) == most]
    names = list(dict.fromkeys(row["learner"] for row in here))
    means = {n: [float(r["mean"]) for r in here if r["learner"] == n] for n in names}
    best = max(names, key=lambda name: float(np.mean(means[name])))
    lowest, highest = means[best][0], means[best][-1]
    score = rows[0]["score"]
    return (
        f"At {most} shots {best} reaches {highest:.2f} where {score} is highest and {lowest:.2f} "
        "where it is lowest"
    )

"""The results of a meta-transfer study, from the files of its run directory.

``gains.csv`` has one row for each learner and number of shots, ``accuracy_levels.csv`` one for each
of these and each level.
"""

from pathlib import Path

import matplotlib
import numpy as np

from leepjax.report import (
    HEAD,
    Section,
    Sheet,
    plot_accuracy_levels,
    read_correlations,
    read_table,
    side_by_side,
)
from leepjax.report.learners import STYLE


def sections(path: Path) -> list[Section]:
    """The accuracy of each learner, and the correlation of scores with it."""
    return [_gains(path), side_by_side(read_correlations(path))]


def _gains(path: Path) -> Section:
    """The accuracy of each learner, and its lead over the retrained head."""
    rows, lines = read_table(path / "gains.csv"), []
    for row in rows:
        n = {k: float(v) for k, v in row.items() if k not in ("learner", "note")}
        name = f"{row['learner']}, {row['shots']} shot{'s' if row['shots'] != '1' else ''}"
        cells = [f"{n['accuracy']:.3f} ± {n['accuracy_half']:.3f}", "", ""]
        if row["learner"] != HEAD:
            cells[1] = f"{100 * n['gain']:+.1f} ± {100 * n['gain_half']:.1f}"
            ends = 100 * n["gain_low"], 100 * n["gain_high"]
            cells[2] = (
                "[{:+.1f}, {:+.1f}]".format(*ends) if np.isfinite(ends).all() else "undefined"
            )
        lines.append([name, *cells, row["note"]])
    headings = [
        "learner",
        "accuracy ± 95 %",
        "ahead of head, points",
        "95 % for others",
        "queries judged",
    ]
    text = (
        f"{rows[0]['tasks']} tasks for each number of shots, the same for all learners, with one "
        "source and one meta-training. ±: 95 % over tasks, taken as independent, as is usual for "
        "few-shot results. For others: 95 % for tasks of other groups (scripts, alphabets), or of "
        "other classes if tasks are not drawn within groups. Queries judged together: all queries "
        "of the task are normalised together, so each prediction depends on the others "
        "(transductive)."
    )
    return Section("Accuracy of the meta-learners", [Sheet(headings, lines)], text)


def draw(path: Path) -> None:
    """Draw ``accuracy_levels.png`` and ``.svg`` of a run directory."""
    with matplotlib.rc_context(STYLE):
        figure = plot_accuracy_levels(read_table(path / "accuracy_levels.csv"))
        for suffix in ("png", "svg"):
            figure.savefig(path / f"accuracy_levels.{suffix}", dpi=150)

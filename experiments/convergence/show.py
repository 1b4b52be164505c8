"""The lead of fine-tuning, epoch by epoch, in levels of a score: written, read and printed.

``levels.csv`` has one row for each setting, level and epoch. The table and the figure are made from
it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from leepjax.evaluation import Level
from leepjax.report import (
    Run,
    draw_levels,
    finding,
    print_correlations,
    print_levels,
    read_correlations,
    read_table,
)


def write_levels(run: Run, score: str, settings: Mapping[str, Sequence[Level]]) -> None:
    """Write ``levels.csv`` and a figure for each setting.

    Args:
      run: the run directory.
      score: name of the score that the levels are of.
      settings: by name, the levels: lowest first, their means accuracy differences after 0, 1, ...
        epochs.
    """
    rows = [
        {
            "setting": setting,
            "score": score,
            "level": i,
            "lowest": level.scores[0],
            "highest": level.scores[1],
            "tasks": level.tasks,
            "epoch": epoch,
            "mean": level.mean[epoch],
            "low": level.low[epoch],
            "high": level.high[epoch],
        }
        for setting, levels in settings.items()
        for i, level in enumerate(levels, start=1)
        for epoch in range(len(level.mean))
    ]
    run.write_table("levels", rows)
    for setting, levels in settings.items():
        for suffix in ("png", "svg"):
            draw_levels(run.path / f"{setting}.{suffix}", finding(levels, score), score, levels)


def read_levels(path: Path) -> dict[str, tuple[str, list[Level]]]:
    """``levels.csv`` of a run directory: by setting, the score and its levels."""
    settings: dict[str, tuple[str, dict[str, list[dict[str, str]]]]] = {}
    for row in read_table(path / "levels.csv"):
        _, levels = settings.setdefault(row["setting"], (row["score"], {}))
        levels.setdefault(row["level"], []).append(row)

    def level(rows: list[dict[str, str]]) -> Level:
        scores = float(rows[0]["lowest"]), float(rows[0]["highest"])
        curves = (np.array([float(row[k]) for row in rows]) for k in ("mean", "low", "high"))
        return Level(scores, int(rows[0]["tasks"]), *curves)

    return {
        setting: (score, [level(rows) for rows in levels.values()])
        for setting, (score, levels) in settings.items()
    }


def show(path: Path, console: Console) -> None:
    """Print the levels and the correlations of every setting."""
    tables = read_correlations(path)
    for setting, (score, levels) in read_levels(path).items():
        print_levels(setting, score, levels, console)
        title = f"{setting}: scores against that lead, its mean over all epochs"
        print_correlations(title, tables[setting], console)
    console.print(f"Tables and figures: {path}", soft_wrap=True)

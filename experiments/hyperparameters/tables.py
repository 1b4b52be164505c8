"""The regret of each selector: its table and its figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from leepjax.choosing import regret_at_k
from leepjax.evaluation import Estimate, mean
from leepjax.report import (
    Section,
    Sheet,
    estimate_columns,
    format_mean,
    read_estimate,
    read_table,
)

SCORES = ("cross_fitted_leep", "leep", "nce", "h_score", "logme")
# The nulls: a head judged on held-out training images, neighbours and the linear probe; what looks
# at no target; what you would use without choosing; chance.
NULLS = (
    *("validation", "knn", "linear_probe", "predictive_r2"),
    *("source_accuracy", "default", "random"),
)
OURS, OTHER, NULL = "#D55E00", "#0072B2", "0.45"  # Okabe and Ito


def regret_rows(
    choice: str,
    scores: Mapping[str, np.ndarray],
    accuracy: np.ndarray,
    membership: np.ndarray,
) -> list[dict[str, Any]]:
    """Rows of ``regret.csv``: mean regret of a choice by selector, compared with chance and 5-NN.

    Args:
      choice: its name.
      scores: ``[t, m]`` by selector.
      accuracy: ``[t, m]`` of the candidates.
      membership: ``[t, g]`` bool, the clusters (target groups or classes) of each task.
    """
    lost = {name: regret_at_k(values, accuracy) for name, values in scores.items()}
    rows = []
    for name, values in lost.items():
        row = {"choice": choice, "selector": name, "candidates": accuracy.shape[1]}
        row |= {"tasks": len(values)}
        row |= estimate_columns("regret", mean(values, membership))
        for other in ("random", "knn"):
            less = mean(lost[other] - values, membership)
            row |= estimate_columns(f"less_than_{other}", less)
        rows.append(row)
    return rows


def sections(path: Path) -> list[Section]:
    """The tables of a run directory, with a summary in words."""
    rows = read_table(path / "regret.csv")
    found = []
    for choice in dict.fromkeys(row["choice"] for row in rows):
        here = [row for row in rows if row["choice"] == choice]
        names = list(dict.fromkeys(r["candidate"] for r in _candidates(path, choice)))
        lines = [
            [
                f"{row['selector']} *" if row["selector"] in NULLS else row["selector"],
                _points(row, "regret"),
                _points(row, "less_than_random", sign="+"),
                _points(row, "less_than_knn", sign="+"),
            ]
            for row in sorted(here, key=lambda row: float(row["regret"]))
        ]
        headings = ["chosen by", "regret, points", "less than random", "less than 5-NN"]
        heading = f"{choice}: {len(names)} candidates, {here[0]['tasks']} tasks"
        text = f"{verdict(here)} Candidates and mean accuracy: {_means(path, choice)}."
        found.append(Section(heading, [Sheet(headings, lines)], text))
    return [*found, *gradient_sections(path)]


def verdict(rows: Sequence[Mapping[str, str]]) -> str:
    """How cross-fitted LEEP compares with chance and 5-NN in one choice, in words."""
    ours = next(row for row in rows if row["selector"] == SCORES[0])
    nulls = [row for row in rows if row["selector"] in NULLS]
    best = min(nulls, key=lambda row: float(row["regret"]))
    said = {"random": "", "knn": ""}
    for other in said:
        low, high = (float(ours[f"less_than_{other}_{end}"]) for end in ("low", "high"))
        unclear = "not significantly different from"
        said[other] = "better than" if low > 0 else "worse than" if high < 0 else unclear
    return (
        f"Choosing by cross-fitted LEEP loses {_points(ours, 'regret')} points against choosing by "
        f"full training. It is {said['random']} chance and {said['knn']} 5-NN. The null that loses "
        f"least is {best['selector']}, {_points(best, 'regret')}."
    )


def gradient_sections(path: Path) -> list[Section]:
    """How good parameters chosen by gradient are on images that were not used to choose them."""
    if not (path / "gradient.csv").exists():
        return []
    lines = []
    for row in read_table(path / "gradient.csv"):
        name = f"{row['family']}: {row['way']}"
        values = [f"{float(row[k]):.2f}" for k in ("leep", "held_out")]
        ahead = (
            ""
            if row["way"] == "start"
            else format_mean(read_estimate(row, "held_out_ahead"), "+", percent=False)
        )
        gained = "" if row["way"] == "start" else _points(row, "accuracy_ahead", sign="+")
        accuracy = f"{100 * float(row['accuracy']):.1f}"
        lines.append([f"{name} *" if row["way"] in ("start", "grid") else name])
        lines[-1] += [*values, ahead, accuracy, gained]
    headings = ["parameter: chosen by", "LEEP", "held out", "ahead of start"]
    headings += ["accuracy", "ahead, points"]
    text = (
        "LEEP is that of the training images, in nats. Held out is the mean log-likelihood of the "
        "test images, in nats. Accuracy is that of the expected empirical predictor on the test "
        "images, in per cent. Start: T = 1, equal class weights, or equal weights of the sources. "
        "Grid: the best of 25 temperatures, or the best source alone, by cross-fitted LEEP."
    )
    return [Section("Chosen by gradient", [Sheet(headings, lines)], text)]


def draw(path: Path) -> None:
    """Draw ``regret.png`` and ``.svg`` of a run directory: a panel a choice."""
    rows = read_table(path / "regret.csv")
    choices = list(dict.fromkeys(row["choice"] for row in rows))
    columns = min(3, len(choices))
    lines = -(-len(choices) // columns)
    with matplotlib.rc_context(
        {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(1 + 3.2 * columns, 0.6 + 2.7 * lines), layout="constrained")
        figure.suptitle("\n".join(wrap(_finding(rows), 38 * columns)), fontweight="bold")
        figure.supxlabel("accuracy lost to the best candidate, points (95 %, clustered)")
        axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
        for axis, choice in zip(axes, choices, strict=False):
            here = [row for row in rows if row["choice"] == choice]
            here = sorted(here, key=lambda row: row["selector"] in NULLS)[::-1]
            chance = next(float(r["regret"]) for r in here if r["selector"] == "random")
            axis.axvline(100 * chance, color="0.7", linewidth=0.8, linestyle="--")
            for y, row in enumerate(here):
                mean, low, high = 100 * np.array(_estimate(row, "regret"))
                name = row["selector"]
                colour = OURS if name == SCORES[0] else NULL if name in NULLS else OTHER
                marker = "s" if name in NULLS else "o"
                bars = [[mean - low], [high - mean]] if np.isfinite([low, high]).all() else None
                axis.errorbar(mean, y, xerr=bars, fmt=marker, ms=4, capsize=2, color=colour)
            labels = [r["selector"] + (" *" if r["selector"] in NULLS else "") for r in here]
            axis.set_yticks(range(len(here)), labels)
            axis.set_title(f"{choice} ({here[0]['candidates']})", fontsize=9)
            axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        for axis in axes[len(choices) :]:
            axis.remove()
        for suffix in ("png", "svg"):
            figure.savefig(path / f"regret.{suffix}", dpi=150)


def _finding(rows: Sequence[Mapping[str, str]]) -> str:
    ours = [row for row in rows if row["selector"] == SCORES[0]]
    chance = [r["choice"] for r in ours if float(r["less_than_random_low"]) > 0]
    near = [r["choice"] for r in ours if float(r["less_than_knn_low"]) > 0]
    far = [r["choice"] for r in ours if float(r["less_than_knn_high"]) < 0]
    return (
        f"Choosing by cross-fitted LEEP beats chance in {len(chance)} of {len(ours)} choices and "
        f"5-NN in {len(near)}{_listed(near)}. It is worse than 5-NN in {len(far)}{_listed(far)}. "
        "Dashed: chance; *: null"
    )


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _candidates(path: Path, choice: str) -> list[dict[str, str]]:
    return [row for row in read_table(path / "results.csv") if row["choice"] == choice]


def _means(path: Path, choice: str) -> str:
    by_name: dict[str, list[float]] = {}
    for row in _candidates(path, choice):
        by_name.setdefault(row["candidate"], []).append(float(row["accuracy"]))
    return ", ".join(f"{name} {np.mean(values):.3f}" for name, values in by_name.items())


def _points(row: Mapping[str, str], name: str, sign: str = "") -> str:
    return format_mean(_estimate(row, name), sign)


def _estimate(row: Mapping[str, str], name: str) -> Estimate:
    """A mean and its interval; that of a regret is cut at 0, because no regret is negative."""
    found = read_estimate(row, name)
    return Estimate(*np.maximum(found, 0)) if name == "regret" else found

"""The tables and figures of a grouping study, from the files of its run directory."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.cluster.hierarchy import dendrogram

from experiments.multitask_groups.scores import NULLS
from experiments.multitask_groups.tables import ALONE, RANDOM, SEED, TOGETHER
from leepjax.choosing import average_linkage, pair_interaction, standardise_columns
from leepjax.evaluation import Estimate
from leepjax.report import Section, Sheet, format_estimate, format_mean, read_estimate, read_table

POINTS, FAINT = "#0072B2", "#999999"  # Okabe and Ito: safe for colour-blind readers
LABEL = 22  # characters of a task's name in a figure


def sections(path: Path) -> list[Section]:
    """Tables of a run directory, with a summary in words."""
    return [_tasks(path), _comparison(path), _correlation(path)]


def _tasks(path: Path) -> Section:
    rows = read_table(path / "tasks.csv")
    groups = {r["grouping"]: r["groups"] for r in read_table(path / "groupings.csv")}
    first = next(iter(groups))
    group_of = {int(t): k for k, g in enumerate(groups[first].split(" | "), 1) for t in g.split()}
    lines = []
    for r in rows:
        counts = (r[name] for name in ("name", "data", "classes", "num_train", "num_test"))
        lines.append([*counts, f"{float(r['alone']):.3f}", str(group_of[int(r["task"])])])
    headings = ["task", "data", "classes", "train", "test", "alone", f"group by {first}"]
    return Section("Tasks, and their test accuracy alone", [Sheet(headings, lines)])


def _comparison(path: Path) -> Section:
    rows = read_table(path / "comparison.csv")
    first = rows[0]["grouping"]
    reached, against = [], []
    for r in rows:
        name = _starred(r["grouping"], (*NULLS, RANDOM, TOGETHER, ALONE))
        sizes = "" if r["grouping"] == ALONE else r["sizes"]
        gain = "" if r["grouping"] == ALONE else format_mean(read_estimate(r, "gain"), "+")
        reached.append([name, sizes, f"{float(r['accuracy']):.3f}", gain])
        ahead = ["", ""]
        if r["partitions"]:
            mean = format_mean(read_estimate(r, "ahead"), "+")
            ahead = [mean, f"{r['beaten']} of {r['partitions']}"]
        behind = "" if r["grouping"] == first else format_mean(read_estimate(r, "behind"), "+")
        against.append([name, *ahead, behind])
    headings = ["groups by", "sizes", "accuracy", "ahead of alone"]
    others = ["groups by", "ahead of random", "random beaten", f"{first} ahead of these"]
    text = (
        "* null. Points of accuracy [95 % over tasks]. Random: random partitions into groups of "
        "the same sizes. The table shows the lead over their mean, and how many of them have a "
        f"lower mean accuracy. {finding(path)}."
    )
    heading = "The accuracy of groups that were trained together"
    return Section(heading, [Sheet(headings, reached), Sheet(others, against)], text)


def _correlation(path: Path) -> Section:
    found = _correlations(path)
    lines = [
        [
            _starred(name, NULLS),
            format_estimate(row["within_target"]),
            format_estimate(row["pairs"]),
            format_mean(row["partner"], "+"),
        ]
        for name, row in found.items()
    ]
    headings = ["score", "r within target", "r of pairs", "best-scored partner, points"]
    text = (
        "* null. The scores come from networks trained again, from other parameters than groups "
        "and their scores. r within target: the correlation of the score of task i's network on "
        "task j with what j gains over training alone when the two are trained together. r of "
        "pairs: the correlation of affinity with what the two gain beyond what each gains and "
        "gives on average. Partner: how much more a task gains beside the task that scores highest "
        f"on it than beside an average one. {SEED}: the gain itself, in another training, instead "
        f"of a score. 95 % over tasks. {direct_finding(path)}."
    )
    return Section("Do scores predict what pairs gain?", [Sheet(headings, lines)], text)


def finding(path: Path) -> str:
    """Whether groups by the first score beat random ones, in words."""
    row = read_table(path / "comparison.csv")[0]
    ahead = read_estimate(row, "ahead")
    text = f"Groups by {row['grouping']} lead random groups by {format_mean(ahead, '+')} points"
    if not np.isfinite(ahead.low):
        return f"{text}; too few tasks for an interval"
    if ahead.low > 0:
        return text
    return f"{text}: {'they are worse' if ahead.high < 0 else 'not significantly better'}"


def direct_finding(path: Path) -> str:
    """The first score's r of pairs compared with the best null's, in words."""
    found = _correlations(path)
    first = next(iter(found))
    r = found[first]["pairs"]
    text = f"Of pairs, {first} has r = {format_estimate(r)}"
    nulls = {n: row["pairs"] for n, row in found.items() if n in NULLS}
    nulls = {n: e for n, e in nulls.items() if np.isfinite(e.value)}
    if nulls:
        best = max(nulls, key=lambda n: nulls[n].value)
        text += f", the best null, {best}, {format_estimate(nulls[best])}"
        if not r.low > nulls[best].value:
            text += f"; {first}'s interval does not lie above that null"
    if "ceiling" in found.get(SEED, {}):
        text += ". Because of noise a perfect score would have r = "
        text += f"{format_estimate(found[SEED]['ceiling'])} within target"
    return text


def draw(path: Path) -> None:
    """Draw ``affinity`` and ``gains``, ``.png`` and ``.svg``, in a run directory."""
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        for name, figure in (("affinity", _draw_affinity(path)), ("gains", _draw_gains(path))):
            for suffix in ("png", "svg"):
                figure.savefig(path / f"{name}.{suffix}", dpi=150)


def _draw_affinity(path: Path) -> Figure:
    """Dendrogram over heat map, groups outlined; beside it the gains of pairs."""
    names = [row["name"][:LABEL] for row in read_table(path / "tasks.csv")]
    rows = read_table(path / "scores.csv")
    first = rows[0]["score"]
    close = np.zeros((len(names), len(names)))
    for row in rows:
        if row["score"] == first:
            close[int(row["source"]), int(row["target"])] = float(row["affinity"])
    linked = average_linkage(close)
    partition = next(iter(read_table(path / "groupings.csv")))["groups"].split(" | ")
    groups = [[int(t) for t in g.split()] for g in partition]
    figure = Figure(figsize=(10.5, 6.3), layout="constrained")
    figure.suptitle("\n".join(wrap(direct_finding(path), 120)), fontweight="bold", fontsize=9)
    left, right = figure.subplots(1, 2)
    above = left.inset_axes((0, 1.08, 1, 0.2))
    drawn = dendrogram(linked, ax=above, no_labels=True, link_color_func=lambda _: "black")
    above.set_ylim(bottom=-0.05 * linked[-1, 2])  # the nearest two tasks meet at 0
    above.set_axis_off()
    order = drawn["leaves"]
    gain = 100 * pair_interaction(_pair_gains(path))
    for axis, matrix, label in (
        (left, close, f"affinity by {first}"),
        (right, gain, "what pairs gained, points of accuracy"),
    ):
        shown = matrix[np.ix_(order, order)]
        limit = np.abs(shown).max()
        np.fill_diagonal(shown, np.nan)
        image = axis.imshow(shown, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{label}, beyond each task's own", fontsize=9, y=1)
        axis.set_xticks(range(len(names)), [names[i] for i in order], rotation=90, fontsize=8)
        axis.set_yticks(range(len(names)), [names[i] for i in order], fontsize=8)
        for group in groups:
            at = min(order.index(t) for t in group) - 0.5
            axis.add_patch(Rectangle((at, at), len(group), len(group), fill=False, lw=1.8))
        figure.colorbar(image, ax=axis, shrink=0.5)
    left.set_xlabel(f"boxes: groups by {first}; order: its tree, average linkage", fontsize=8)
    return figure


def _draw_gains(path: Path) -> Figure:
    """The lead of each grouping over training alone, and score against gain over pairs."""
    rows = [row for row in read_table(path / "comparison.csv") if row["grouping"] != ALONE]
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    figure.suptitle("\n".join(wrap(finding(path), 120)), fontweight="bold", fontsize=9)
    left, right = figure.subplots(1, 2)
    for at, row in enumerate(reversed(rows)):
        mean, low, high = (100 * v for v in read_estimate(row, "gain"))
        null = row["grouping"] in (*NULLS, RANDOM, TOGETHER)
        look = {"color": FAINT if null else POINTS, "fmt": "o", "capsize": 2}
        left.errorbar(mean, at, xerr=[[mean - low], [high - mean]], **look)
        if row["ahead"]:
            left.plot(mean - 100 * float(row["ahead"]), at, "|", color="black", ms=12)
    left.axvline(0, color="0.6", lw=0.8)
    left.set_yticks(range(len(rows)), [f"{r['grouping']} ({r['sizes']})" for r in reversed(rows)])
    left.set_xlabel(
        "lead over training alone, points (95 % over tasks)\n"
        "grey: nulls; bar: random groups of the same sizes"
    )
    first, gain = rows[0]["grouping"], _pair_gains(path)
    scores = np.zeros_like(gain)
    for row in read_table(path / "scores.csv"):
        if row["score"] == first:
            scores[int(row["source"]), int(row["target"])] = float(row["independent"])
    others = ~np.eye(len(gain), dtype=bool)
    x, y = standardise_columns(scores)[others], (gain - gain.mean(0, where=others))[others]
    right.plot(x, 100 * y, "o", color=POINTS, alpha=0.5, ms=4, mew=0)
    right.axhline(0, color="0.6", lw=0.8)
    r = _correlations(path)[first]["within_target"]
    right.set_title(f"r within target = {format_estimate(r)}", fontsize=9)
    right.set_xlabel(f"{first} of the partner's network on a task,\nstandardised within the task")
    right.set_ylabel("gain beside that partner\nminus the task's mean, points")
    return figure


def _pair_gains(path: Path) -> np.ndarray:
    """``[t, t]`` mean over seeds of what task j gains beside task i, at ``[i, j]``."""
    count = len(read_table(path / "tasks.csv"))
    found: list[list[list[float]]] = [[[] for _ in range(count)] for _ in range(count)]
    for row in read_table(path / "results.csv"):
        group, j = [int(t) for t in row["group"].split()], int(row["task"])
        if len(group) == 2:
            found[sum(group) - j][j].append(float(row["gain"]))
    return np.array([[np.mean(v) if v else 0.0 for v in line] for line in found])


def _correlations(path: Path) -> dict[str, dict[str, Estimate]]:
    found: dict[str, dict[str, Estimate]] = {}
    for row in read_table(path / "correlation.csv"):
        of_score = found.setdefault(row["score"], {})
        of_score[row["statistic"]] = read_estimate(row)
    return found


def _starred(name: str, nulls: Sequence[str]) -> str:
    return f"{name} *" if name in nulls else name

"""The tables, summary and figure of a choice among sources, from its CSV files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from experiments.select_source.ways import EVERY, RANK, Table, Way
from leepjax.choosing import expected_recall, expected_regret
from leepjax.data import Bank
from leepjax.evaluation import NULLS, Estimate
from leepjax.report import Section, Sheet, format_estimate, format_mean, read_estimate, read_table
from leepjax.tasks import Tasks

FACTS = ("parameters", "source_accuracy", "operations")
# Okabe and Ito: safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
Rows = list[dict[str, Any]]


def source_rows(table: Table, unit: int) -> Rows:
    """Rows of ``sources.csv``: facts, costs and mean accuracies of each source."""
    reached = table.reached
    best = reached == reached.max(1, keepdims=True)
    return [
        {"source": name}
        | {fact: float(values[i]) for fact, values in table.facts.items()}
        | {"score_cost": float(table.score_cost[i]), "tune_cost": float(table.tune_cost[i, -1])}
        | {"epochs": unit, "head": float(table.head[:, i].mean())}
        | {"fine_tuned": float(reached[:, i].mean())}
        | {"diverged": int(np.isnan(table.test[:, i, -1]).sum())}
        | {"best": float((best / best.sum(1, keepdims=True))[:, i].mean())}
        for i, name in enumerate(table.names)
    ]


def result_rows(table: Table, tasks: Tasks, bank: Bank) -> Rows:
    """Rows of ``results.csv``: a source on a task, with all that it can be chosen by."""
    columns = table.columns()
    return [
        {
            "target": f"task {t}",
            "model": name,
            "group": bank.group_names[tasks.groups[t]] if tasks.groups[t] >= 0 else "",
            "classes": " ".join(str(c) for c in tasks.classes[t]),
        }
        | {score: float(values[t, i]) for score, values in columns.items()}
        | {"head": float(table.head[t, i]), "accuracy": float(table.test[t, i, -1])}
        for t in range(len(table.head))
        for i, name in enumerate(table.names)
    ]


def trial_rows(table: Table, epochs: Sequence[int]) -> Rows:
    """Rows of ``trials.csv``: each fine-tune, its accuracies (NaN if it diverged) and its cost."""
    return [
        {
            "target": f"task {t}",
            "model": name,
            "epochs": number,
            "validation": float(table.validation[t, i, r]),
            "test": float(table.test[t, i, r]),
            "cost": float(table.tune_cost[i, r]),
        }
        for t in range(len(table.head))
        for i, name in enumerate(table.names)
        for r, number in enumerate(epochs)
    ]


def choice_rows(table: Table, ways: Sequence[Way]) -> Rows:
    """Rows of ``choices.csv``: what each way of choosing ends with on each task."""
    return [
        {"by": way.by, "tried": way.tried, "short": way.short, "target": f"task {t}"}
        | {"regret": float(lost), "cost": float(way.choice.cost[t]), "best_chosen": float(found)}
        for way in ways
        for t, (lost, found) in enumerate(
            zip(
                expected_regret(way.choice.probability, table.reached),
                expected_recall(way.choice.probability, table.reached),
                strict=True,
            )
        )
    ]


def sections(path: Path) -> Iterator[Section]:
    """The results, from the tables in a run directory."""
    yield _sources(read_table(path / "sources.csv"), _tasks(path))
    yield _ways(read_table(path / "ways.csv"))
    yield _correlations(read_table(path / "correlation.csv"))


def _tasks(path: Path) -> int:
    return len({row["target"] for row in read_table(path / "choices.csv")})


def _sources(rows: Rows, tasks: int) -> Section:
    lines = []
    for row in rows:
        known = float(row["source_accuracy"])
        lines.append(
            [
                row["source"],
                f"{float(row['parameters']):,.0f}",
                f"{float(row['operations']) / 1e6:.1f}",
                f"{known:.3f}" if np.isfinite(known) else "unknown",
                f"{float(row['head']):.3f}",
                f"{float(row['fine_tuned']):.3f}",
                f"{float(row['best']):.2f}",
            ]
        )
    diverged = sum(int(row["diverged"]) for row in rows)
    headings = ["source", "parameters", "Mflop", "own test", "head", "fine-tuned", "best"]
    text = (
        "Mflop: of a forward pass over one image. Own test: accuracy on the source's own test "
        f"images. The other columns are means over {tasks} target tasks. Fine-tuned: the whole "
        f"network, {rows[0]['epochs']} epochs. Best: share of the tasks on which no other "
        "fine-tuned source is more accurate."
    )
    if diverged:
        text += f" {diverged} fine-tunings diverged, and count as accuracy 0."
    return Section(f"{len(rows)} sources", [Sheet(headings, lines)], text)


def _ways(rows: Rows) -> Section:
    lines = []
    for row in sorted(rows, key=lambda r: (float(r["tried"]), _half(r), float(r["regret"]))):
        ahead = _points(row, "ahead", "+") if row.get("ahead") else ""
        cells = [_tried(row), _points(row, "regret"), f"{float(row['cost']):.2f}"]
        lines.append([_name(row), *cells, f"{float(row['best_chosen']):.2f}", ahead])
    headings = ["chosen by", "fine-tuned", "regret, points [95 %]", "cost", "best chosen"]
    text = (
        f"{in_words(rows)} Regret: test accuracy lost to the source that was best on the task, in "
        "points. Its interval, and that of differences, is for other tasks of this target and "
        "these sources. Cost: floating-point operations of all fine-tunings, and of forward passes "
        "if a score needs them. A full fine-tuning of a source costs 1, on average over sources. "
        "Halved: all are fine-tuned briefly, the better half by validation accuracy for longer, "
        "and so on. The best source is judged on the test images, so some of every regret is their "
        "noise. Best null: the null with the smallest regret, in hindsight, among those with as "
        f"many sources tried; for {RANK} with at least as many."
    )
    return Section("Ways to choose", [Sheet([*headings, "ahead of best null"], lines)], text)


def in_words(rows: Rows) -> str:
    """The best score and the best null, with one and with several sources fine-tuned."""
    found = []
    held = [row for row in rows if row.get("ahead")]
    for tried in sorted({row["tried"] for row in held if row["by"] != RANK}, key=float):
        scores = [r for r in held if r["tried"] == tried and r["by"] != RANK]
        best = min(scores, key=lambda r: float(r["regret"]))
        null = next(r for r in rows if (r["by"], r["tried"]) == (best["best_null"], tried))
        clear = [r["by"] for r in scores if float(r["ahead_low"]) > 0]
        sure = f"Significantly better than this null: {', '.join(clear)}" if clear else ""
        sure = sure or "No score is significantly better than this null"
        found.append(
            f"{'One source' if tried == '1' else f'{tried} sources'} fine-tuned: the best score is "
            f"{best['by']}, regret {_points(best, 'regret')}, and the best null {null['by']}, "
            f"{_points(null, 'regret')}. {sure}."
        )
    for row in (row for row in rows if row["by"] == RANK):
        found.append(
            f"The sources that leepjax rank recommends, {_tried(row)}: regret "
            f"{_points(row, 'regret')}."
        )
    return " ".join(found)


def _correlations(rows: Rows) -> Section:
    cells: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        estimate = read_estimate(row)
        cells.setdefault(row["score"], {})[row["accuracy"]] = estimate

    def first(name: str) -> float:
        value = cells[name]["fine_tuned"].value
        return -value if np.isfinite(value) else np.inf

    lines = [
        [f"{name} *" if name in NULLS else name]
        + [format_estimate(cells[name][kind]) for kind in ("head", "fine_tuned")]
        for name in sorted(cells, key=first)
    ]
    headings = ["score", "r [95 %] with head's accuracy", "r [95 %] with fine-tuned"]
    text = (
        "Pearson's r over the sources of a task, mean over tasks. Intervals are for other tasks "
        "and other sources."
    )
    return Section("Do scores order the sources?", [Sheet(headings, lines)], text)


def draw(path: Path) -> None:
    """Draw ``regret.png`` and ``.svg`` of a run directory: a point for each way of choosing."""
    rows = read_table(path / "ways.csv")
    names = list(dict.fromkeys(row["by"] for row in rows))
    scores = [n for n in names if not _null(rows, n) and n != EVERY]
    nulls = [n for n in names if _null(rows, n)]
    looks = {n: (COLOURS[i % len(COLOURS)], True) for i, n in enumerate(scores)}
    looks |= {n: (COLOURS[i % len(COLOURS)], False) for i, n in enumerate(nulls)}
    looks[EVERY] = "#000000", True
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        figure.suptitle("\n".join(wrap(finding(rows), 96)), fontweight="bold", fontsize=9)
        axis = figure.subplots()
        shapes = {}
        for row in rows:
            shape = {RANK: "^", EVERY: "D"}.get(row["by"], "o" if row["tried"] == "1" else "s")
            shapes[shape] = _tried(row) if shape != "D" else "all, halved or in full"
            colour, filled = looks[row["by"]]
            regret, low, high = (100 * float(row[k]) for k in _ENDS)
            axis.errorbar(
                _aside(rows, row),
                regret,
                [[regret - max(low, 0)], [high - regret]] if np.isfinite(low) else None,
                fmt=shape,
                color=colour,
                markerfacecolor=colour if filled else "white",
                elinewidth=0.8,
                markersize=6,
            )
        for name in [*scores, *nulls, EVERY]:
            colour, filled = looks[name]
            label = f"{name} (null)" if name in nulls else name
            face = colour if filled else "white"
            axis.plot([], [], "o", color=colour, markerfacecolor=face, label=label)
        for shape, label in shapes.items():
            axis.plot([], [], shape, color="0.5", label=f"fine-tuned: {label}")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("cost, in full fine-tunes of an average source")
        axis.set_ylabel("regret, points of test accuracy (95 %, over tasks)")
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        for suffix in ("png", "svg"):
            figure.savefig(path / f"regret.{suffix}", dpi=150)


def finding(rows: Rows) -> str:
    """What the figure shows, in words."""
    alone = [r for r in rows if r["tried"] == "1"]
    best = min((r for r in alone if r.get("ahead")), key=lambda r: float(r["regret"]))
    null = min((r for r in alone if r["null"] == "True"), key=lambda r: float(r["regret"]))
    halved = next(r for r in rows if r["by"] == EVERY and r["short"] == "True")
    return (
        f"{best['by']}, the best score, loses {_number(best)} points, {null['by']}, the best null, "
        f"{_number(null)}, at {float(best['cost']):.1f} and {float(null['cost']):.1f} full "
        f"fine-tunings; halving all sources loses {_number(halved)} at {float(halved['cost']):.1f}"
    )


_ENDS = ("regret", "regret_low", "regret_high")


def _aside(rows: Rows, row: dict[str, Any]) -> float:
    """The cost, moved a little if others of the same kind have the same cost."""
    same = [r for r in rows if (r["tried"], r["short"]) == (row["tried"], row["short"])]
    order = sorted(same, key=lambda r: float(r["cost"])).index(row)
    return float(row["cost"]) * 1.02 ** (order - (len(same) - 1) / 2)


def _null(rows: Rows, name: str) -> bool:
    return any(row["by"] == name and row["null"] == "True" for row in rows)


def _name(row: dict[str, Any]) -> str:
    return f"{row['by']} *" if row["null"] == "True" else row["by"]


def _half(row: dict[str, Any]) -> bool:
    return row["short"] != "True"


def _tried(row: dict[str, Any]) -> str:
    number = f"{float(row['tried']):.3g}"
    return f"{number}, halved" if row["short"] == "True" else number


def _number(row: dict[str, Any]) -> str:
    return f"{100 * float(row['regret']):.1f}"


def _points(row: dict[str, Any], name: str, sign: str = "") -> str:
    """In points; the interval of a regret is cut at 0, because no regret is negative."""
    found = read_estimate(row, name)
    return format_mean(Estimate(*np.maximum(found, 0)) if name == "regret" else found, sign)

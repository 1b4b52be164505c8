"""The tables of a study, written from arrays and read back to be shown and drawn.

``results.csv`` has one row a task: setting, group, classes, every score, the learner's results.
``correlation.csv`` has one row for each setting, score and statistic, with its interval;
``without_class.csv`` Pearson's r of every score with all tasks that contain one class left out.
Tasks whose training diverged are in the first table, with the epoch in which they ``failed``, and
left out of the others. Of a sweep ``recipe`` is the number, from 0, of the setting that a task's
validation images chose, as listed in ``metrics.jsonl``. ``curves.csv``, of learners that train in
epochs, has one row for each task and epoch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from leepjax.data import Bank
from leepjax.evaluation import Correlation, Estimate, correlate
from leepjax.report.figures import scatter
from leepjax.report.run import Run, read_table
from leepjax.report.tables import print_correlations, read_estimate, verdict
from leepjax.tasks import Tasks

Rows = list[dict[str, Any]]


def write_study(run: Run, bank: Bank, settings: Mapping[str, tuple[Tasks, Any, Any]]) -> None:
    """Correlate every setting and write the three tables and a figure for each setting.

    Args:
      run: the run directory.
      bank: the train bank, for the names of classes and groups.
      settings: by name: tasks, scores ``{name: [t]}``, and a learner's result, a NamedTuple of
        arrays ``[t]`` with ``accuracy`` among them, and of curves ``[t, epochs + 1]`` or
        ``[t, epochs]``, the latter from the first epoch on.
    """
    results: Rows = []
    curves: Rows = []
    tables, classes = {}, {}
    for setting, (tasks, scores, result) in settings.items():
        results += _task_rows(setting, bank, tasks, scores, result)
        curves += _curve_rows(setting, result)
        failed = np.asarray(getattr(result, "failed", np.zeros(len(result.accuracy)))) > 0
        if failed.all():
            raise ValueError(
                f"learning rate: the training of all {len(failed)} tasks of {setting} diverged; "
                "lower it"
            )
        run.log(event="tasks", setting=setting, tasks=len(failed), failed=int(failed.sum()))
        kept = jax.tree.map(lambda array, failed=failed: array[~failed], tasks)
        classes[setting] = kept.classes
        tables[setting] = correlate(
            {name: np.asarray(values)[~failed] for name, values in scores.items()},
            result.accuracy[~failed],
            kept,
        )
    run.write_table("results", results)
    if curves:
        run.write_table("curves", curves)
    write_correlations(run, tables, classes, bank.class_names)
    draw_study(run.path)


def write_correlations(
    run: Run,
    tables: Mapping[str, Sequence[Correlation]],
    classes: Mapping[str, np.ndarray],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write ``correlation.csv`` and ``without_class.csv``.

    Args:
      run: the run directory.
      tables: the correlations of each setting.
      classes: ``[t, k]`` class ids of its tasks, padded with -1.
      class_names: by id; None: their numbers.
    """
    correlations: Rows = []
    without: Rows = []
    for setting, table in tables.items():
        for row in table:
            for statistic, estimate in row.estimates.items():
                key = {"setting": setting, "score": row.score, "statistic": statistic}
                correlations.append(key | estimate._asdict())
        for c in np.unique(classes[setting][classes[setting] >= 0]):
            key = {"setting": setting, "class": str(c) if class_names is None else class_names[c]}
            without.append(key | {row.score: row.without_class[c] for row in table})
    run.write_table("correlation", correlations)
    run.write_table("without_class", without)


def _task_rows(setting: str, bank: Bank, tasks: Tasks, scores: Any, result: Any) -> Rows:
    rows = []
    for i, classes in enumerate(tasks.classes):
        present = classes[classes >= 0]
        row = {
            "setting": setting,
            "task": i,
            "group": bank.group_names[tasks.groups[i]] if tasks.groups[i] >= 0 else "",
            "classes": " ".join(str(c) for c in present),
            "num_classes": len(present),
            "num_train": int(tasks.train.where[i].sum()),
            "num_test": int(tasks.test.where[i].sum()),
        }
        row |= {name: float(values[i]) for name, values in scores.items()}
        reached = {k: v for k, v in result._asdict().items() if np.ndim(v) == 1}
        rows.append(row | {name: float(values[i]) for name, values in reached.items()})
    return rows


def _curve_rows(setting: str, result: Any) -> Rows:
    curves = {k: v for k, v in result._asdict().items() if np.ndim(v) == 2}
    if not curves:
        return []
    length = max(values.shape[1] for values in curves.values())
    padded = {
        name: np.pad(values, ((0, 0), (length - values.shape[1], 0)), constant_values=np.nan)
        for name, values in curves.items()
    }
    return [
        {"setting": setting, "task": i, "epoch": epoch}
        | {name: float(values[i, epoch]) for name, values in padded.items()}
        for i in range(len(result.accuracy))
        for epoch in range(length)
    ]


def read_correlations(path: Path) -> dict[str, list[Correlation]]:
    """``correlation.csv`` and ``without_class.csv`` of a run directory, ``{setting: [...]}``."""
    settings: dict[str, dict[str, dict[str, Estimate]]] = {}
    for row in read_table(path / "correlation.csv"):
        estimates = settings.setdefault(row["setting"], {}).setdefault(row["score"], {})
        estimates[row["statistic"]] = read_estimate(row)
    rows = read_table(path / "without_class.csv")

    def without(setting: str, score: str) -> np.ndarray:
        return np.array([float(row[score]) for row in rows if row["setting"] == setting])

    return {
        setting: [
            Correlation(score, estimates, without(setting, score))
            for score, estimates in scores.items()
        ]
        for setting, scores in settings.items()
    }


def draw_study(path: Path) -> None:
    """Draw ``SETTING.png`` and ``SETTING.svg`` of a run directory from its tables."""
    results = read_table(path / "results.csv")
    for setting, table in read_correlations(path).items():
        rows = _trained(results, setting)
        scores = {c.score: np.array([float(row[c.score]) for row in rows]) for c in table}
        accuracy = np.array([float(row["accuracy"]) for row in rows])
        figure = scatter(path / f"{setting}.png", verdict(table), scores, accuracy, table)
        figure.set_layout_engine("none")  # the layout takes longest, so it is computed once
        figure.savefig(path / f"{setting}.svg", dpi=150)


def show_study(path: Path, console: Console) -> None:
    """Print the correlation table of every setting of a run directory, and where its files are."""
    results = read_table(path / "results.csv")
    for setting, table in read_correlations(path).items():
        accuracy = np.array([float(row["accuracy"]) for row in _trained(results, setting)])
        title = (
            f"{setting}: {len(accuracy)} tasks, "
            f"accuracy {accuracy.mean():.3f} ± {accuracy.std():.3f} (standard deviation)"
        )
        failed = sum(row["setting"] == setting for row in results) - len(accuracy)
        if failed:
            title += f"; left out: {failed} more, whose training diverged"
        print_correlations(title, table, console)
    console.print(f"Tables and figures: {path}", soft_wrap=True)


def _trained(results: list[dict[str, str]], setting: str) -> list[dict[str, str]]:
    """Rows of a setting, without the tasks whose training diverged."""
    return [r for r in results if r["setting"] == setting and not float(r.get("failed") or 0)]

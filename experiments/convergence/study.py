"""Fine-tuning and training from scratch, epoch by epoch, compared with the scores."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from experiments import transfer_accuracy
from experiments.command import metric_names, start
from experiments.convergence.show import show, write_levels
from leepjax import report
from leepjax._store import Journal
from leepjax.evaluation import correlate, in_levels, task_membership
from leepjax.report import read_table

LEARNERS = ("fine_tune", "from_scratch")
LEVELS = 5


@dataclasses.dataclass(frozen=True)
class Config(transfer_accuracy.Config):
    """The lead of transfer, epoch by epoch, in levels of a score."""

    learner: Annotated[Literal["fine_tune"], tyro.conf.Suppress] = "fine_tune"
    level_score: str = "leep"
    """The score whose levels the figure shows; one of --metrics."""


def run(config: Config, console: Console) -> Path:
    """Run both learners, or read their saved runs, and compare their curves with the scores."""
    if config.level_score not in metric_names(config.metrics):
        raise ValueError(
            f"--level-score: wanted one of {', '.join(config.metrics)}, got {config.level_score!r}"
        )
    if config.num_tasks < LEVELS:
        raise ValueError(
            f"--num-tasks: wanted at least {LEVELS}, one for each level, got {config.num_tasks}"
        )
    directory = None if config.output_dir is None else config.output_dir / "convergence"
    with report.open_run(
        "convergence", config, output_dir=directory, overwrite=config.overwrite
    ) as study:
        runs = _learned(study, config, console)
        if not study.finished:
            _write(study, config, *runs)
    show(study.final, console)
    return study.final


def _learned(study: report.Run, config: Config, console: Console) -> list[Path]:
    """Runs of both learners; --overwrite repeats each once, however often it is stopped."""
    if not config.overwrite:
        return [transfer_accuracy.run(_of_learner(config, name), console) for name in LEARNERS]
    journal = Journal(study.path / "learners.journal", {"learners": LEARNERS})
    anew = [row["learner"] for row in journal.rows]
    runs = []
    for name in LEARNERS:
        one = dataclasses.replace(_of_learner(config, name), overwrite=name not in anew)
        runs.append(transfer_accuracy.run(one, console))
        journal.append([{"learner": name}])
    return runs


def _of_learner(config: Config, learner: str) -> transfer_accuracy.Config:
    values = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(transfer_accuracy.Config)
    }
    directory = None if config.output_dir is None else config.output_dir / learner
    return transfer_accuracy.Config(**{**values, "learner": learner, "output_dir": directory})


def _write(study: report.Run, config: Config, tuned: Path, scratch: Path) -> None:
    tasks, curves = read_table(tuned / "results.csv"), [_curves(p) for p in (tuned, scratch)]
    levels, tables, classes = {}, {}, {}
    for setting in curves[0]:
        ahead = curves[0][setting] - curves[1][setting]  # [t, epochs + 1]
        whole = np.isfinite(ahead).all(1)  # neither failed nor was stopped
        study.log(event="setting", setting=setting, left_out=int((~whole).sum()))
        rows = [row for row in tasks if row["setting"] == setting]
        rows, ahead = [rows[i] for i in np.flatnonzero(whole)], ahead[whole]
        if len(rows) < LEVELS:
            raise ValueError(
                f"--num-tasks: wanted at least {LEVELS} tasks of {setting} that both learners "
                f"trained to the end, got {len(rows)}"
            )
        names = metric_names(config.metrics)
        scores = {name: np.array([float(row[name]) for row in rows]) for name in names}
        drawn = _read_tasks(rows)
        classes[setting] = drawn.classes
        tables[setting] = correlate(scores, ahead[:, 1:].mean(1), drawn)
        shared = task_membership(drawn)
        levels[setting] = in_levels(scores[config.level_score], ahead, shared, levels=LEVELS)
    write_levels(study, config.level_score, levels)
    report.write_correlations(study, tables, classes)


def _curves(path: Path) -> dict[str, np.ndarray]:
    """Test accuracies ``[t, epochs + 1]`` of a run, by setting."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in read_table(path / "curves.csv"):
        tasks = found.setdefault(row["setting"], {})
        tasks.setdefault(int(row["task"]), []).append(float(row["test_accuracy"]))
    return {setting: np.array([t[i] for i in sorted(t)]) for setting, t in found.items()}


class _Tasks(NamedTuple):
    """What is read back of them: class ids ``[t, k]`` padded with -1, a number for each group."""

    classes: np.ndarray
    groups: np.ndarray


def _read_tasks(rows: Sequence[dict[str, str]]) -> _Tasks:
    lists = [[int(c) for c in row["classes"].split()] for row in rows]
    width = max(map(len, lists))
    names = sorted({row["group"] for row in rows})
    groups = np.array([names.index(row["group"]) for row in rows])
    return _Tasks(np.array([c + [-1] * (width - len(c)) for c in lists]), groups)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, transfer_accuracy.PRESETS, arguments)

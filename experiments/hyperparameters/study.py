"""Candidates of each choice scored on every task, and the regret of choosing by a score."""

import dataclasses
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.command import (
    StudyConfig,
    load_small,
    named,
    run_study,
    show_sections,
    start,
    undivided,
)
from experiments.hyperparameters.candidates import (
    CHOICES,
    Candidate,
    Origin,
    subset_classes,
)
from experiments.hyperparameters.gradient import FAMILIES, WAYS, Judged, choose
from experiments.hyperparameters.tables import (
    NULLS,
    SCORES,
    draw,
    regret_rows,
    sections,
)
from leepjax import report
from leepjax.data import Bank, Dataset
from leepjax.evaluation import mean, task_membership
from leepjax.metrics import cross_fitted_leep
from leepjax.models import Outputs, SourceRecipe, extract
from leepjax.tasks import Split, Tasks, map_tasks, only_used, sample_tasks, score_tasks
from leepjax.transfer import retrain_head

METRICS = ("leep", "nce", "h_score", "logme", "knn", "linear_probe", "predictive_r2")


@dataclasses.dataclass(frozen=True)
class Config(StudyConfig):
    """Choosing hyper-parameters of pre-training by scores, task by task."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (a minute; its results mean nothing), default."""
    source_data: str = "glyphs:latin+greek+cyrillic"
    """Data that the source models, Conv4s, are trained on: NAME[:SPLIT]."""
    source_weights: Path | None = None
    """Safetensors of a CIFAR-10 ResNet20, whose layers are cut instead of a Conv4's."""
    source_steps: int = 500
    """Updates of each source training, batches of 128."""
    source_subsets: tuple[str, ...] = ()
    """Classes or groups of the source data joined by +, one subset each; default each group, or
    the two halves of the classes where the data have no groups."""
    target_data: str = "glyphs:-latin-greek-cyrillic"
    """Data that the target tasks are drawn from: NAME[:SPLIT]; within groups, if the data have
    groups."""
    choices: tuple[str, ...] = tuple(CHOICES)
    """What to choose: checkpoints, layers, widths, augmentations, subsets. With subsets, parameters
    are also chosen by gradient."""
    ways: int = 5
    """Classes of a task."""
    shots: int = 20
    """Training images of a class."""
    test_shots: int = 30
    """Test images of a class, at most."""
    num_tasks: int = 60
    """Target tasks, the same for all candidates."""
    devices: str = "1"
    """How many devices share the scores' and heads' work: a number, or all."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "source_data": "glyphs:digits+hebrew",
        "source_steps": 32,
        "target_data": "glyphs:ogham+tifinagh+nko",
        "choices": ("checkpoints", "subsets"),
        "num_tasks": 12,
    },
    "default": {},
}


def run(config: Config, console: Console) -> Path:
    """Run the study, or show the saved result; return its directory."""
    _check(config)
    return run_study("hyperparameters", config, console, _run, partial(show_sections, sections))


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    devices = undivided(devices)
    source_data = load_small("--source-data", config.source_data, config.data_dir)
    target = load_small("--target-data", config.target_data, config.data_dir)
    training = SourceRecipe(steps=config.source_steps, seed=config.seed)
    origin = Origin(source_data, training, config.source_subsets, config.source_weights)
    subset_classes(origin)  # fail before long work
    tasks = named("--target-data", _draw, config, target)
    banks, tasks = only_used(target, tasks)
    membership = task_membership(tasks)
    rows, regrets, gradient = [], [], []
    for choice in config.choices:
        candidates = named(f"--choices {choice}", CHOICES[choice], origin)
        made = ", ".join(f"{c.name} ({c.accuracy:.3f})" for c in candidates)
        console.print(
            f"Sources of {choice}, with accuracy on their own classes: {made}", soft_wrap=True
        )
        outputs = [[extract(c.source, bank, devices=devices) for bank in banks] for c in candidates]
        table = score_candidates(candidates, outputs, tasks, devices)
        if choice == "subsets":
            judged = _by_gradient(outputs, tasks, devices)
            way = WAYS["mixture"].index("cross_fitted_leep")
            table["mixture_weight"] = judged["mixture"].params[:, way]
            gradient += gradient_rows(judged, membership)
        accuracy = table.pop("accuracy")
        regrets += regret_rows(choice, table, accuracy, membership)
        rows += _rows(choice, candidates, target.train, tasks, {**table, "accuracy": accuracy})
        study.log(event="choice", choice=choice, sources=[c.source.digest for c in candidates])
    study.write_table("results", rows)
    study.write_table("regret", regrets)
    if gradient:
        study.write_table("gradient", gradient)
    draw(study.path)
    figure = report.Section("Regret by choice", figures=[study.path / "regret.svg"])
    report.write_page(
        study.path / "page.html", "Choosing by a score", [figure, *sections(study.path)]
    )


def score_candidates(
    candidates: Sequence[Candidate],
    outputs: Sequence[Sequence[Outputs]],
    tasks: Tasks,
    devices: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """``[t, m]`` of every selector, and ``accuracy`` by full training.

    Args:
      candidates: m of them.
      outputs: of each, for the train and the test bank.
      tasks: t tasks over these banks.
      devices: that share the tasks; default the first.
    """
    columns: dict[str, list[np.ndarray]] = {}
    halves = validation(tasks)
    for i, (candidate, (train, test)) in enumerate(zip(candidates, outputs, strict=True)):
        key = "cross_fitted_leep"
        found = {key: map_tasks(_cross_fitted, train.logits, tasks, devices=devices, desc=key)}
        arrays = {"features": train.features, "logits": train.logits}
        found |= score_tasks(tasks, **arrays, metrics=METRICS, devices=devices)
        half = retrain_head(train.features, train.features, halves, devices=devices)
        head = retrain_head(train.features, test.features, tasks, devices=devices)
        found |= {"validation": half.accuracy, "accuracy": head.accuracy}
        same = np.ones(len(tasks.classes))
        found |= {"source_accuracy": candidate.accuracy * same, "random": 0 * same}
        found |= {"default": (i == len(candidates) - 1) * same}
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    table = {name: np.stack(columns[name], 1) for name in (*SCORES, *NULLS, "accuracy")}
    return {name: np.asarray(values, float) for name, values in table.items()}


def validation(tasks: Tasks) -> Tasks:
    """The tasks with half the training images of each class, tested on the other half."""
    split = tasks.train
    same = (split.labels[:, :, None] == split.labels[:, None]) & split.where[:, None]
    rank = np.tril(same, -1).sum(2)  # how many of the same class come before
    halves = [_packed(split, split.where & (rank % 2 == parity)) for parity in (0, 1)]
    return tasks._replace(train=halves[0], test=halves[1])


def _packed(split: Split, kept: np.ndarray) -> Split:
    """The images that are kept, padding last."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, : kept.sum(1).max()]
    indices, labels, where = (
        np.take_along_axis(x, order, 1) for x in (split.indices, split.labels, kept)
    )
    return Split(np.where(where, indices, 0), np.where(where, labels, 0), where)


@cache
def _of_probs(num_classes: int):
    def one(logits, labels, where):
        probs = jax.nn.softmax(logits, axis=1)
        return cross_fitted_leep(probs, labels, num_classes=num_classes, where=where)

    return jax.vmap(one)


def _cross_fitted(logits: jax.Array, tasks: Tasks) -> jax.Array:
    of_tasks = _of_probs(tasks.classes.shape[1])
    return of_tasks(logits[tasks.train.indices], tasks.train.labels, tasks.train.where)


def _by_gradient(
    outputs: Sequence[Sequence[Outputs]], tasks: Tasks, devices: Sequence[Any]
) -> dict[str, Judged]:
    """Each parameter chosen; temperature and class weights belong to the source of all classes."""
    train, test = ([of_source[i].logits for of_source in outputs] for i in (0, 1))
    judged = {}
    for family in FAMILIES:
        own = slice(None) if family == "mixture" else slice(-1, None)
        judged[family] = choose(train[own], test[own], tasks, family, devices=devices)
    return judged


def gradient_rows(judged: dict[str, Judged], membership: np.ndarray) -> list[dict[str, Any]]:
    """Rows of ``gradient.csv``: means over tasks, and gains over the start."""
    rows = []
    for family, found in judged.items():
        for i, way in enumerate(WAYS[family]):
            row = {"family": family, "way": way}
            for name in ("leep", "cross_fitted_leep", "held_out", "accuracy"):
                values = np.asarray(getattr(found, name), float)
                row |= report.estimate_columns(name, mean(values[:, i], membership))
                ahead = mean(values[:, i] - values[:, 0], membership)
                row |= report.estimate_columns(f"{name}_ahead", ahead)
            rows.append(row)
    return rows


def _rows(
    choice: str,
    candidates: Sequence[Candidate],
    bank: Bank,
    tasks: Tasks,
    table: dict[str, np.ndarray],
) -> list[dict[str, Any]]:
    return [
        {
            "choice": choice,
            "candidate": candidate.name,
            "task": t,
            "group": bank.group_names[tasks.groups[t]] if tasks.groups[t] >= 0 else "",
            "classes": " ".join(str(c) for c in tasks.classes[t]),
        }
        | {name: float(values[t, i]) for name, values in table.items()}
        for i, candidate in enumerate(candidates)
        for t in range(len(tasks.classes))
    ]


def _draw(config: Config, target: Dataset) -> Tasks:
    return sample_tasks(
        jax.random.key(config.seed),
        target,
        num_tasks=config.num_tasks,
        ways=config.ways,
        shots=config.shots,
        test_shots=config.test_shots,
        within_groups=len(target.train.group_names) > 1,
    )


def _check(config: Config) -> None:
    """Find bad flags before long work."""
    unknown = [name for name in config.choices if name not in CHOICES]
    if unknown or not config.choices:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"--choices: wanted some of {', '.join(CHOICES)}, got {got}")
    if config.source_weights and not config.source_weights.is_file():
        raise ValueError(f"--source-weights: wanted a file, got {config.source_weights}")
    if config.source_steps < 1:
        raise ValueError(f"--source-steps: wanted at least 1, got {config.source_steps}")
    if config.shots < 2:
        raise ValueError(f"--shots: wanted 2 or more, half of them to validate, got {config.shots}")
    if config.num_tasks < 2:
        raise ValueError(f"--num-tasks: wanted 2 or more, got {config.num_tasks}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)

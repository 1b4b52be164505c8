"""Tasks drawn, scored and transferred to: the rows of the study's tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.command import metric_names, named, run_study, start, undivided
from experiments.transfer_accuracy.config import PRESETS, Config
from experiments.transfer_accuracy.networks import recipes, train_networks
from experiments.transfer_accuracy.source import extract_drawn, make_source
from leepjax import report
from leepjax.data import Dataset, load
from leepjax.models import NETWORKS
from leepjax.tasks import Tasks, sample_tasks, score_tasks
from leepjax.transfer import check_recipes, retrain_head
from leepjax.transfer.jobs import make_jobs


def run(config: Config, console: Console) -> Path:
    """Run the study, or show the saved result; return its directory."""
    _check(config)
    return run_study("transfer_accuracy", config, console, _run, report.show_study)


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    dataset = named("--target-data", load, config.target_data, data_dir=config.data_dir)
    within_key, across_key = jax.random.split(jax.random.key(config.seed))
    across = draw_tasks(across_key, dataset, config, within_groups=False)
    if len(dataset.train.group_names) > 1:
        within = draw_tasks(within_key, dataset, config, within_groups=True)
        settings = {f"{config.regime}-within": within, f"{config.regime}-across": across}
    else:
        settings = {config.regime: across}
    if config.learner != "retrain_head":
        for tasks in settings.values():  # fail before long work
            make_jobs(across_key, dataset, tasks, recipes(config))
    source, source_accuracy = make_source(config)
    console.print(f"Source: {len(source.class_names)} classes, test accuracy {source_accuracy}")
    study.log(event="source", accuracy=source_accuracy, digest=source.digest)
    wide = undivided(devices)
    train = extract_drawn(source, dataset.train, [t.train for t in settings.values()], wide)
    test = None
    if config.learner == "retrain_head":
        test = extract_drawn(source, dataset.test, [t.test for t in settings.values()], wide)
    findings = {}
    for setting, tasks in settings.items():
        scores = score_tasks(
            tasks,
            features=train.features,
            logits=train.logits,
            key=jax.random.key(config.seed),
            metrics=metric_names(config.metrics),
            devices=wide,
        )
        if test is not None:
            key = jax.random.key(config.seed)
            options = {"protocol": config.protocol, "l2": config.l2, "key": key, "devices": wide}
            result = retrain_head(train.features, test.features, tasks, **options)
        else:
            result = train_networks(study, setting, config, source, dataset, tasks, devices)
        findings[setting] = tasks, scores, result
    report.write_study(study, dataset.train, findings)
    title = f"{config.source_model} to {config.target_data}: {config.regime}, {config.learner}"
    report.write_study_page(study.path, title)


def _check(config: Config) -> None:
    """Find bad flags before long work."""
    if config.source_model not in NETWORKS:
        raise ValueError(
            f"--source-model: wanted one of {', '.join(NETWORKS)}, got {config.source_model!r}"
        )
    if config.source_weights is not None and not config.source_model.startswith("resnet"):
        raise ValueError(
            f"--source-weights: read for resnet20 to resnet56, got --source-model "
            f"{config.source_model}"
        )
    metric_names(config.metrics)
    if config.learner != "retrain_head":
        check_recipes(recipes(config))
    else:
        for name in ("recipe", "epochs", "batch_size", "learning_rates", "weight_decays"):
            if getattr(config, name) != getattr(Config, name):
                raise ValueError(
                    f"--{name.replace('_', '-')}: wanted with --learner fine_tune or "
                    "from_scratch; retrain_head has --protocol and --l2"
                )
    if not 0 < config.l2 < float("inf"):
        raise ValueError(f"--l2: wanted a finite number > 0, got {config.l2}")
    if config.source_steps < 1:
        raise ValueError(f"--source-steps: wanted at least 1, got {config.source_steps}")


def draw_tasks(key: jax.Array, dataset: Dataset, config: Config, *, within_groups: bool) -> Tasks:
    """Target tasks of the regime; the number of shots depends on whether the data has groups."""
    grouped = len(dataset.train.group_names) > 1
    fewest = int(np.bincount(dataset.train.labels).min())
    ways, shots = {
        "subsets": ((2, min(10, dataset.train.num_classes)), (min(1500, fewest),)),
        # characters: the fewest that give H-score, constant at 5 x shots <= 65, a meaning
        "small": ((5,), (20,) if grouped else (50,)),
        "imbalanced": ((5,), (30, 60)),
    }[config.regime]
    return sample_tasks(
        key,
        dataset,
        num_tasks=config.num_tasks,
        ways=_count("ways", config.ways or ways),
        shots=_count("shots", config.shots or shots),
        test_shots=config.test_shots,
        within_groups=within_groups,
    )


def _count(name: str, value: tuple[int, ...]) -> int | tuple[int, int]:
    match value:
        case (number,):
            return number
        case (low, high):
            return low, high
    raise ValueError(f"--{name}: wanted one number, or LOW HIGH, got {value}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)

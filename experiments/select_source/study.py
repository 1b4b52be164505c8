"""Every source fine-tuned on every task: the table in which each way of choosing is a look-up."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape

from experiments.command import (
    ClusterConfig,
    load_small,
    metric_names,
    named,
    run_study,
    show_sections,
    start,
    undivided,
)
from experiments.select_source import tables
from experiments.select_source.ways import Table, choices, correlations, summary
from leepjax import report
from leepjax.data import Bank, check_prepared, load
from leepjax.evaluation import NULLS, task_membership
from leepjax.models import (
    NETWORKS,
    Source,
    SourceRecipe,
    accuracy,
    apply,
    extract,
    load_resnet,
    train_source,
)
from leepjax.models.train import untrained
from leepjax.ranking import rank
from leepjax.tasks import Tasks, only_used, sample_tasks, score_tasks
from leepjax.transfer import Recipe, fine_tune, retrain_head
from leepjax.transfer.jobs import make_jobs

BACKWARD = 2  # forward passes that a backward pass costs


@dataclasses.dataclass(frozen=True)
class Config(ClusterConfig):
    """Choosing one of several sources for a target: regret against cost."""

    preset: Literal["smoke", "default", "real"] = "default"
    """Sources, target and sizes: smoke (a minute; its results mean nothing), default (Glyphs), real
    (CIFAR-10, Glyphs and Omniglot to Fashion-MNIST)."""
    sources: tuple[str, ...] = (
        "conv4@glyphs:latin+greek+cyrillic@1000",
        "conv4@glyphs:latin+greek+cyrillic@100",
        "conv4@glyphs:armenian+hebrew@500",
        "conv4@glyphs:digits+lao@500",
        "conv4@glyphs:braille+arrows@500",
        "conv4@glyphs:syllabics@500",
        "mlp@glyphs:latin+greek+cyrillic@500",
        "conv4@glyphs:latin+greek+cyrillic@0",
    )
    """MODEL@DATA@STEPS: a network, what it is trained on and for how many batches of 128, 0 for
    none; or MODEL@DATA@FILE, FILE of --weights-dir with the tensors of a CIFAR-10 ResNet."""
    weights_dir: Path = Path()
    """Folder of the safetensors of imported sources."""
    target_data: str = "glyphs:georgian"
    """Data that the target tasks are drawn from: NAME[:SPLIT]."""
    ways: int = 5
    """Classes of a task."""
    shots: int = 40
    """Labelled images of a class."""
    test_shots: int = 30
    """Test images of a class, at most."""
    num_tasks: int = 20
    """Target tasks; the classes of a task come from one group, if the data has groups."""
    metrics: tuple[str, ...] = (
        "leep",
        "nce",
        "h_score",
        "regularized_h_score",
        "logme",
        "knn",
        "linear_probe",
        "predictive_r2",
    )
    """Scores to choose by, of leepjax.metrics.METRICS; all: every one."""
    epochs: tuple[int, ...] = (1, 3, 9)
    """Budgets of the fine-tunings, ascending; each is a whole schedule, the last one full."""
    top: int = 4
    """How many sources a score names for successive halving."""
    learning_rate: float = 0.03
    """Learning rate of all fine-tunings: SGD with Nesterov momentum, cosine."""
    batch_size: int = 20
    """Batch size of all fine-tunings."""
    validation: float = 0.2
    """Share of a task's labelled images that compare fine-tunings and are not trained on."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "sources": (
            "mlp@digits@60",
            "mlp@digits@5",
            "conv4@digits@0",
        ),
        "target_data": "digits",
        "num_tasks": 6,
        "shots": 10,
        "epochs": (1, 2),
        "top": 2,
    },
    "default": {},
    "real": {
        "sources": (
            "conv4@glyphs:latin+greek+cyrillic@1000",
            "conv4@omniglot:small1@300",
            *(f"resnet{n}@cifar10@cifar10_resnet{n}.safetensors" for n in (20, 32, 56)),
            "resnet20@cifar10@0",
        ),
        "target_data": "fashion_mnist",
        "top": 3,
        "shots": 30,
        "test_shots": 40,
        "num_tasks": 10,
    },
}


class Spec(NamedTuple):
    """One source, as given in ``--sources``."""

    model: str
    data: str
    steps: int
    weights: Path | None

    @property
    def name(self) -> str:
        """Its name in tables."""
        how = "" if self.weights else f" {self.steps}" if self.steps else " untrained"
        return f"{self.model} {self.data}{how}"


def run(config: Config, console: Console) -> Path:
    """Run the study, or show the saved result; return its directory."""
    _check(config)
    return run_study("select_source", config, console, _run, _show)


def _show(path: Path, console: Console) -> None:
    console.width = max(console.width, 120)  # lines may wrap, but names must not be cut
    show_sections(tables.sections, path, console, "* null. Tables, page and figure")


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    specs = [_spec(text, config) for text in config.sources]
    whole = load_small("--target-data", config.target_data, config.data_dir)
    key = jax.random.key(config.seed)
    tasks = sample_tasks(
        key,
        whole,
        num_tasks=config.num_tasks,
        ways=config.ways,
        shots=config.shots,
        test_shots=config.test_shots,
        within_groups=len(whole.train.group_names) > 1,
    )
    dataset, tasks = only_used(whole, tasks)
    budgets = [_recipe(config, epochs) for epochs in config.epochs]
    job = make_jobs(key, dataset, tasks, budgets[:1])[0]  # fail before long work
    wide = undivided(devices)
    facts, scores, heads, trials, features = [], [], [], [], {}
    for i, spec in enumerate(specs, start=1):
        source, fact = _source(spec, config)
        console.print(escape(f"source {i} of {len(specs)}: {spec.name}"), highlight=False)
        train, test = (extract(source, bank, devices=wide) for bank in dataset)
        features[spec.name] = np.asarray(train.features)
        metrics = metric_names(config.metrics)
        options = {"metrics": metrics, "key": key, "devices": wide}
        scores.append(score_tasks(tasks, features=train.features, logits=train.logits, **options))
        heads.append(retrain_head(train.features, test.features, tasks, devices=wide).accuracy)
        results = [
            fine_tune(
                *(key, source, dataset, tasks, recipe),
                devices=devices,
                cluster=config.cluster,
                journal=study.path / f"{_file(i, spec)}-{recipe.epochs}.journal",
            )
            for recipe in budgets
        ]
        trials.append(results)
        forward = fact["operations"]
        steps = job.steps * config.batch_size * np.array(config.epochs)
        cost = forward * ((1 + BACKWARD) * steps + len(job.validation.indices))
        facts.append(fact | {"score": forward * config.ways * config.shots, "tune": cost})
        study.log(event="source", source=spec.name, digest=source.digest)
    unit = np.mean([fact["tune"][-1] for fact in facts])

    def reached(what: str) -> np.ndarray:  # [t, m, r], after the last epoch; NaN if it diverged
        return np.array([[getattr(r, what)[:, -1] for r in of] for of in trials]).transpose(2, 0, 1)

    table = Table(
        names=tuple(spec.name for spec in specs),
        scores={name: np.stack([of[name] for of in scores], 1) for name in scores[0]},
        facts={name: np.array([fact[name] for fact in facts]) for name in tables.FACTS},
        head=np.stack(heads, 1),
        validation=reached("validation_accuracy"),
        test=reached("test_accuracy"),
        named=_named_by_rank(features, dataset.train.labels, tasks),
        score_cost=np.array([fact["score"] for fact in facts]) / unit,
        tune_cost=np.stack([fact["tune"] for fact in facts]) / unit,
        membership=task_membership(tasks),
    )
    _write(study, config, table, tasks, dataset.train)


def _named_by_rank(
    features: Mapping[str, np.ndarray], labels: np.ndarray, tasks: Tasks
) -> np.ndarray:
    """``[t, m]`` bool: the sources that ``rank`` recommends; all, if it sees no information."""
    named = []
    for rows, where in zip(tasks.train.indices, tasks.train.where, strict=True):
        there = rows[where]
        sources = {name: {"features": x[there]} for name, x in features.items()}
        choice = rank(sources, labels[there], metrics=(), nulls=()).choice
        named.append([name in choice or not choice for name in features])
    return np.array(named)


def _write(study: report.Run, config: Config, table: Table, tasks: Tasks, bank: Bank) -> None:
    ways = choices(table, config.top)
    study.write_table("sources", tables.source_rows(table, unit=config.epochs[-1]))
    study.write_table("results", tables.result_rows(table, tasks, bank))
    study.write_table("trials", tables.trial_rows(table, config.epochs))
    study.write_table("choices", tables.choice_rows(table, ways))
    study.write_table("ways", summary(table, ways))
    study.write_table("correlation", list(correlations(table)))
    tables.draw(study.path)
    title = f"Choosing a source for {config.target_data}"
    figure = report.Section("Regret against cost", figures=[study.path / "regret.svg"])
    report.write_page(study.path / "page.html", title, [*tables.sections(study.path), figure])


def _source(spec: Spec, config: Config) -> tuple[Source, dict[str, float]]:
    """A source and facts about it: accuracy on its own test images, NaN if unknown."""
    reached = np.nan
    if spec.weights is not None:
        depth = int(spec.model.removeprefix("resnet"))
        source = named("--sources", load_resnet, spec.weights, depth)
        with contextlib.suppress(ValueError):  # the images it was trained on may be missing
            reached = accuracy(source, load(spec.data, data_dir=config.data_dir).test)
    else:
        dataset = load_small("--sources", spec.data, config.data_dir)
        if spec.steps:
            recipe = SourceRecipe(steps=spec.steps, seed=config.seed)
            source = named("--sources", train_source, spec.model, dataset, recipe)
            reached = accuracy(source, dataset.test)
        else:
            source = untrained(jax.random.key(config.seed), spec.model, dataset.train)
    return source, {
        "parameters": float(sum(np.size(x) for x in jax.tree.leaves(source.params))),
        "source_accuracy": reached,
        "operations": _operations(source),
    }


def _file(number: int, spec: Spec) -> str:
    return f"{number}-" + re.sub(r"\W+", "-", spec.name)


def _operations(source: Source) -> float:
    """Floating-point operations of a forward pass over one image, as XLA counts them."""
    forward = jax.jit(partial(apply, source.graphdef))
    lowered = forward.lower(source.params, source.rest, source.preprocess.input)
    return float((lowered.cost_analysis() or {})["flops"])


def _recipe(config: Config, epochs: int) -> Recipe:
    return Recipe(
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        validation=config.validation,
        epochs=epochs,
    )


def _check(config: Config) -> None:
    """Find bad flags before long work."""
    specs = [_spec(text, config) for text in config.sources]
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"--sources: wanted two or more, each once, got {', '.join(names)}")
    if not set(metric_names(config.metrics)) - set(NULLS):
        raise ValueError(f"--metrics: wanted a score beside nulls, got {' '.join(config.metrics)}")
    if not 2 <= config.top <= len(specs):
        raise ValueError(f"--top: wanted 2 to {len(specs)}, the sources, got {config.top}")
    if not config.epochs or list(config.epochs) != sorted(set(config.epochs)):
        raise ValueError(f"--epochs: wanted ascending numbers, got {config.epochs}")
    if not config.validation > 0:
        raise ValueError(f"--validation: wanted a share > 0, got {config.validation}")
    for epochs in config.epochs:
        named("--epochs, --learning-rate, --batch-size, --validation", _recipe, config, epochs)
    if config.num_tasks < 3:
        raise ValueError(f"--num-tasks: wanted 3 or more, got {config.num_tasks}")


def _spec(text: str, config: Config) -> Spec:
    parts = text.split("@")
    if len(parts) != 3 or parts[0] not in NETWORKS:
        raise ValueError(
            f"--sources: wanted MODEL@DATA@STEPS or MODEL@DATA@FILE, MODEL one of "
            f"{', '.join(NETWORKS)}; got {text!r}"
        )
    model, data, how = parts
    if how.isdecimal():
        named("--sources", check_prepared, data, data_dir=config.data_dir)
        return Spec(model, data, int(how), None)
    path = config.weights_dir / how
    if not model.startswith("resnet") or not path.is_file():
        raise ValueError(
            f"--sources: wanted a number of steps, or for resnet20 to resnet56 a file in "
            f"--weights-dir, got {text!r} and no {path}"
        )
    return Spec(model, data, 0, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)

r"""Does a score of the source model predict the accuracy of the transferred model?

A source model is trained (or imported), target tasks are drawn, scores are computed from each
task's labelled images, the model is transferred to each task, and score is held against test
accuracy: with intervals that cluster on target classes, and beside the nulls. The transfer is a
retrained head, the whole network fine-tuned, or, for comparison, the same network from scratch.

    python -m experiments.transfer_accuracy

trains a Conv4 on Latin, Greek and Cyrillic glyphs and transfers it to 200 tasks of five characters
within one other script, then to 200 tasks across scripts. The study on real data, in the three
regimes of the LEEP paper:

    python -m experiments.transfer_accuracy \
        --source-model resnet20 --source-weights cifar10_resnet20.safetensors \
        --target-data fashion_mnist --regime small --num-tasks 200

and with the whole network, for every task a rate chosen on held-out training images:

    python -m experiments.transfer_accuracy --learner fine_tune --devices all \
        --learning-rates 0.01 0.1 --validation 0.2

A run that is interrupted goes on where it was when the same command is given again. Results with
their intervals are in docs/results.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from leepjax import report
from leepjax._cache import cache_dir
from leepjax.data import Bank, Dataset, load, shrink
from leepjax.metrics import metrics_of
from leepjax.models import (
    NETWORKS,
    Outputs,
    Source,
    TrainConfig,
    accuracy,
    extract,
    load_resnet,
    train_source,
)
from leepjax.tasks import Split, Tasks, sample_tasks, score_tasks
from leepjax.transfer import (
    RECIPES,
    Recipe,
    TrainingResult,
    fine_tune,
    from_scratch,
    retrain_head,
    sweep,
)
from leepjax.transfer.fine_tune import check_recipes
from leepjax.transfer.lanes import make_lanes


@dataclasses.dataclass(frozen=True)
class Config:
    """Scores of a source model against the accuracy of its transfer, task by task."""

    preset: Literal["smoke", "default", "paper"] = "default"
    """Sizes: smoke (a minute, nothing to learn from it), default, paper (1,000 tasks)."""
    source_data: str = "glyphs:latin+greek+cyrillic"
    """What the source model is trained on: NAME[:SPLIT]. Not used with --source-weights."""
    source_model: str = "conv4"
    """conv4, conv4_max, mlp, resnet20, resnet32, resnet44 or resnet56."""
    source_weights: Path | None = None
    """Safetensors of a CIFAR-10 ResNet, instead of training."""
    source_steps: int = 2000
    """Updates of source training, batches of 128."""
    target_data: str = "glyphs:-latin-greek-cyrillic"
    """What the target tasks are drawn from: NAME[:SPLIT]."""
    regime: Literal["subsets", "small", "imbalanced"] = "small"
    """subsets: 2 to 10 classes; small: 5 classes, as many images of each; imbalanced: 5 classes,
    a number of images drawn for each."""
    ways: tuple[int, ...] = ()
    """Classes of a task, K or LOW HIGH, where the regime's own is not wanted."""
    shots: tuple[int, ...] = ()
    """Training images of a class, M or LOW HIGH; default: subsets 1500 at most, small 50 (20 where
    the data has groups), imbalanced 30 60."""
    test_shots: int = 1000
    """Test images of a class, at most."""
    num_tasks: int = 200
    """Tasks of each setting: within groups and across, where the data has groups, else one."""
    metrics: tuple[str, ...] = (
        "leep",
        "leep_gain",
        "nce",
        "h_score",
        "logme",
        "knn",
        "linear_probe",
        "neg_label_entropy",
    )
    """Scores to compute, of leepjax.metrics.METRICS; all: every one."""
    learner: Literal["retrain_head", "fine_tune", "from_scratch"] = "retrain_head"
    """How the source is transferred; from_scratch: not at all, its network learns a task alone."""
    protocol: Literal["optimum", "sgd"] = "optimum"
    """Of retrain_head: heads at the optimum of their objective, or after a fixed budget of SGD."""
    l2: float = 1e-3
    """Of retrain_head: penalty on the squared norm of a head's kernel, halved."""
    recipe: str = "default"
    """Of fine_tune and from_scratch: default, leep2020, bit, vtab or kornblith (docstring of
    leepjax.transfer.recipe)."""
    epochs: int | None = None
    """Of fine_tune and from_scratch, instead of the recipe's."""
    batch_size: int | None = None
    """Of fine_tune and from_scratch, instead of the recipe's."""
    learning_rates: tuple[float, ...] = ()
    """Of fine_tune and from_scratch, instead of the recipe's; several are a sweep."""
    weight_decays: tuple[float, ...] = ()
    """Of fine_tune and from_scratch, instead of the recipe's; several are a sweep."""
    validation: float | None = None
    """Share of a task's training images that chooses its epoch, and its rate in a sweep."""
    seed: int = 0
    """Of source training, tasks and learner."""
    output_dir: Path | None = None
    """Where results go; default runs/transfer_accuracy/KEY, KEY of the configuration."""
    data_dir: Path | None = None
    """TFDS data directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    devices: str = "1"
    """How many devices share the work: a number, or all; on a CPU each core can be one."""
    overwrite: bool = False
    """Start anew where the same command has already run."""


@dataclasses.dataclass(frozen=True)
class _Preset:
    preset: str = "default"  # which there are, the experiment's own configuration says


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "source_data": "glyphs:digits+greek",
        "source_steps": 60,
        "target_data": "glyphs:ogham+tifinagh+nko",
        "num_tasks": 12,
    },
    "default": {},
    "paper": {"num_tasks": 1000},
}


def run(config: Config, console: Console) -> Path:
    """Run the study, or show it where it has already run; return its directory."""
    _check(config)
    devices = devices_of(config.devices)
    with report.open_run(
        "transfer_accuracy", config, output_dir=config.output_dir, overwrite=config.overwrite
    ) as study:
        if not study.finished:
            _run(study, config, devices, console)
    report.show_study(study.final, console)
    return study.final


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
        for tasks in settings.values():  # what does not fit together shows before long work
            make_lanes(dataset, tasks, recipes(config), across_key)
    source, source_accuracy = make_source(config)
    console.print(f"Source: {len(source.class_names)} classes, test accuracy {source_accuracy}")
    study.log(event="source", accuracy=source_accuracy, digest=source.digest)
    # Cores that are devices only train networks: for the rest one device uses all of them, and
    # XLA's CPU backend can deadlock where devices that share its threads solve triangular systems.
    wide = devices[:1] if devices[0].platform == "cpu" else devices
    train = extract_drawn(source, dataset.train, [t.train for t in settings.values()], wide)
    test = None
    if config.learner == "retrain_head":
        test = extract_drawn(source, dataset.test, [t.test for t in settings.values()], wide)
    findings = {}
    for setting, tasks in settings.items():
        scores = score_tasks(
            train.features,
            train.logits,
            tasks,
            metrics=metric_names(config.metrics),
            key=jax.random.key(config.seed),
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


def extract_drawn(
    source: Source, bank: Bank, splits: Sequence[Split], devices: Sequence[Any]
) -> Outputs:
    """Outputs for a bank; where tasks draw less than half of its images, zeros for the others."""
    rows = np.unique(np.concatenate([split.indices[split.where] for split in splits]))
    if 2 * len(rows) >= len(bank.images):  # the whole serves other tasks too
        return extract(source, bank, devices=devices)
    arrays = {name: getattr(bank, name)[rows] for name in ("images", "labels", "groups")}
    drawn = extract(source, dataclasses.replace(bank, **arrays), devices=devices)
    whole = Outputs(*(np.zeros((len(bank.images), x.shape[1]), x.dtype) for x in drawn))
    for array, values in zip(whole, drawn, strict=True):
        array[rows] = values
    return whole


def train_networks(
    study: report.Run,
    setting: str,
    config: Config,
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    devices: Sequence[Any],
) -> TrainingResult:
    """What fine-tuned networks, or networks from scratch, reach on each task."""
    learner = fine_tune if config.learner == "fine_tune" else from_scratch
    journal = study.path / f"{setting}.journal"
    tried = recipes(config)
    study.log(event="recipes", setting=setting, recipes=[dataclasses.asdict(r) for r in tried])
    key = jax.random.key(config.seed)
    return learner(source, dataset, tasks, tried, key=key, devices=devices, journal=journal)


def recipes(config: Config) -> tuple[Recipe, ...]:
    """What ``--recipe`` names, with what other flags say instead."""
    if config.recipe not in RECIPES:
        raise ValueError(f"--recipe: wanted one of {', '.join(RECIPES)}, got {config.recipe!r}")
    names = ("epochs", "batch_size", "validation")
    changes = {n: getattr(config, n) for n in names if getattr(config, n) is not None}
    preset = [dataclasses.replace(recipe, **changes) for recipe in RECIPES[config.recipe]]
    if not config.learning_rates and not config.weight_decays:
        return tuple(preset)
    rates = config.learning_rates or tuple(dict.fromkeys(r.learning_rate for r in preset))
    decays = config.weight_decays or tuple(dict.fromkeys(r.weight_decay for r in preset))
    return sweep(preset[0], rates, decays)


def make_source(config: Config) -> tuple[Source, str]:
    """The source model, and its test accuracy; imported where weights are given, else trained."""
    if config.source_weights is not None:
        depth = int(config.source_model.removeprefix("resnet"))
        source = named("--source-weights", load_resnet, config.source_weights, depth)
        return source, "unknown (imported)"
    dataset = named("--source-data", load, config.source_data, data_dir=config.data_dir)
    training = TrainConfig(steps=config.source_steps, seed=config.seed)
    source = named("--source-model", train_source, config.source_model, dataset, training)
    return source, f"{accuracy(source, dataset.test):.3f}"


def named(flag: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; what it finds wrong is said of the flag."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None


def load_small(flag: str, name: str, data_dir: Path | None) -> Dataset:
    """A data set for small networks: images of more than 32 pixels shrunk to 28."""
    dataset = named(flag, load, name, data_dir=data_dir)
    return shrink(dataset, 28) if max(dataset.train.images.shape[1:3]) > 32 else dataset


def _check(config: Config) -> None:
    """What would otherwise show only after minutes."""
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
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"--seed: wanted 0 to 2^32 - 1, got {config.seed}")
    if config.source_steps < 1:
        raise ValueError(f"--source-steps: wanted at least 1, got {config.source_steps}")


def metric_names(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The names that ``--metrics`` stands for."""
    known = metrics_of("features", "logits", "labels", "key")
    if wanted == ("all",):
        return known
    if not wanted or not set(wanted) <= set(known):
        got = ", ".join(name for name in wanted if name not in known) or "none"
        raise ValueError(f"--metrics: wanted all, or names among {', '.join(known)}; got {got}")
    return wanted


def draw_tasks(key: jax.Array, dataset: Dataset, config: Config, *, within_groups: bool) -> Tasks:
    """Target tasks of the regime; the group structure of the data decides how many shots."""
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


def cores_as_devices(text: str) -> None:
    """Let CPU cores be devices, as many as ``--devices`` asks for; before JAX looks for any."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = cores or 1 if text == "all" else int(text) if text.isdecimal() else 1
    if wanted > 1 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has looked already: what it found counts
            jax.config.update("jax_num_cpu_devices", min(wanted, cores or 1))


def devices_of(text: str) -> Sequence[Any]:
    """The devices that ``--devices`` asks for."""
    available = jax.devices()
    if text == "all":
        return available
    if not text.isdecimal() or not 1 <= int(text) <= len(available):
        raise ValueError(f"--devices: wanted 1 to {len(available)}, or all, got {text!r}")
    return available[: int(text)]


def start(
    config_class: type[Any],
    run: Callable[[Any, Console], Path],
    arguments: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]] = PRESETS,
) -> None:
    """Parse a command line of these flags, run, and turn bad input into one clear line."""
    preset = tyro.cli(_Preset, args=arguments, return_unknown_args=True, add_help=False)[0].preset
    default = config_class(preset, **presets[preset]) if preset in presets else config_class()
    config = tyro.cli(config_class, args=arguments, default=default)
    try:
        cores_as_devices(config.devices)
        if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            jax.config.update("jax_compilation_cache_dir", str(cache_dir("xla")))
        console = Console()
        console.width = max(console.width, 112)  # rather lines that wrap than names cut short
        run(config, console)
    except ValueError as error:
        sys.exit(f"error: {error}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()

"""Does a score predict what meta-transfer reaches: a learner that has learnt to adapt?

    python -m experiments.meta_transfer

trains a Conv4 to classify Latin, Greek and Cyrillic glyphs and their quarter turns; meta-trains two
learners from it on few-shot episodes of those scripts: meta-transfer learning (MTL, which the LEEP
article used) and a ridge head; adapts each to 600 tasks of five characters within one unseen
script, with 1 and with 5 labelled images of each; and holds scores of the classifier on those
labelled images against the accuracy reached, beside that of its retrained head. On real data:

    python -m experiments.meta_transfer \
        --source-data omniglot:small1 --target-data omniglot:small2 \
        --algorithms maml anil meta_sgd mtl protonet ridge

The hyper-parameters of the default were chosen on three scripts that its tasks are not drawn from,
armenian, hebrew and nko (`--target-data glyphs:armenian+hebrew+nko`). Trained learners are kept in
the cache; training that was interrupted goes on. Results are in the README.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.transfer_accuracy import metric_names, named, start
from leepjax import report
from leepjax._cache import cache_dir, digest
from leepjax.data import Dataset, load, shrink, with_rotations, without_groups
from leepjax.evaluation import score_tasks
from leepjax.meta import (
    ALGORITHMS,
    AdaptationResult,
    EpisodeShape,
    Meta,
    MetaLearner,
    MetaTraining,
    adapt_tasks,
    episode_bank,
    make_learner,
    meta_train,
)
from leepjax.models import NETWORKS, Source, TrainConfig, accuracy, extract, train_source
from leepjax.models.fresh import fresh
from leepjax.tasks import Tasks, sample_tasks
from leepjax.transfer import retrain_head

SMALL = 28  # pixels, to which larger images than 32 are shrunk


@dataclasses.dataclass(frozen=True)
class Config:
    """Scores of a source model against what learners that learnt to adapt reach, task by task."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (a minute, nothing to learn from it), default."""
    source_data: str = "glyphs:latin+greek+cyrillic"
    """What the source model and the meta-learners are trained on: NAME[:SPLIT]. Images of more
    than 32 pixels are shrunk to 28."""
    source_model: str = "conv4"
    """conv4, conv4_max, or resnet20 to resnet56."""
    source_steps: int = 3500
    """Updates of source training, batches of 128."""
    rotations: bool = True
    """Train with quarter turns of every class as further classes; not for natural images."""
    shift: int = 2
    """Meta-train on images moved by up to so many pixels."""
    target_data: str = (
        "glyphs:digits+georgian+lao+arrows+syllabics+braille+maths+arabic+tifinagh+ogham"
    )
    """What the target tasks are drawn from: NAME[:SPLIT]. Groups that the source data have too are
    left out."""
    algorithms: tuple[str, ...] = ("mtl", "ridge")
    """Meta-learners: maml, fomaml, anil, boil, meta_sgd, maml_pp, proto_maml, unicorn, mtl,
    reptile, cavia, protonet, ridge."""
    begin: Literal["own", "source", "fresh"] = "own"
    """Where meta-training starts: each algorithm's own choice, the source's parameters, fresh."""
    meta_steps: int | None = None
    """Steps of meta-training, instead of each algorithm's own."""
    meta_learning_rate: float | None = None
    """Learning rate of meta-training, instead of each algorithm's own."""
    episodes: int | None = None
    """Episodes a meta-step, instead of each algorithm's own."""
    queries: int | None = None
    """Queries of a class in meta-training; default 10, or what the images allow."""
    ways: int = 5
    """Classes of an episode and of a task."""
    shots: tuple[int, ...] = (1, 5)
    """Labelled images of each class, ascending; one set of tasks for each."""
    test_shots: int = 30
    """Test images of a class, at most."""
    across: bool = False
    """Draw a task's classes across groups, where the data has groups, instead of within one."""
    num_tasks: int = 600
    """Target tasks for each number of shots."""
    metrics: tuple[str, ...] = (
        "leep",
        "nce",
        "h_score",
        "regularized_h_score",
        "logme",
        "knn",
        "linear_probe",
        "neg_label_entropy",
    )
    """Scores to compute, of leepjax.metrics.METRICS; all: every one."""
    level_score: str = "leep"
    """The score whose levels the figure shows; one of --metrics."""
    seed: int = 0
    """Of source training, meta-training and tasks."""
    output_dir: Path | None = None
    """Where results go; default runs/meta_transfer/KEY, KEY of the configuration."""
    data_dir: Path | None = None
    """TFDS data directory; default TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    devices: str = "1"
    """How many devices share the scores' and heads' work: a number, or all."""
    overwrite: bool = False
    """Start anew where the same command has already run."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "source_data": "glyphs:digits+greek",
        "source_steps": 60,
        "target_data": "glyphs:ogham+tifinagh+nko",
        "meta_steps": 4,
        "episodes": 2,
        "num_tasks": 12,
    },
    "default": {},
}


def run(config: Config, console: Console) -> Path:
    """Run the study, or show it where it has already run; return its directory."""
    _check(config)
    with report.open_run(
        "meta_transfer", config, output_dir=config.output_dir, overwrite=config.overwrite
    ) as study:
        if not study.finished:
            _run(study, config, console)
    for section in _sections(study.final):
        report.print_section(section, console)
    console.print(f"Tables and figures: {study.final}", soft_wrap=True)
    return study.final


def _run(study: report.Run, config: Config, console: Console) -> None:
    source_data = _load("--source-data", config.source_data, config)
    target = _load("--target-data", config.target_data, config)
    target = _unseen(source_data, target, console)
    # What does not fit together shows before long work.
    tasks = {shots: _tasks(config, target, shots) for shots in config.shots}
    trainings = {name: training(name, config, source_data) for name in config.algorithms}
    for recipe in trainings.values():
        episode_bank(source_data.train, recipe.episode)
    source = _source(config, source_data, console)
    features = [extract(source, bank) for bank in target]
    settings: dict[str, tuple[Tasks, Any, Any]] = {}
    accuracies: dict[int, dict[str, np.ndarray]] = {}
    notes = {report.HEAD: "each query alone"}
    scores = {}
    for shots, drawn in tasks.items():
        scores[shots] = score_tasks(
            *features[0],
            drawn,
            metrics=metric_names(config.metrics),
            key=jax.random.key(config.seed),
        )
        heads = retrain_head(features[0].features, features[1].features, drawn)
        settings[f"head-{shots}"] = drawn, scores[shots], heads
        accuracies[shots] = {report.HEAD: heads.accuracy}
    for name in config.algorithms:
        learner, meta = trained(name, config, source, source_data, trainings[name])
        notes[name] = "together (transductive)" if learner.transductive else "each query alone"
        for shots, drawn in tasks.items():
            result: AdaptationResult = adapt_tasks(learner, meta, target, drawn)
            settings[f"{name}-{shots}"] = drawn, scores[shots], result
            accuracies[shots][name] = result.accuracy
    report.write_study(study, target.train, settings)
    gains, levels = [], []
    for shots, drawn in tasks.items():
        membership = _clusters(target, drawn)
        gains += report.write_gains(study, shots, accuracies[shots], notes, membership)
        chosen = scores[shots][config.level_score]
        means = report.accuracy_levels(chosen, accuracies[shots], membership)
        levels += report.level_rows(config.level_score, shots, means)
    study.write_table("gains", gains)
    study.write_table("accuracy_levels", levels)
    report.draw_accuracy_levels(study.path)
    figure = report.Section("In fifths of the score", figures=[study.path / "accuracy_levels.svg"])
    report.write_page(study.path / "page.html", "Meta-transfer", [*_sections(study.path), figure])


def _sections(path: Path) -> list[report.Section]:
    return [report.gains_section(path), report.side_by_side(report.read_correlations(path))]


def training(name: str, config: Config, source_data: Dataset) -> MetaTraining:
    """How an algorithm is meta-trained: its own choices, with what flags say instead."""
    fewest = int(np.bincount(source_data.train.labels).min())
    most = max(config.shots)
    queries = config.queries or max(1, min(10, fewest - most))
    grouped = len(source_data.train.group_names) > 1
    episode = EpisodeShape(
        config.ways, most, queries, config.rotations, config.shift, 0.5 if grouped else 0.0
    )
    own = dict(ALGORITHMS[name].training)
    flags = {
        "steps": config.meta_steps,
        "learning_rate": config.meta_learning_rate,
        "tasks": config.episodes,
    }
    own |= {field: value for field, value in flags.items() if value is not None}
    return MetaTraining(episode=episode, shots=config.shots, **own)


def trained(
    name: str, config: Config, source: Source, source_data: Dataset, recipe: MetaTraining
) -> tuple[MetaLearner, Meta]:
    """A meta-learner of the source, trained or from the cache."""
    own = ALGORITHMS[name].pretrained
    key = jax.random.key(config.seed)
    if config.begin == "fresh" or (config.begin == "own" and not own):
        params, rest = fresh(key, source.params), fresh(key, source.rest)
        source = dataclasses.replace(source, params=params, rest=rest)
    learner = make_learner(name, source, config.ways)
    place = digest(dict(learner.identity), recipe, source_data.train.digest, config.seed)
    checkpoint = cache_dir("meta") / f"{name}-{place}"
    return learner, meta_train(learner, source_data.train, recipe, key=key, checkpoint=checkpoint)[
        0
    ]


def _load(flag: str, name: str, config: Config) -> Dataset:
    dataset = named(flag, load, name, data_dir=config.data_dir)
    return shrink(dataset, SMALL) if max(dataset.train.images.shape[1:3]) > 32 else dataset


def _unseen(source_data: Dataset, target: Dataset, console: Console) -> Dataset:
    """Without the groups that the source has been trained on."""
    known = set(source_data.train.group_names) & set(target.train.group_names)
    if not known or len(target.train.group_names) == 1:
        return target
    console.print(f"Left out of the target, being in the source: {', '.join(sorted(known))}")
    return named("--target-data", without_groups, target, tuple(known))


def _tasks(config: Config, target: Dataset, shots: int) -> Tasks:
    fewest = int(np.bincount(target.test.labels).min())
    return sample_tasks(
        jax.random.fold_in(jax.random.key(config.seed), shots),
        target,
        num_tasks=config.num_tasks,
        ways=config.ways,
        shots=shots,
        test_shots=min(config.test_shots, fewest),  # as many of every class
        within_groups=not config.across and len(target.train.group_names) > 1,
    )


def _source(config: Config, source_data: Dataset, console: Console) -> Source:
    dataset = with_rotations(source_data) if config.rotations else source_data
    recipe = TrainConfig(steps=config.source_steps, seed=config.seed)
    source = named("--source-model", train_source, config.source_model, dataset, recipe)
    reached = accuracy(source, dataset.test)
    console.print(f"Source: {len(source.class_names)} classes, test accuracy {reached:.3f}")
    return source


def _clusters(target: Dataset, tasks: Tasks) -> np.ndarray:
    """``[t, g]`` the groups that tasks come from, or the classes that they hold."""
    if (tasks.groups >= 0).all():
        return tasks.groups[:, None] == np.unique(tasks.groups)
    return (tasks.classes[:, :, None] == np.arange(target.train.num_classes)).any(1)


def _check(config: Config) -> None:
    """What would otherwise show only after minutes."""
    known = [name for name in NETWORKS if name != "mlp"]
    if config.source_model not in known:
        raise ValueError(
            f"--source-model: wanted one of {', '.join(known)}, got {config.source_model!r}"
        )
    unknown = [name for name in config.algorithms if name not in ALGORITHMS]
    if unknown or not config.algorithms:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"--algorithms: wanted some of {', '.join(ALGORITHMS)}, got {got}")
    if config.level_score not in metric_names(config.metrics):
        raise ValueError(
            f"--level-score: wanted one of {', '.join(config.metrics)}, got {config.level_score!r}"
        )
    if not config.shots or list(config.shots) != sorted(set(config.shots)) or config.shots[0] < 1:
        raise ValueError(f"--shots: wanted ascending numbers >= 1, got {config.shots}")
    if config.num_tasks < report.LEVELS:
        raise ValueError(f"--num-tasks: wanted {report.LEVELS} or more, got {config.num_tasks}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, sys.argv[1:] if arguments is None else arguments, PRESETS)


if __name__ == "__main__":
    main()

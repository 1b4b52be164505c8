"""Meta-learners trained and adapted to every task, and scores compared with their accuracy."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

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
from experiments.meta_transfer.show import draw, sections
from leepjax import report
from leepjax._store import cache_dir, digest
from leepjax.data import Dataset, with_rotations, without_groups
from leepjax.data.transform import TURNS
from leepjax.evaluation import task_membership
from leepjax.meta import (
    ALGORITHMS,
    AdaptationResult,
    EpisodeShape,
    Meta,
    MetaLearner,
    MetaRecipe,
    adapt_tasks,
    episode_bank,
    make_learner,
    meta_train,
)
from leepjax.meta.train import VERSION
from leepjax.models import NETWORKS, Source, SourceRecipe, accuracy, extract, train_source
from leepjax.models.initialisation import reinitialise
from leepjax.models.train import untrained
from leepjax.tasks import Tasks, sample_tasks, score_tasks
from leepjax.transfer import retrain_head


@dataclasses.dataclass(frozen=True)
class Config(ClusterConfig):
    """Scores of a source model against what learners that learnt to adapt reach, task by task."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (a minute; its results mean nothing), default."""
    source_data: str = "glyphs:latin+greek+cyrillic"
    """Data that the source model and the meta-learners are trained on: NAME[:SPLIT]. Images of
    more than 32 pixels are shrunk to 28."""
    source_model: str = "conv4"
    """conv4, conv4_max, or resnet20 to resnet56."""
    source_steps: int = 3500
    """Updates of source training, batches of 128."""
    rotations: Literal["auto", "yes", "no"] = "auto"
    """Train with quarter turns of every class as additional classes. auto: if the source data have
    groups, because they are then characters, not natural images."""
    shift: int | None = None
    """Meta-train on images moved by up to this many pixels; default 2 if the source data have
    groups, else 0."""
    target_data: str = (
        "glyphs:digits+georgian+lao+arrows+syllabics+braille+maths+arabic+tifinagh+ogham"
    )
    """Data that the target tasks are drawn from: NAME[:SPLIT]. Groups that are also in the source
    data are left out."""
    algorithms: tuple[str, ...] = ("mtl", "ridge")
    """Meta-learners: maml, fomaml, anil, boil, meta_sgd, maml_pp, proto_maml, unicorn, mtl,
    reptile, cavia, protonet, ridge."""
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
    """Draw a task's classes across groups instead of within one, if the data has groups."""
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
        "predictive_r2",
        "neg_label_entropy",
    )
    """Scores to compute, of leepjax.metrics.METRICS; all: every one."""
    level_score: str = "leep"
    """The score whose levels the figure shows; one of --metrics."""
    devices: str = "1"
    """How many devices share the work: a number, or all. On a CPU each core can be one, for
    learners that adapt the whole network. Each device takes as many episodes of a meta-step."""


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
    """Run the study, or show the saved result; return its directory."""
    _check(config)
    return run_study("meta_transfer", config, console, _run, partial(show_sections, sections))


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    wide = undivided(devices)
    source_data = load_small("--source-data", config.source_data, config.data_dir)
    target = load_small("--target-data", config.target_data, config.data_dir)
    target = _unseen(source_data, target, console)
    # Find what does not fit together before long work.
    tasks = {shots: _tasks(config, target, shots) for shots in config.shots}
    recipes = {name: recipe_of(name, config, source_data) for name in config.algorithms}
    like = untrained(jax.random.key(0), config.source_model, source_data.train)
    for name, recipe in recipes.items():
        make_learner(name, like, config.ways)
        episode_bank(source_data.train, recipe.episode)
    source = _source(config, source_data, console)
    features = [extract(source, bank, devices=wide) for bank in target]
    settings: dict[str, tuple[Tasks, Any, Any]] = {}
    accuracies: dict[int, dict[str, np.ndarray]] = {}
    notes = {report.HEAD: "alone"}
    failed = {shots: np.zeros(config.num_tasks, bool) for shots in config.shots}
    scores = {}
    for shots, drawn in tasks.items():
        scores[shots] = score_tasks(
            drawn,
            features=features[0].features,
            logits=features[0].logits,
            key=jax.random.key(config.seed),
            metrics=metric_names(config.metrics),
            devices=wide,
        )
        heads = retrain_head(features[0].features, features[1].features, drawn, devices=wide)
        settings[f"head-{shots}"] = drawn, scores[shots], heads
        accuracies[shots] = {report.HEAD: heads.accuracy}
    for name in config.algorithms:
        learner, meta = trained(name, config, source, source_data, recipes[name], devices)
        queries = tasks[config.shots[0]].test.where.shape[1]
        notes[name] = f"{queries} together" if learner.transductive else "alone"
        for shots, drawn in tasks.items():
            result: AdaptationResult = adapt_tasks(
                *(learner, meta, target, drawn),
                devices=_sharing(learner, devices),
                journal=study.path / f"{name}-{shots}.journal",
                cluster=config.cluster,
            )
            settings[f"{name}-{shots}"] = drawn, scores[shots], result
            accuracies[shots][name] = result.accuracy
            failed[shots] |= result.failed > 0
    report.write_study(study, target.train, settings)
    gains, levels = [], []
    for shots, drawn in tasks.items():
        kept = ~failed[shots]  # of all learners, so that gains are of the same tasks
        study.log(event="tasks", shots=shots, failed=int(failed[shots].sum()))
        shared = task_membership(drawn)
        membership = shared[kept]
        reached = {name: values[kept] for name, values in accuracies[shots].items()}
        gains += report.gain_rows(shots, reached, notes, membership)
        chosen = scores[shots][config.level_score][kept]
        means = report.accuracy_levels(chosen, reached, membership)
        levels += report.level_rows(config.level_score, shots, means)
    study.write_table("gains", gains)
    study.write_table("accuracy_levels", levels)
    draw(study.path)
    figure = report.Section("In fifths of the score", figures=[study.path / "accuracy_levels.svg"])
    report.write_page(study.path / "page.html", "Meta-transfer", [*sections(study.path), figure])


def recipe_of(name: str, config: Config, source_data: Dataset) -> MetaRecipe:
    """How an algorithm is meta-trained: its own choices, unless flags replace them."""
    bank, most = source_data.train, max(config.shots)
    fewest = int(np.bincount(bank.labels).min())
    queries = max(1, min(10, fewest - most)) if config.queries is None else config.queries
    characters, rotations = len(bank.group_names) > 1, _rotations(config, source_data)
    in_groups = [len(np.unique(bank.labels[bank.groups == g])) for g in np.unique(bank.groups)]
    within = characters and config.ways <= (TURNS if rotations else 1) * max(in_groups)
    shift = (2 if characters else 0) if config.shift is None else config.shift
    episode = EpisodeShape(config.ways, most, queries, rotations, shift, 0.5 if within else 0.0)
    own = {"shots": config.shots, **ALGORITHMS[name].recipe}
    flags = {
        "steps": config.meta_steps,
        "learning_rate": config.meta_learning_rate,
        "tasks": config.episodes,
    }
    own |= {field: value for field, value in flags.items() if value is not None}
    return MetaRecipe(episode=episode, **own)


def trained(
    name: str,
    config: Config,
    source: Source,
    source_data: Dataset,
    recipe: MetaRecipe,
    devices: Sequence[Any],
) -> tuple[MetaLearner, Meta]:
    """A meta-learner of the source, trained or from the cache."""
    key = jax.random.key(config.seed)
    if not ALGORITHMS[name].pretrained:
        params, rest = reinitialise(key, source.params), reinitialise(key, source.rest)
        source = dataclasses.replace(source, params=params, rest=rest)
    learner = make_learner(name, source, config.ways)
    place = digest(VERSION, dict(learner.identity), recipe, source_data.train.digest, config.seed)
    checkpoint = cache_dir("meta") / f"{name}-{place}"
    sharing = _sharing(learner, devices)
    while recipe.tasks % len(sharing):  # as many episodes each
        sharing = sharing[:-1]
    options = {"checkpoint": checkpoint, "devices": sharing}
    return learner, meta_train(key, learner, source_data.train, recipe, **options)[0]


def _sharing(learner: MetaLearner, devices: Sequence[Any]) -> Sequence[Any]:
    """The devices for a learner; several CPU cores only if each task has its own network."""
    return devices if learner.whole_network else undivided(devices)


def _unseen(source_data: Dataset, target: Dataset, console: Console) -> Dataset:
    """Without the groups that the source has been trained on."""
    known = set(source_data.train.group_names) & set(target.train.group_names)
    if len(source_data.train.group_names) == 1:
        seen = set(source_data.train.class_names) & set(target.train.class_names)
        if seen:
            console.print(f"The source has been trained on {len(seen)} of the target's classes.")
        return target
    if not known:
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
    dataset = with_rotations(source_data) if _rotations(config, source_data) else source_data
    recipe = SourceRecipe(steps=config.source_steps, seed=config.seed)
    source = named("--source-model", train_source, config.source_model, dataset, recipe)
    reached = accuracy(source, dataset.test)
    console.print(f"Source: {len(source.class_names)} classes, test accuracy {reached:.3f}")
    return source


def _rotations(config: Config, source_data: Dataset) -> bool:
    characters = len(source_data.train.group_names) > 1
    return characters if config.rotations == "auto" else config.rotations == "yes"


def _check(config: Config) -> None:
    """Find bad flags before long work."""
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
    if config.source_steps < 1:
        raise ValueError(f"--source-steps: wanted at least 1, got {config.source_steps}")
    if config.num_tasks < report.LEVELS:
        raise ValueError(f"--num-tasks: wanted {report.LEVELS} or more, got {config.num_tasks}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)

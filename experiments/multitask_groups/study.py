"""Tasks trained alone, in pairs and in groups, and scores compared with the gains."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from flax import nnx
from rich.console import Console

from experiments.command import ClusterConfig, load_small, named, run_study, show_sections, start
from experiments.multitask_groups.scores import null_scores, pairwise_scores
from experiments.multitask_groups.show import draw, sections
from experiments.multitask_groups.tables import comparison_rows, correlation_rows
from experiments.multitask_groups.tasks import Drawn, draw_tasks
from leepjax import report
from leepjax._progress import progress
from leepjax._seed import check_seed
from leepjax._store import Journal
from leepjax.choosing import (
    Group,
    Partition,
    affinity,
    group_sizes,
    group_tasks,
    random_partitions,
)
from leepjax.cluster import run_all
from leepjax.data import Bank, Dataset
from leepjax.models import Conv4, Preprocess, Source, SourceRecipe, make_source
from leepjax.transfer import accuracy_by_task, train_jointly


@dataclasses.dataclass(frozen=True)
class Config(ClusterConfig):
    """Scores between tasks, the groups they make, and what training together gains."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (a minute; its results mean nothing), default."""
    target_data: tuple[str, ...] = (
        "glyphs:latin+greek+cyrillic+armenian+georgian+arrows+hebrew+syllabics+braille+maths"
        "+arabic+tifinagh",
    )
    """Where tasks come from: NAME[:SPLIT], one or more; as many tasks of each. Images of more than
    32 pixels are shrunk to 28."""
    num_tasks: int = 12
    """Number of tasks; no two share a class, and each has one script or alphabet."""
    ways: tuple[int, ...] = (10,)
    """Classes of a task: one number, or one for each of --target-data."""
    shots: tuple[int, ...] = (30,)
    """Training images of a class: one number, or one for each of --target-data."""
    test_shots: int = 300
    """Test images of a class, at most."""
    width: int = 32
    """Channels of the network, a Conv4."""
    steps: int = 200
    """Updates of a task, alone or in a group."""
    batch_size: int = 20
    """Images of each task an update."""
    learning_rate: float = 1e-2
    """Learning rate of Adam, lowered to 0 by a cosine."""
    num_groups: int = 4
    """Groups that a score's tree is cut into."""
    num_random: int = 4
    """Random partitions for each combination of group sizes that scores make."""
    num_seeds: int = 2
    """Repetitions of all training, from other initial parameters; results are their means."""
    devices: Annotated[Literal["1"], tyro.conf.Suppress] = "1"


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "target_data": ("digits",),
        "num_tasks": 4,
        "ways": (2,),
        "shots": (10,),
        "width": 8,
        "steps": 20,
        "num_groups": 2,
        "num_random": 2,
    },
    "default": {},
}


def run(config: Config, console: Console) -> Path:
    """Run the study, or show the saved result; return its directory."""
    _check(config)
    return run_study("multitask_groups", config, console, _run, partial(show_sections, sections))


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    drawn = _tasks(config)
    source = network(drawn.dataset.train, config.width)
    training = SourceRecipe(config.steps, config.batch_size, config.learning_rate, warmup=0.0)
    seeds = range(config.seed, config.seed + config.num_seeds)
    alone, scores = _alone(source, drawn, training, seeds)
    # What is common to a network and the joint training from the same parameters is no foresight.
    _, independent = _alone(source, drawn, training, [seed + config.num_seeds for seed in seeds])
    nulls = null_scores(drawn.dataset.train, drawn.families)
    scores, independent = scores | nulls, independent | nulls
    chosen = {name: group_tasks(table, config.num_groups) for name, table in scores.items()}
    tasks = range(config.num_tasks)
    random = {
        sizes: random_partitions(sizes, config.num_random, config.seed)
        for sizes in dict.fromkeys(map(group_sizes, chosen.values()))
    }
    together: Partition = (tuple(tasks),)
    partitions = [*chosen.values(), *(p for ps in random.values() for p in ps), together]
    groups = dict.fromkeys([*combinations(tasks, 2), *(g for p in partitions for g in p)])
    joint = study, source, drawn.dataset, training, list(groups), seeds, alone
    reached = _joint(*joint, config.cluster)
    _write(study, drawn, scores, independent, chosen, random, alone, reached)
    draw(study.path)
    figures = report.Section(
        "Figures", figures=[study.path / "affinity.svg", study.path / "gains.svg"]
    )
    shown = [*sections(study.path), figures]
    report.write_page(study.path / "page.html", "Which tasks to train together", shown)


def _tasks(config: Config) -> Drawn:
    datasets: dict[str, Dataset] = {}
    for name in config.target_data:
        datasets[name] = load_small("--target-data", name, config.data_dir)
    count = len(datasets)
    ways, shots = (v * count if len(v) == 1 else v for v in (config.ways, config.shots))
    return draw_tasks(
        datasets,
        num_tasks=config.num_tasks // count,
        ways=ways,
        shots=shots,
        test_shots=config.test_shots,
        seed=config.seed,
    )


def network(bank: Bank, width: int) -> Source:
    """A Conv4 with a logit for each class of all tasks."""
    size, channels = bank.images.shape[1], bank.images.shape[3]
    preprocess = Preprocess(size, channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    conv4 = Conv4(bank.num_classes, channels=channels, width=width, rngs=nnx.Rngs(0))
    return make_source(conv4, preprocess, bank.class_names)


def _alone(
    source: Source, drawn: Drawn, training: SourceRecipe, seeds: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Each task trained alone: accuracies ``[seeds, t]``, and scores ``{name: [t, t]}`` of these
    networks on the other tasks' training images, their means over seeds."""
    train, test = drawn.dataset
    tasks = range(len(train.group_names))
    accuracy, scores = [], []
    with progress(total=len(seeds) * len(tasks), desc="alone", unit="task") as bar:
        for seed in seeds:
            networks = []
            for task in tasks:
                networks.append(_trained(source, train, (task,), training, seed))
                bar.update()
            accuracy.append(
                [accuracy_by_task(n, test, (t,))[0] for t, n in zip(tasks, networks, strict=True)]
            )
            scores.append(pairwise_scores(networks, train))
    means = {name: np.mean([s[name] for s in scores], axis=0) for name in scores[0]}
    return np.array(accuracy), means


def _trained(source: Source, bank: Bank, group: Group, training: SourceRecipe, seed: int) -> Source:
    arguments = source, bank, group, training
    return named("--learning-rate", train_jointly, *arguments, seed=seed)


def _joint(
    study: report.Run,
    source: Source,
    dataset: Dataset,
    training: SourceRecipe,
    groups: Sequence[Group],
    seeds: Sequence[int],
    alone: np.ndarray,
    cluster: str | None,
) -> dict[Group, np.ndarray]:
    """Test accuracies ``[seeds, tasks of the group]`` of every group."""
    reached: dict[Group, np.ndarray] = {(t,): alone[:, [t]] for t in range(alone.shape[1])}
    identity = {
        "training": dataclasses.asdict(training),
        "network": source.digest,
        "train": dataset.train.digest,
        "test": dataset.test.digest,
    }
    journal = Journal(study.path / "groups.journal", identity)
    done = {(*row["group"], row["seed"]): row["accuracy"] for row in journal.rows}
    wanted = [(g, s) for g in groups if len(g) > 1 for s in seeds if (*g, s) not in done]
    total = sum(len(group) for group, _ in wanted) * training.steps * training.batch_size

    def train(piece: tuple[Group, int]) -> list[float]:  # of leepjax alone, which workers have
        group, seed = piece
        try:
            trained = train_jointly(source, dataset.train, group, training, seed=seed)
        except ValueError as error:
            raise ValueError(f"--learning-rate: {error}") from None
        return accuracy_by_task(trained, dataset.test, group)

    with progress(total=total, desc="together", unit="image") as bar:
        for i, accuracy in run_all(train, wanted, cluster=cluster, what="groups"):
            group, seed = wanted[i]
            journal.append([{"group": group, "seed": seed, "accuracy": accuracy}])
            done[*group, seed] = accuracy
            bar.update(len(group) * training.steps * training.batch_size)
    for group in groups:
        if len(group) > 1:
            reached[group] = np.array([done[*group, seed] for seed in seeds])
    return reached


def _write(
    study: report.Run,
    drawn: Drawn,
    scores: dict[str, np.ndarray],
    independent: dict[str, np.ndarray],
    chosen: dict[str, Partition],
    random: dict[tuple[int, ...], list[Partition]],
    alone: np.ndarray,
    reached: dict[Group, np.ndarray],
) -> None:
    """The tables from which the page, the figures and the printed text are made."""
    train, test = drawn.dataset
    tasks = range(len(train.group_names))
    study.write_table(
        "tasks",
        [
            {
                "task": t,
                "name": train.group_names[t],
                "data": drawn.families[t],
                "classes": len(np.unique(train.labels[train.groups == t])),
                "num_train": int((train.groups == t).sum()),
                "num_test": int((test.groups == t).sum()),
                "alone": alone[:, t].mean(),
            }
            for t in tasks
        ],
    )
    study.write_table(
        "results",
        [
            {
                "group": " ".join(map(str, group)),
                "seed": seed,
                "task": t,
                "accuracy": values[seed, i],
                "gain": values[seed, i] - alone[seed, t],
            }
            for group, values in reached.items()
            for seed in range(len(values))
            for i, t in enumerate(group)
        ],
    )
    affinities = {name: affinity(values) for name, values in scores.items()}
    study.write_table(
        "scores",
        [
            {"score": name, "source": i, "target": j}
            | {"value": values[i, j], "affinity": affinities[name][i, j]}
            | {"independent": independent[name][i, j]}
            for name, values in scores.items()
            for i in tasks
            for j in tasks
            if i != j
        ],
    )
    labelled = [(name, 0, partition) for name, partition in chosen.items()]
    for sizes, partitions in random.items():
        title = f"random {' '.join(map(str, sizes))}"
        labelled += [(title, i, partition) for i, partition in enumerate(partitions)]
    study.write_table(
        "groupings",
        [
            {"grouping": name, "number": i, "groups": " | ".join(" ".join(map(str, g)) for g in p)}
            for name, i, p in labelled
        ],
    )
    study.write_table("correlation", correlation_rows(independent, alone, reached))
    study.write_table("comparison", comparison_rows(chosen, random, alone, reached))


def _check(config: Config) -> None:
    """Find bad flags before long work."""
    count = len(config.target_data)
    if len(set(config.target_data)) < max(count, 1):
        raise ValueError(f"--target-data: wanted one or more, each once, got {config.target_data}")
    for name in ("ways", "shots"):
        value = getattr(config, name)
        if len(value) not in (1, count) or min(value) < (2 if name == "ways" else 1):
            raise ValueError(
                f"--{name}: wanted one number, or one for each of {count} --target-data, from "
                f"{2 if name == 'ways' else 1}, got {' '.join(map(str, value)) or 'none'}"
            )
    if config.num_tasks < 4 or config.num_tasks % count:
        raise ValueError(
            f"--num-tasks: wanted at least 4, and a multiple of {count}, the number of "
            f"--target-data, got {config.num_tasks}"
        )
    if not 2 <= config.num_groups < config.num_tasks:
        raise ValueError(
            f"--num-groups: wanted 2 to {config.num_tasks - 1}, fewer than tasks, got "
            f"{config.num_groups}"
        )
    for name in ("test_shots", "width", "num_random", "num_seeds"):
        if getattr(config, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag}: wanted at least 1, got {getattr(config, name)}")
    for name in ("steps", "batch_size", "learning_rate"):
        if not 0 < getattr(config, name) < float("inf"):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag}: wanted more than 0, got {getattr(config, name)}")
    check_seed("--seed", config.seed, more=2 * config.num_seeds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from its command line."""
    start(Config, run, PRESETS, arguments)

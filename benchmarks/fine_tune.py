"""How fast are many small tasks fine-tuned, against one after another in PyTorch?

    python -m benchmarks fine_tune --threads 2

PyTorch trains in its default layout and in channels last, on a GPU compiled too. Images and weights
are random: only their shapes count. All contenders start from the same weights and see the same
batches, so that they end with the same loss, but for rounding.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import nnx
from rich.console import Console

from benchmarks import command, peers
from benchmarks.training import race
from leepjax.data import Bank, Dataset
from leepjax.models import Preprocess, Source, make_network, make_source
from leepjax.tasks import Tasks, sample_tasks
from leepjax.transfer import Recipe, fine_tune
from leepjax.transfer.jobs import epoch_batches, make_jobs

CLASSES, WAYS, SHOTS, BATCH, SIZE = 10, 5, 50, 25, 32
NOTE = "Of training; leepjax tests one image of each class besides, after every epoch."


@dataclasses.dataclass(frozen=True)
class Config(command.Shared):
    """Time the fine-tuning of many small tasks beside PyTorch, in one run, on the same threads."""

    tasks: int = 4
    """How many."""
    epochs: int = 2
    """Of each."""
    strategies: tuple[Literal["loop", "vmap"], ...] = ("loop", "vmap")
    """Which of leepjax's."""
    chunk: int | None = None
    """Tasks that a device holds at once with vmap; default 32."""


class Problem(NamedTuple):
    """What all contenders work on."""

    key: jax.Array
    source: Source
    dataset: Dataset
    tasks: Tasks
    recipe: Recipe


def run(config: Config, console: Console) -> Path:
    """Time everything, print the table, write it as CSV and Markdown; return its directory."""
    if config.threads > 1:  # cores are devices: each trains a task of its own
        jax.config.update("jax_num_cpu_devices", config.threads)
    title = (
        f"{config.tasks} tasks of {WAYS} x {SHOTS} images of {SIZE} x {SIZE}, "
        f"ResNet20, {config.epochs} epoch(s) in batches of {BATCH}"
    )
    images = config.tasks * config.epochs * (WAYS * SHOTS // BATCH) * BATCH
    contenders = partial(make_contenders, make_problem(config), config)
    return race(config, title, "images", images, contenders, NOTE, console)


def make_problem(config: Config) -> Problem:
    """Tasks of 5 classes with 50 images, and a ResNet20."""
    rng, names = np.random.default_rng(config.seed), tuple("abcdefghij")

    def bank(per_class: int) -> Bank:
        labels = np.repeat(np.arange(CLASSES, dtype=np.int32), per_class)
        images = rng.integers(0, 256, (len(labels), SIZE, SIZE, 3), dtype=np.uint8)
        return Bank(images, labels, np.zeros_like(labels), names, ("random",))

    network = make_network("resnet20", CLASSES, size=SIZE, channels=3, rngs=nnx.Rngs(config.seed))
    source = make_source(network, Preprocess(SIZE, 3, (0.5,) * 3, (0.25,) * 3), names)
    # One image a class to test on, the fewest that a task may have.
    dataset, key = Dataset(bank(2 * SHOTS), bank(1)), jax.random.key(config.seed)
    tasks = sample_tasks(key, dataset, num_tasks=config.tasks, ways=WAYS, shots=SHOTS)
    return Problem(key, source, dataset, tasks, Recipe(epochs=config.epochs, batch_size=BATCH))


def make_contenders(
    problem: Problem, config: Config, console: Console
) -> dict[str, Callable[[], float]]:
    """Calls that fine-tune all tasks and return the mean loss of the last epoch, by name."""
    devices = jax.devices() if jax.default_backend() == "cpu" else jax.devices()[:1]

    def ours(strategy: Any) -> float:
        options = {"strategy": strategy, "chunk": config.chunk, "devices": devices}
        result = fine_tune(*problem, **options)
        return float(result.train_loss[:, -1].mean())

    calls = {f"leepjax {strategy}": partial(ours, strategy) for strategy in config.strategies}
    return calls | (_theirs(problem, console) if config.peers else {})


def _theirs(problem: Problem, console: Console) -> dict[str, Callable[[], float]]:
    """By PyTorch, on the same device, if it is there."""
    module = peers.available("torch_resnet", console)
    if module is None:
        return {}
    key, source, dataset, tasks, recipe = problem
    batches = []
    for job in make_jobs(key, dataset, tasks, [recipe]):
        epochs = [epoch_batches(key, job, e, BATCH) for e in range(1, recipe.epochs + 1)]
        batches.append(tuple(np.concatenate(a) for a in zip(*epochs, strict=True)))
    return module.contenders(source, dataset.train.images, batches, WAYS, recipe)


def main(config: Config) -> None:
    """Run the benchmark, on as many cores as it says."""
    command.start(config, run)

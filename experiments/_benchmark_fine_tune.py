"""How fast are many small tasks fine-tuned, against one after another in PyTorch?

Images and weights are random: only their shapes count. All contenders start from the same weights
and see the same batches, so that they end with the same loss, but for rounding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from rich.console import Console

from experiments import _peers
from leepjax.data import Bank, Dataset
from leepjax.models import Preprocess, Source, make_network, make_source
from leepjax.tasks import Tasks, sample_tasks
from leepjax.transfer import Recipe, fine_tune
from leepjax.transfer.lanes import epoch_batches, make_lanes

CLASSES, WAYS, SHOTS, BATCH, SIZE = 10, 5, 50, 25, 32
NOTES = ("Of training; leepjax tests one image of each class besides, after every epoch.",)
UNIT = "images"


class Problem(NamedTuple):
    """What all contenders work on."""

    source: Source
    dataset: Dataset
    tasks: Tasks
    recipe: Recipe
    key: jax.Array

    @property
    def amount(self) -> int:
        """How many images are trained on, each as often as there are epochs."""
        steps = WAYS * SHOTS // self.recipe.batch_size
        return len(self.tasks.classes) * self.recipe.epochs * steps * self.recipe.batch_size


def make_problem(num_tasks: int, epochs: int, seed: int) -> Problem:
    """Tasks of 5 classes with 50 images, and a ResNet20."""
    rng, names = np.random.default_rng(seed), tuple("abcdefghij")

    def bank(per_class: int) -> Bank:
        labels = np.repeat(np.arange(CLASSES, dtype=np.int32), per_class)
        images = rng.integers(0, 256, (len(labels), SIZE, SIZE, 3), dtype=np.uint8)
        return Bank(images, labels, np.zeros_like(labels), names, ("random",))

    network = make_network("resnet20", CLASSES, size=SIZE, channels=3, rngs=nnx.Rngs(seed))
    source = make_source(network, Preprocess(SIZE, 3, (0.5,) * 3, (0.25,) * 3), names)
    # One image a class to test on, the fewest that a task may have.
    dataset, key = Dataset(bank(2 * SHOTS), bank(1)), jax.random.key(seed)
    tasks = sample_tasks(key, dataset, num_tasks=num_tasks, ways=WAYS, shots=SHOTS)
    return Problem(source, dataset, tasks, Recipe(epochs=epochs, batch_size=BATCH), key)


def contenders(
    problem: Problem, strategies: Sequence[str], peers: bool, console: Console, chunk: int | None
) -> dict[str, Callable[[], float]]:
    """Calls that fine-tune all tasks and return the mean loss of the last epoch, by name."""
    # Cores are devices: each trains a task of its own.
    devices = jax.devices() if jax.default_backend() == "cpu" else jax.devices()[:1]

    def ours(strategy: Any) -> float:
        options = {"key": problem.key, "strategy": strategy, "chunk": chunk, "devices": devices}
        result = fine_tune(*problem[:4], **options)
        return float(result.train_loss[:, -1].mean())

    calls = {f"leepjax {strategy}": partial(ours, strategy) for strategy in strategies}
    return calls | (_theirs(problem, console) if peers else {})


def _theirs(problem: Problem, console: Console) -> dict[str, Callable[[], float]]:
    """By PyTorch, on the same device, if it is there."""
    module = _peers.available("_torch_resnet", console)
    if module is None:
        return {}
    source, dataset, tasks, recipe, key = problem
    batches = []
    for lane in make_lanes(dataset, tasks, [recipe], key):
        epochs = [epoch_batches(lane, key, e, BATCH) for e in range(1, recipe.epochs + 1)]
        batches.append(tuple(np.concatenate(a) for a in zip(*epochs, strict=True)))
    return module.contenders(source, dataset.train.images, batches, WAYS, recipe)


def title(problem: Problem) -> str:
    """What is trained."""
    return (
        f"{len(problem.tasks.classes)} tasks of {WAYS} x {SHOTS} images of {SIZE} x {SIZE}, "
        f"ResNet20, {problem.recipe.epochs} epoch(s) in batches of {BATCH}"
    )

"""Jobs on the host: the images that a task trains on with a recipe, and their order.

All of it is drawn from the caller's key and the task's own images, so it is the same whether a task
comes alone or among others.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from leepjax.data import Dataset
from leepjax.tasks import Split, Tasks
from leepjax.transfer.recipe import Recipe


class Rows(NamedTuple):
    """Images of one job: rows of a bank ``[m]`` and labels within the task ``[m]``."""

    indices: np.ndarray
    labels: np.ndarray


class Job(NamedTuple):
    """A task to train with a recipe.

    Attributes:
      task: which task.
      recipe: which of the recipes.
      num_classes: of the task.
      seed: of everything drawn for it, with the caller's key.
      train: what it trains on.
      validation: held out of that; may be empty.
      test: what measures it.
      steps: batches of an epoch.
    """

    task: int
    recipe: int
    num_classes: int
    seed: int
    train: Rows
    validation: Rows
    test: Rows
    steps: int


def make_jobs(
    key: jax.Array, dataset: Dataset, tasks: Tasks, recipes: Sequence[Recipe]
) -> list[Job]:
    """Every task with every recipe, tasks in order.

    Raises:
      ValueError: tasks do not fit the banks, a class has no test image, a batch is larger than a
        task, or none of a task's images is held out for validation.
    """
    for name, split, bank in (
        ("train", tasks.train, dataset.train),
        ("test", tasks.test, dataset.test),
    ):
        if split.indices.max() >= len(bank.labels):
            raise ValueError(
                f"tasks.{name}: wanted rows of the {name} bank, below {len(bank.labels)}, got "
                f"{split.indices.max()}; were the tasks drawn from another data set?"
            )
    jobs = []
    for task, count in enumerate(tasks.num_classes):
        train, test = _rows(tasks.train, task), _rows(tasks.test, task)
        for name, rows in (("training", train), ("test", test)):
            absent = np.setdiff1d(np.arange(count), rows.labels)
            if len(absent):
                names = [dataset.train.class_names[c] for c in tasks.classes[task][absent]]
                raise ValueError(
                    f"tasks: wanted {name} images of every class, task {task} has none of "
                    f"{', '.join(names)}"
                )
        seed = zlib.crc32(np.concatenate([*train]).tobytes())
        train, validation = _held_out(_rng(key, seed, 0), train, recipes[0].validation)
        if recipes[0].validation > 0 and len(validation.indices) == 0:
            raise ValueError(
                f"recipe.validation: wanted a share that holds images out, got "
                f"{recipes[0].validation:g}, which rounds to none of any class of task {task} "
                f"({len(train.indices)} images of {count} classes)"
            )
        steps = len(train.indices) // recipes[0].batch_size
        if steps == 0:
            raise ValueError(
                f"recipe.batch_size: wanted at most {len(train.indices)}, the training images of "
                f"task {task}, got {recipes[0].batch_size}"
            )
        jobs += [
            Job(task, r, int(count), seed, train, validation, test, steps)
            for r in range(len(recipes))
        ]
    return jobs


def epoch_batches(
    key: jax.Array, job: Job, epoch: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels ``[steps, batch_size]`` of one epoch: a fresh order, its last images left."""
    order = _rng(key, job.seed, epoch).permutation(len(job.train.indices))
    order = order[: job.steps * batch_size].reshape(job.steps, batch_size)
    return job.train.indices[order], job.train.labels[order]


def make_split(rows: Sequence[Rows]) -> Split:
    """Rows of several tasks as one split, padded."""
    length = max(len(r.indices) for r in rows)
    where = np.arange(length) < np.array([len(r.indices) for r in rows])[:, None]

    def padded(ragged: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.pad(a, (0, length - len(a))) for a in ragged]).astype(np.int32)

    return Split(padded([r.indices for r in rows]), padded([r.labels for r in rows]), where)


def _rows(split: Split, task: int) -> Rows:
    where = split.where[task]
    return Rows(split.indices[task][where], split.labels[task][where])


def _held_out(rng: np.random.Generator, rows: Rows, share: float) -> tuple[Rows, Rows]:
    """Rows without, and with only, a share of each class, rounded; at least one image stays."""
    held = np.zeros(len(rows.labels), bool)
    for label in np.unique(rows.labels):
        of_class = np.flatnonzero(rows.labels == label)
        count = min(round(share * len(of_class)), len(of_class) - 1)
        held[rng.choice(of_class, count, replace=False)] = True
    return Rows(*(a[~held] for a in rows)), Rows(*(a[held] for a in rows))


def _rng(key: jax.Array, seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([*np.ravel(jax.random.key_data(key)).tolist(), seed, epoch])

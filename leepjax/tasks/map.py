"""Apply a function to many tasks: bucketed by class count, in chunks that fit, over devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from leepjax._progress import progress
from leepjax.tasks.tasks import Split, Tasks

ROWS = 2**16  # training rows of a chunk: 200 tasks of 5 x 50 images, or 1 of 60,000


def map_tasks(
    fn: Callable[[Tasks], Any],
    tasks: Tasks,
    *,
    devices: Sequence[Any] | None = None,
    desc: str,
) -> Any:
    """Return ``fn`` of all tasks: a pytree of NumPy arrays ``[t, ...]`` in the tasks' order.

    ``fn`` gets chunks of tasks that have the same number of classes, trimmed to what they fill:
    ``chunk.classes.shape[1]`` is that number, a static shape. It returns arrays ``[chunk, ...]``,
    and is best jitted. Results do not depend on the chunks, nor beyond rounding on ``devices``,
    over which each chunk is divided.
    """
    mesh = jax.sharding.Mesh(np.array(devices or jax.devices()[:1]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    counts = tasks.num_classes
    results, order = [], []
    with progress(total=len(counts), desc=desc, unit="task") as bar:
        for count in np.unique(counts):
            members = np.flatnonzero(counts == count)
            bucket = _trim(_take(tasks, members), count)
            size = max(1, min(len(members), ROWS // bucket.train.where.shape[1]))
            size = -(-size // mesh.size) * mesh.size
            for start in range(0, len(members), size):
                rows = np.arange(start, min(start + size, len(members)))
                chunk = _take(bucket, np.resize(rows, size))  # the last one filled up by repetition
                value = jax.device_get(fn(jax.device_put(chunk, sharding)))
                results.append(_take(value, np.arange(len(rows))))
                order.append(members[rows])
                bar.update(len(rows))
    inverse = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[inverse], *results)


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)


def _trim(tasks: Tasks, count: int) -> Tasks:
    def trim(split: Split) -> Split:
        return jax.tree.map(lambda x: x[:, : split.where.sum(1).max()], split)

    return Tasks(tasks.classes[:, :count], tasks.groups, trim(tasks.train), trim(tasks.test))

"""Apply a function to many tasks, bucketed by class count, in chunks that fit, over devices."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from leepjax import distributed
from leepjax._progress import progress
from leepjax.tasks.tasks import Split, Tasks

ROWS = 2**16  # training rows of a chunk: 200 tasks of 5 x 50 images, or 1 of 60,000
ROUND_ROWS, ROUND_TASKS = 64, 8  # shapes are rounded up, so that other draws compile alike
Strategy = Literal["auto", "loop", "vmap"]
"""How a device runs the tasks it has: one after another, or several at once by `vmap`."""


def map_tasks(
    fn: Callable[[Any, Tasks], Any],
    shared: Any,
    tasks: Tasks,
    *,
    devices: Sequence[Any] | None = None,
    chunk: int | None = None,
    desc: str | None,
) -> Any:
    """Return ``fn(shared, tasks)``: a pytree of NumPy arrays ``[t, ...]`` in the tasks' order.

    ``fn`` gets chunks of tasks that have the same number of classes, trimmed to what they fill:
    ``chunk.classes.shape[1]`` is that number, a static shape. Results depend neither on the chunks
    nor, beyond rounding, on the devices: each runs ``fn`` on its part of every chunk.

    Args:
      fn: a pure function, traced once for each shape; it returns arrays ``[chunk, ...]``. Pass the
        same function object again to have it compiled once.
      shared: a pytree of arrays that all tasks read, such as the features of a bank.
      tasks: t tasks.
      devices: the devices that share the tasks; default this process's first. With those of several
        processes the call is joint (``leepjax.distributed``): each process takes its share.
      chunk: tasks that a device holds at once; default as many as have about 65,000 training images
        together on all devices, which suits functions of features.
      desc: what the progress bar says; None: there is none.

    Raises:
      ValueError: ``devices`` is empty, or ``chunk`` not an int >= 1.
    """
    check_chunk(chunk)
    part = distributed.part_of(devices)
    mesh = task_mesh(part.devices)
    if part.joint:
        what = desc or "map_tasks"
        distributed.check_same(what, tasks=tasks, shared=shared)
        mine = _take(tasks, part.rows(len(tasks.classes)))
        options = {"devices": part.devices, "chunk": chunk, "desc": desc}
        parts = distributed.gather(what, lambda: map_tasks(fn, shared, mine, **options))
        whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        return _take(whole, np.arange(len(tasks.classes)))
    run = _sharded(fn, mesh)
    shared = jax.device_put(shared, NamedSharding(mesh, P()))
    counts = tasks.num_classes
    results, order = [], []
    with progress(total=len(counts), desc=desc, unit="task") as bar:
        for count in np.unique(counts):
            in_bucket = np.flatnonzero(counts == count)
            bucket = _trim(_take(tasks, in_bucket), count)
            if chunk is None:
                size = max(1, min(len(in_bucket), ROWS // bucket.train.where.shape[1]))
                multiple = np.lcm(ROUND_TASKS if size > ROUND_TASKS else 1, mesh.size)
                size = -(-size // multiple) * multiple
            else:
                size = min(chunk, -(-len(in_bucket) // mesh.size)) * mesh.size
            for start in range(0, len(in_bucket), size):
                rows = np.arange(start, min(start + size, len(in_bucket)))
                part = _take(bucket, np.resize(rows, size))  # the last one filled up by repetition
                value = jax.device_get(
                    run(shared, jax.device_put(part, NamedSharding(mesh, P("data"))))
                )
                results.append(_take(value, np.arange(len(rows))))
                order.append(in_bucket[rows])
                bar.update(len(rows))
    inverse = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[inverse], *results)


def task_mesh(devices: Sequence[Any] | None) -> Mesh:
    """The devices that share tasks, or this process's first, along the axis ``data``.

    Raises:
      ValueError: there are none.
    """
    if devices is not None and len(devices) == 0:
        raise ValueError("devices: wanted at least one, got none; leave it out for the first")
    return Mesh(np.array(devices or jax.local_devices()[:1]), ("data",))


def check_chunk(chunk: int | None) -> None:
    """Check a number of tasks that a device holds at once.

    Raises:
      ValueError: it is neither None nor an int >= 1.
    """
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: wanted an int >= 1, got {chunk!r}")


def use_vmap(strategy: Strategy, platform: str) -> bool:
    """Whether tasks with network parameters of their own run at once, by `vmap`.

    ``"loop"`` runs one task after another, ``"vmap"`` several at once. ``"auto"`` is ``"loop"`` on
    CPUs, where XLA is slow for convolutions with several kernels at once, else ``"vmap"``.

    Raises:
      ValueError: another strategy.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy: wanted {' or '.join(get_args(Strategy))}, got {strategy!r}")
    return strategy == "vmap" or (strategy == "auto" and platform != "cpu")


@lru_cache(maxsize=64)  # not more: a function may hold a network
def _sharded(fn: Callable[[Any, Tasks], Any], mesh: Mesh) -> Callable[[Any, Tasks], Any]:
    """``fn`` on every device's part of the tasks, without communication."""
    specs = {"in_specs": (P(), P("data")), "out_specs": P("data"), "check_vma": False}
    options = serial_lapack() if mesh.devices.flat[0].platform == "cpu" else None
    return jax.jit(jax.shard_map(fn, mesh=mesh, **specs), compiler_options=options)


def serial_lapack() -> dict[str, str] | None:
    """``compiler_options`` for programs with several batches of LAPACK's functions, on a CPU.

    In jaxlib 0.10 each such batch holds a thread while it waits for others of the same pool. With
    as many batches as threads, all wait for ever. With this schedule one runs at a time.
    """
    affected = (0, 10) <= jax.__version_info__[:2] < (0, 12)
    schedule = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    return {"xla_cpu_scheduler_type": schedule} if affected else None


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)


def _trim(tasks: Tasks, count: int) -> Tasks:
    def trim(split: Split) -> Split:
        length = -(-split.where.sum(1).max() // ROUND_ROWS) * ROUND_ROWS
        fill = max(0, length - split.where.shape[1])
        return jax.tree.map(lambda x: np.pad(x[:, :length], ((0, 0), (0, fill))), split)

    return Tasks(tasks.classes[:, :count], tasks.groups, trim(tasks.train), trim(tasks.test))

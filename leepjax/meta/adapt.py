"""The accuracy of a trained meta-learner on target tasks: adapt to each, test it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from leepjax import distributed
from leepjax._progress import progress
from leepjax._store import digest
from leepjax.cluster import run_all
from leepjax.data import Dataset, Pixels, check_bank
from leepjax.meta.learner import Meta, MetaLearner, cross_entropy, tasks_at_once
from leepjax.models.source import tree_digest
from leepjax.tasks import Strategy, Tasks, check_chunk, map_tasks, only_used, task_mesh

CHUNK = 20  # tasks that a device holds at once


class AdaptationResult(NamedTuple):
    """The results of adapting to each of t tasks.

    Attributes:
      accuracy: ``[t]`` share of the test images with a correct prediction.
      loss: ``[t]`` mean cross-entropy on them.
      failed: ``[t]`` 1 where the adapted model's predictions are not finite, else 0.
    """

    accuracy: Any
    loss: Any
    failed: Any


def adapt_tasks(
    learner: MetaLearner,
    meta: Meta,
    dataset: Dataset,
    tasks: Tasks,
    *,
    strategy: Strategy = "auto",
    chunk: int = CHUNK,
    devices: Sequence[Any] | None = None,
    journal: Path | None = None,
    cluster: str | None = None,
) -> AdaptationResult:
    """Adapt to the training images of each task, and predict its test images.

    Each device holds one copy of the images that the tasks draw.

    Args:
      learner: the learner.
      meta: its parameters, from :func:`meta_train`.
      dataset: the banks that the tasks are of.
      tasks: few-shot tasks, all with the learner's number of classes, and with the same numbers of
        images.
      strategy: ``"vmap"``: the tasks of a chunk at once; ``"loop"``: one after another; ``"auto"``:
        what suits learner and backend.
      chunk: tasks that a device holds at once.
      devices: the devices that share the tasks; default this process's first. With those of several
        processes the call is joint (``leepjax.distributed``).
      journal: a file that keeps what is finished; a call that names it again does the rest, with
        the same result.
      cluster: divide the tasks over a Ray cluster: ``"local:N"``, ``"auto"`` or ``HOST:PORT``, as
        of :func:`leepjax.cluster.connect`; each worker adapts on its own first device.

    Raises:
      ValueError: tasks with another number of classes, or that differ in their images' number; an
        argument out of its range; a journal of another configuration; a cluster that does not
        answer, or tasks that failed there.
    """
    for split, bank in zip(dataset._fields, dataset, strict=True):
        check_bank(f"dataset.{split}", bank)
    ways = learner.ways
    if (tasks.num_classes != ways).any():
        got = sorted(set(tasks.num_classes.tolist()))
        raise ValueError(f"tasks: wanted {ways} classes, the learner's, in each; got {got}")
    for name in ("train", "test"):
        if not getattr(tasks, name).where.all():
            raise ValueError(f"tasks.{name}: wanted the same number of images in every task")
    tasks_at_once(learner, strategy)  # or it is refused
    check_chunk(chunk)
    total, devices = len(tasks.classes), None if cluster else devices
    what = f"adapt {learner.name}"
    record, rows = None, []
    if journal is not None:
        identity = {
            "learner": digest(learner.name, dict(learner.identity)),
            "meta": tree_digest(meta),
            "train": dataset.train.digest,
            "test": dataset.test.digest,
            "tasks": digest(*jax.tree.leaves(tasks)),
        }
        record, rows = distributed.open_journal(what, journal, identity, devices)
    done = {row["task"] for row in rows}
    width = 1 if devices is None else len(devices)
    size = min(chunk, -(-total // width)) * width
    parts = [np.arange(start, min(start + size, total)) for start in range(0, total, size)]
    missing = [part for part in parts if not done.issuperset(part.tolist())]
    used, drawn = only_used(dataset, tasks)
    adapting = _Adapting(learner, meta, used, strategy, chunk, devices)
    # The last part is filled up by repetition, so that there is one program.
    pieces = [jax.tree.map(lambda x, p=part: x[np.resize(p, size)], drawn) for part in missing]
    with progress(total=total, desc=what, unit="task") as bar:
        bar.update(total - sum(map(len, missing)))
        for i, result in run_all(adapting, pieces, cluster=cluster, what=what):
            reached = [
                {"task": int(task), "accuracy": float(a), "loss": float(b), "failed": int(c)}
                for task, a, b, c in zip(missing[i], *result, strict=False)
            ]
            if record is None:
                rows += reached
            else:
                record.append(reached)
            bar.update(len(missing[i]))
    reached = {row["task"]: row for row in rows}
    columns = {name: [reached[t][name] for t in range(total)] for name in AdaptationResult._fields}
    floats = np.dtype(jnp.result_type(float))
    return AdaptationResult(
        np.array(columns["accuracy"], floats),
        np.array(columns["loss"], floats),
        np.array(columns["failed"], int),
    )


@dataclasses.dataclass
class _Adapting:
    """Adapts a learner to tasks, here or on a worker; images and programs are there once."""

    learner: MetaLearner
    meta: Meta
    used: Dataset
    strategy: Strategy
    chunk: int
    devices: Sequence[Any] | None

    def __call__(self, tasks: Tasks) -> AdaptationResult:
        if "adapt" not in self.__dict__:
            sizes = tasks.train.where.shape[1], tasks.test.where.shape[1]
            self.adapt = _adapt(self.learner, self.strategy, *sizes)
            here = distributed.part_of(self.devices).devices
            arrays = self.meta, *(Pixels.of(bank.images) for bank in self.used)
            self.shared = jax.device_put(arrays, NamedSharding(task_mesh(here), P()))
        options = {"devices": self.devices, "chunk": self.chunk, "desc": None}
        return map_tasks(self.adapt, self.shared, tasks, **options)


def _adapt(
    learner: MetaLearner, strategy: Strategy, number: int, tests: int
) -> Callable[[Any, Tasks], AdaptationResult]:
    """What adapts to the ``number`` training images of each task, and predicts ``tests`` others."""
    at_once = tasks_at_once(learner, strategy)

    def adapt(shared: Any, tasks: Tasks) -> AdaptationResult:
        meta, train_images, test_images = shared

        def one(task: Any) -> AdaptationResult:
            train, labels, test, test_labels = task
            x = learner.embed(meta, jnp.concatenate([train_images[train], test_images[test]]))
            adapted = learner.adapt(meta, x[:number], labels)
            logits = learner.predict(meta, adapted, x[number:])
            loss = cross_entropy(logits, test_labels)
            right = (logits.argmax(1) == test_labels).mean()
            return AdaptationResult(right, loss, ~jnp.isfinite(loss))

        # Without the rows that `map_tasks` fills splits up with: a learner knows of no padding.
        train, test = tasks.train, tasks.test
        rows = train.indices[:, :number], train.labels[:, :number]
        rows = *rows, test.indices[:, :tests], test.labels[:, :tests]
        return jax.vmap(one)(rows) if at_once else jax.lax.map(one, rows)

    return adapt

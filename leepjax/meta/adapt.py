"""The accuracy of a trained meta-learner on target tasks: adapt to each, test it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.data import Dataset, Pixels, check_bank
from leepjax.meta.learner import Meta, MetaLearner, cross_entropy, tasks_at_once
from leepjax.tasks import Strategy, Tasks, map_tasks, only_used

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
      devices: the devices that share the tasks; default the first.

    Raises:
      ValueError: tasks with another number of classes, or that differ in their images' number; an
        argument out of its range.
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
    number, tests = tasks.train.where.shape[1], tasks.test.where.shape[1]
    at_once = tasks_at_once(learner, strategy)

    def adapt(shared: Any, tasks: Tasks) -> Any:
        meta, train_images, test_images = shared

        def one(task: Any) -> Any:
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

    used, tasks = only_used(dataset, tasks)
    shared = meta, *(Pixels.of(bank.images) for bank in used)
    desc = f"adapt {learner.name}"
    result = map_tasks(adapt, shared, tasks, devices=devices, chunk=chunk, desc=desc)
    return result._replace(failed=np.asarray(result.failed, int))

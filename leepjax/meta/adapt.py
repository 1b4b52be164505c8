"""What a trained meta-learner reaches on target tasks: adapt to each, test it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._progress import progress
from leepjax.data import Dataset, check_bank
from leepjax.meta.learner import Meta, MetaLearner, cross_entropy, one_by_one
from leepjax.tasks import Split, Tasks

CHUNK = 20  # tasks a call


class AdaptationResult(NamedTuple):
    """What adapting to each of t tasks reaches.

    Attributes:
      accuracy: ``[t]`` share of the test images that are labelled right.
      loss: ``[t]`` mean cross-entropy on them.
      failed: ``[t]`` 1 where the adapted model's predictions are not finite, else 0.
    """

    accuracy: Any
    loss: Any
    failed: Any


def adapt_tasks(
    learner: MetaLearner, meta: Meta, dataset: Dataset, tasks: Tasks
) -> AdaptationResult:
    """Adapt to the training images of each task, and predict its test images.

    Args:
      learner: the learner.
      meta: what it knows, from :func:`meta_train`.
      dataset: the banks that the tasks are of.
      tasks: few-shot tasks, all with the learner's number of classes, and with the same numbers of
        images.

    Raises:
      ValueError: tasks with another number of classes, or that differ in their images' number.
    """
    for split, bank in zip(dataset._fields, dataset, strict=True):
        check_bank(f"dataset.{split}", bank)
    ways = learner.ways
    if (tasks.num_classes != ways).any():
        found = sorted(set(tasks.num_classes.tolist()))
        raise ValueError(f"tasks: wanted {ways} classes, the learner's, in each; got {found}")
    for name in ("train", "test"):
        if not getattr(tasks, name).where.all():
            raise ValueError(f"tasks.{name}: wanted the same number of images in every task")

    def one(meta: Meta, train: Any, labels: Any, test: Any, test_labels: Any) -> Any:
        x = learner.embed(meta, jnp.concatenate([train, test]))
        adapted = learner.adapt(meta, x[: len(labels)], labels)
        logits = learner.predict(meta, adapted, x[len(labels) :])
        loss = cross_entropy(logits, test_labels)
        right = (logits.argmax(1) == test_labels).mean()
        return right, loss, ~jnp.isfinite(loss)

    @jax.jit
    def run(meta: Meta, *arrays: Any) -> Any:
        if one_by_one(learner):
            return jax.lax.map(lambda a: one(meta, *a), arrays)
        return jax.vmap(one, (None, 0, 0, 0, 0))(meta, *arrays)

    size, t, found = min(CHUNK, len(tasks.classes)), len(tasks.classes), []
    with progress(total=t, desc=f"adapt {learner.name}", unit="task") as bar:
        for start in range(0, t, size):
            rows = np.resize(np.arange(start, min(start + size, t)), size)  # one shape for all
            splits: list[Split] = [
                Split(*(array[rows] for array in split)) for split in (tasks.train, tasks.test)
            ]
            arrays = [
                array
                for split, bank in zip(splits, dataset, strict=True)
                for array in (bank.images[split.indices], split.labels)
            ]
            number = min(size, t - start)
            found.append([np.asarray(a)[:number] for a in run(meta, *arrays)])
            bar.update(number)
    accuracy, loss, failed = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return AdaptationResult(accuracy, loss, failed.astype(int))

"""Scores of a source model on every task: the rows of a study."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.metrics import METRICS, metrics_of, score, score_subsets
from leepjax.tasks.map import map_tasks
from leepjax.tasks.tasks import Split, Tasks, check_rows

CLASS_GRAMS = 2**26  # numbers in the Gram matrices of all classes, at most: 256 MiB


def score_tasks(
    features: np.ndarray,
    logits: np.ndarray,
    tasks: Tasks,
    *,
    metrics: str | Sequence[str] = "all",
    key: jax.Array | None = None,
    devices: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """Scores ``{name: [t]}`` of all tasks, from their labelled training images.

    Where the tasks' classes come with the same images in every task (class subsets), the scores
    that add over classes come from one pass over the data for all tasks.

    Args:
      features: ``[n, d]`` source features of the train bank.
      logits: ``[n, s]`` source logits of the train bank.
      tasks: the tasks, over the same bank.
      metrics: ``"all"`` or names from ``leepjax.metrics.METRICS``.
      key: a random key for the metrics that draw, the same for all tasks; without one ``"all"``
        leaves them out.
      devices: the devices that share the tasks; default the first.

    Raises:
      ValueError: an argument has a wrong shape or value; it names the argument.
    """
    check_rows("features", features, tasks.train)
    check_rows("logits", logits, tasks.train)
    if len(features) != len(logits):
        raise ValueError(f"logits: wanted {len(features)} rows like features, got {len(logits)}")
    if isinstance(metrics, str) and metrics == "all":
        chosen = metrics_of("features", "logits", "labels", *(() if key is None else ("key",)))
    else:
        chosen = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    scores = {}
    labels = _bank_labels(len(features), tasks)
    num_classes = int(tasks.classes.max()) + 1
    if labels is not None and num_classes * features.shape[1] ** 2 <= CLASS_GRAMS:
        subsets = np.zeros((len(tasks.classes), num_classes + 1), bool)
        np.put_along_axis(subsets, tasks.classes, True, 1)  # -1, padding, is the last column
        of_subsets = score_subsets(
            np.maximum(labels, 0),
            subsets[:, :-1],
            num_classes=num_classes,
            features=jnp.asarray(features),
            probs=jax.nn.softmax(jnp.asarray(logits), axis=1),
            where=labels >= 0,
        )
        scores = {name: np.asarray(of_subsets[name]) for name in chosen if name in of_subsets}
    rest = tuple(name for name in chosen if name not in scores)
    if rest:
        shared = jnp.asarray(features), jnp.asarray(logits), key
        scores |= map_tasks(_score(rest), shared, tasks, devices=devices, desc="scores")
    return {name: scores[name] for name in METRICS if name in scores}


def _bank_labels(n: int, tasks: Tasks) -> np.ndarray | None:
    """``[n]`` the class of every row that a task uses, else -1; None unless tasks that share a
    class share all its rows."""
    split: Split = tasks.train
    labels = np.full(n, -1)
    classes = np.take_along_axis(tasks.classes, split.labels, 1)
    labels[split.indices[split.where]] = classes[split.where]
    counts = np.bincount(labels[labels >= 0], minlength=tasks.classes.max() + 1)
    wanted = np.where(tasks.classes >= 0, counts[tasks.classes], 0).sum(1)
    return labels if (split.where.sum(1) == wanted).all() else None


@cache
def _score(metrics):
    def of_tasks(shared, tasks):
        features, logits, key = shared

        def one(labels, indices, where):
            return score(
                labels,
                num_classes=tasks.classes.shape[1],
                features=features[indices],
                logits=logits[indices],
                key=key,
                where=where,
                metrics=metrics,
            )

        return jax.vmap(one)(tasks.train.labels, tasks.train.indices, tasks.train.where)

    return of_tasks

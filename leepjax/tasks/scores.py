"""Scores of a source model on every task: the rows of a study."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from leepjax.metrics import METRICS, metrics_of, score, score_subsets
from leepjax.tasks.map import map_tasks
from leepjax.tasks.tasks import Split, Tasks, check_rows

CLASS_GRAMS = 2**26  # numbers in the Gram matrices of all classes, at most: 256 MiB


def score_tasks(
    tasks: Tasks,
    *,
    features: ArrayLike | None = None,
    probs: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    key: jax.Array | None = None,
    metrics: str | Sequence[str] = "all",
    devices: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """Scores ``{name: [t]}`` of all tasks, from their labelled training images.

    Arrays are of the train bank, and at least one of them is given. Where the tasks' classes come
    with the same images in every task (class subsets), the scores that add over classes come from
    one pass over the data for all tasks.

    Args:
      tasks: the tasks, over the same bank.
      features: ``[n, d]`` features of the source model.
      probs: ``[n, s]`` source-class probabilities; from ``logits`` where not given.
      logits: ``[n, s]`` source-class logits.
      key: a random key, for the metrics that draw, the same for all tasks; without one ``"all"``
        leaves them out.
      metrics: ``"all"`` or names from ``leepjax.metrics.METRICS``.
      devices: the devices that share the tasks; default the first.

    Returns:
      Scores in the order of the registry, each as of ``leepjax.metrics.score``.

    Raises:
      ValueError: no array, an unknown metric, one whose inputs are missing, or a wrong shape or
        value; it names the argument.
    """
    given = {"features": features, "probs": probs, "logits": logits}
    arrays = {n: check_rows(n, x, tasks.train) for n, x in given.items() if x is not None}
    if not arrays:
        raise ValueError("features, probs, logits: wanted at least one of them, got none")
    features, probs, logits = (arrays.get(name) for name in given)
    first, n = next((name, len(x)) for name, x in arrays.items())
    for name, x in arrays.items():
        if len(x) != n:
            raise ValueError(f"{name}: wanted {n} rows like {first}, got {len(x)}")
    if probs is not None:  # a trace cannot say that they are none
        score(np.zeros(n, int), num_classes=1, probs=probs, metrics="neg_label_entropy")
    of_key = () if key is None else ("key",)
    chosen = metrics_of("labels", *arrays, *of_key, metrics=metrics)
    scores = {}
    labels = _bank_labels(n, tasks)
    num_classes = int(tasks.classes.max()) + 1
    width = arrays["features"].shape[1] if "features" in arrays else 0
    if labels is not None and num_classes * width**2 <= CLASS_GRAMS:
        subsets = np.zeros((len(tasks.classes), num_classes + 1), bool)
        np.put_along_axis(subsets, tasks.classes, True, 1)  # -1, padding, is the last column
        if probs is None and logits is not None:
            probs = jax.nn.softmax(jnp.asarray(logits), axis=1)
        of_subsets = score_subsets(
            np.maximum(labels, 0),
            subsets[:, :-1],
            num_classes=num_classes,
            features=features,
            probs=probs,
            where=labels >= 0,
        )
        scores = {name: np.asarray(of_subsets[name]) for name in chosen if name in of_subsets}
    rest = tuple(name for name in chosen if name not in scores)
    if rest:
        shared = jax.tree.map(jnp.asarray, arrays), key
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
        arrays, key = shared

        def one(labels, indices, where):
            return score(
                labels,
                num_classes=tasks.classes.shape[1],
                key=key,
                where=where,
                metrics=metrics,
                **{name: x[indices] for name, x in arrays.items()},
            )

        return jax.vmap(one)(tasks.train.labels, tasks.train.indices, tasks.train.where)

    return of_tasks

"""Scores of a source model on every task: the rows of a study."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.metrics import METRICS, score
from leepjax.tasks import Tasks, map_tasks


def score_tasks(
    features: np.ndarray,
    logits: np.ndarray,
    tasks: Tasks,
    *,
    metrics: str | Sequence[str] = "all",
    devices: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """Scores ``{name: [t]}`` of all tasks, from their labelled training images.

    Args:
      features: ``[n, d]`` source features of the train bank.
      logits: ``[n, s]`` source logits of the train bank.
      tasks: the tasks, over the same bank.
      metrics: ``"all"`` or names from ``leepjax.metrics.METRICS``.
      devices: the devices that share the tasks; default the first.

    Raises:
      ValueError: an argument has a wrong shape or value; it names the argument.
    """
    for name, x in (("features", features), ("logits", logits)):
        if np.ndim(x) != 2 or not np.isfinite(x).all():
            raise ValueError(f"{name}: wanted finite numbers of shape [n, d], got {np.shape(x)}")
    chosen = metrics if isinstance(metrics, str) else tuple(metrics)
    banks = jnp.asarray(features), jnp.asarray(logits)
    scores = map_tasks(
        lambda chunk: _score(*banks, chunk, metrics=chosen), tasks, devices=devices, desc="scores"
    )
    return {name: scores[name] for name in METRICS if name in scores}  # jit sorts dictionaries


@partial(jax.jit, static_argnames="metrics")
def _score(features, logits, tasks, *, metrics):
    def one(labels, indices, where):
        return score(
            labels,
            num_classes=tasks.classes.shape[1],
            features=features[indices],
            logits=logits[indices],
            where=where,
            metrics=metrics,
        )

    train = tasks.train
    return jax.vmap(one)(train.labels, train.indices, train.where)

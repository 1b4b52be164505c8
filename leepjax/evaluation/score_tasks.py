"""Scores of a source model on every task: the rows of a study."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.metrics import METRICS, score
from leepjax.tasks import Tasks, check_rows, map_tasks


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
    check_rows("features", features, tasks.train)
    check_rows("logits", logits, tasks.train)
    if len(features) != len(logits):
        raise ValueError(f"logits: wanted {len(features)} rows like features, got {len(logits)}")
    chosen = metrics if isinstance(metrics, str) else tuple(metrics)
    shared = jnp.asarray(features), jnp.asarray(logits)
    scores = map_tasks(_score(chosen), shared, tasks, devices=devices, desc="scores")
    return {name: scores[name] for name in METRICS if name in scores}  # jit sorts dictionaries


@cache
def _score(metrics):
    def of_tasks(shared, tasks):
        features, logits = shared

        def one(labels, indices, where):
            return score(
                labels,
                num_classes=tasks.classes.shape[1],
                features=features[indices],
                logits=logits[indices],
                where=where,
                metrics=metrics,
            )

        return jax.vmap(one)(tasks.train.labels, tasks.train.indices, tasks.train.where)

    return of_tasks

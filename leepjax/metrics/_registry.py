"""The catalogue of metrics, and ``score``, which computes many of them at once.

A new metric is one file and one line here; the contract suite and ``score`` read the rest from it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from leepjax.metrics._h_score import h_score
from leepjax.metrics._knn import knn
from leepjax.metrics._leep import leep, leep_gain
from leepjax.metrics._nce import nce
from leepjax.metrics._neg_label_entropy import neg_label_entropy


class Metric(NamedTuple):
    """What a metric needs and promises.

    Attributes:
      name: the public name.
      fn: ``fn(*inputs, labels, *, num_classes, where=None, ...)`` -> scalar, larger is better.
      inputs: the arrays before ``labels``, of ``probs``, ``source_labels``, ``features``.
      weights: whether it takes frequency weights.
      differentiable: whether its gradient in its floating-point inputs is meaningful.
    """

    name: str
    fn: Callable[..., jax.Array]
    inputs: tuple[str, ...]
    weights: bool
    differentiable: bool


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("leep", leep, ("probs",), weights=True, differentiable=True),
        Metric("leep_gain", leep_gain, ("probs",), weights=True, differentiable=True),
        Metric("nce", nce, ("source_labels",), weights=True, differentiable=False),
        Metric("h_score", h_score, ("features",), weights=True, differentiable=True),
        Metric("knn", knn, ("features",), weights=False, differentiable=False),
        Metric("neg_label_entropy", neg_label_entropy, (), weights=True, differentiable=False),
    )
}


def score(
    labels: Any,
    *,
    num_classes: int,
    features: Any = None,
    probs: Any = None,
    logits: Any = None,
    source_labels: Any = None,
    num_source_classes: int | None = None,
    where: Any = None,
    metrics: str | Sequence[str] = "all",
) -> dict[str, jax.Array]:
    """Scores by name: all registered metrics whose inputs are given, or those asked for.

    Args:
      labels: ``[n]`` integer target labels in ``0..num_classes-1``.
      num_classes: number of target classes, a Python int.
      features: ``[n, d]`` features of the source model.
      probs: ``[n, s]`` source-class probabilities; from ``logits`` where not given.
      logits: ``[n, s]`` source-class logits.
      source_labels: ``[n]`` source labels; the arg max of probs or logits where not given.
      num_source_classes: number of source classes, where ``source_labels`` alone are given and
        traced; otherwise it is read off the arrays.
      where: ``[n]`` bool, the samples to count; default all.
      metrics: ``"all"`` or names from ``METRICS``.

    Returns:
      ``{name: scalar}`` in the order of the registry, or of ``metrics``.

    Raises:
      ValueError: an unknown name, one whose inputs are missing, or what the metric itself raises.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
      >>> scores = score(jnp.array([0, 0, 1, 1]), num_classes=2, logits=logits)
      >>> print({name: round(float(value), 3) for name, value in scores.items()})
      {'leep': -0.346, 'leep_gain': 0.347, 'nce': 0.0, 'neg_label_entropy': -0.693}
    """
    given: dict[str, Any] = {"features": features, "probs": probs, "source_labels": source_labels}
    n = np.shape(labels)[0] if np.ndim(labels) else 0
    where = None if where is None else jnp.asarray(where)
    if where is not None and (where.shape != (n,) or where.dtype != bool):
        got = f"{where.dtype}{list(where.shape)}"
        raise ValueError(f"where: wanted booleans of shape [{n}] like labels, got {got}")
    if probs is not None or logits is not None:
        name, outputs = ("logits", logits) if probs is None else ("probs", probs)
        outputs = _matrix(name, outputs, n, where)
        num_source_classes = outputs.shape[1]
        if probs is None:
            given["probs"] = jax.nn.softmax(outputs, axis=1)
        if source_labels is None:
            given["source_labels"] = outputs.argmax(1)
    elif source_labels is not None and num_source_classes is None:
        if isinstance(source_labels, Tracer) or isinstance(where, Tracer):
            raise ValueError("num_source_classes: wanted while tracing with source_labels alone")
        # At least 1, so that it is the metric that says what is wrong with bad labels.
        ids = np.asarray(source_labels)
        if ids.shape == (n,) and ids.dtype.kind in "iu":
            ids = ids if where is None else np.where(where, ids, 0)
        else:
            ids = np.zeros(1, int)
        num_source_classes = max(int(ids.max(initial=0)), 0) + 1
    given = {name: value for name, value in given.items() if value is not None}
    if metrics == "all":
        chosen = [m for m in METRICS.values() if set(m.inputs) <= given.keys()]
    elif metrics is None:
        raise ValueError(f"metrics: wanted 'all' or names among {sorted(METRICS)}, got None")
    else:
        chosen = [
            _lookup(name, given) for name in ([metrics] if isinstance(metrics, str) else metrics)
        ]
    scores = {}
    for metric in chosen:
        options = (
            {"num_source_classes": num_source_classes} if "source_labels" in metric.inputs else {}
        )
        arrays = [given[name] for name in metric.inputs]
        scores[metric.name] = metric.fn(
            *arrays, labels, num_classes=num_classes, where=where, **options
        )
    return scores


def _lookup(name: str, given: dict[str, Any]) -> Metric:
    if name not in METRICS:
        raise ValueError(f"metrics: wanted names among {sorted(METRICS)}, got {name!r}")
    missing = [argument for argument in METRICS[name].inputs if argument not in given]
    if missing:
        raise ValueError(f"metrics: {name!r} needs {missing}, which was not given")
    return METRICS[name]


def _matrix(name: str, x: Any, n: int, where: jax.Array | None) -> jax.Array:
    if not isinstance(x, jax.Array) and np.asarray(x).dtype.kind not in "fV":  # V: bfloat16
        raise ValueError(f"{name}: wanted floating-point numbers, got dtype {np.asarray(x).dtype}")
    x = jnp.asarray(x)
    if (
        x.ndim != 2
        or x.shape[0] != n
        or x.shape[1] == 0
        or not jnp.issubdtype(x.dtype, jnp.floating)
    ):
        raise ValueError(
            f"{name}: wanted floats of shape [{n}, s], one row for each of the labels, got "
            f"{x.dtype}{list(x.shape)}"
        )
    if name == "logits":  # softmax would hide which argument was wrong
        wrong = ~jnp.isfinite(x).all(1)
        wrong = wrong if where is None else wrong & where
        if not isinstance(wrong, Tracer) and wrong.any():
            raise ValueError(
                f"logits: wanted finite numbers, got others at sample {wrong.argmax()}"
            )
    return x

"""One source scored: each score, and what the samples do to it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.metrics import METRICS, Metric, score, uncertainty
from leepjax.ranking.files import ARRAYS

OF_SOME = ("knn", "linear_probe")  # nulls whose cost, or memory, grows with the square


class Scored(NamedTuple):
    """A score, and numbers of which the sums of products are covariances between sources.

    Attributes:
      value: the score.
      deviations: ``[n]`` influences of the samples, or ``[r]`` centred scores of half-samples;
        None without either.
    """

    value: float
    deviations: np.ndarray | None


class Unscored(NamedTuple):
    """Why some metrics have no score; ``lacking`` where the source has not what they need."""

    metrics: tuple[str, ...]
    reason: str
    lacking: bool


def score_source(
    key: jax.Array,
    arrays: Mapping[str, Any],
    labels: np.ndarray,
    metrics: Sequence[str],
    *,
    num_classes: int,
    some: np.ndarray,
    num_halves: int,
) -> tuple[dict[str, Scored], list[Unscored]]:
    """All scores of one source that can be had, and why the others cannot.

    Args:
      key: the same for all sources, so that they have the same halves.
      arrays: any of ``features [n, d]``, ``logits [n, s]``, ``probs [n, s]``.
      labels: ``[n]`` in ``0..num_classes-1``.
      metrics: names from the registry.
      num_classes: number of classes.
      some: indices of the samples that nearest neighbours and the linear probe see.
      num_halves: half-samples for metrics without weights; 0: no deviations.
    """
    ready, broken = _check(arrays, labels, num_classes)
    found: dict[str, Scored] = {}
    reasons: dict[tuple[str, bool], list[str]] = {}
    for name in metrics:
        metric = METRICS[name]
        needed = [x for x in metric.inputs if x != "labels"]
        missing = [x for x in needed if x not in ready]
        try:
            if missing:
                raise ValueError(broken.get(missing[0], ""))
            found[name] = _scored(key, metric, ready, labels, num_classes, some, num_halves)
        except ValueError as error:
            reason = str(error) or f"needs {_or(missing[0])}; the source has {_listed(ready)}"
            reasons.setdefault((reason, not str(error)), []).append(name)
    failed = [Unscored(tuple(names), *why) for why, names in reasons.items()]
    return found, failed


def _check(arrays, labels, num_classes):
    """What metrics need, checked and derived, and why what is not there is broken."""
    ready: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for name in ARRAYS:
        if name in arrays:
            try:
                ready[name] = jnp.asarray(_numbers(name, arrays[name]))
                _check_array(name, ready[name], labels, num_classes)
            except ValueError as error:
                ready.pop(name, None)
                broken[name] = str(error)
    if "probs" not in {*ready, *broken} and "logits" in ready:
        ready["probs"] = jax.nn.softmax(ready["logits"].astype(jnp.float32), axis=1)
    if "probs" in ready:
        ready["source_labels"] = jnp.argmax(ready["probs"], 1)
    said = broken.get("probs", broken.get("logits"))
    if said is not None and "probs" not in ready:
        broken |= {"probs": said, "source_labels": said}
    return ready, broken


def _check_array(name: str, x: Any, labels: np.ndarray, num_classes: int) -> None:
    """By the registry's own rules: with a metric that asks nothing of the array."""
    score(labels, num_classes=num_classes, metrics="neg_label_entropy", **{name: x})


def _numbers(name, x):
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if x.dtype == object:
        raise ValueError(
            f"{name}: wanted numbers, got an array of objects; are its rows of one length?"
        )
    return x


def _scored(key, metric: Metric, ready, labels, num_classes, some, num_halves) -> Scored:
    inputs = [labels if x == "labels" else ready[x] for x in metric.inputs]
    options = {"num_classes": num_classes} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = ready["probs"].shape[1]
    if metric.weights:
        got = _influence(metric.fn, tuple(options.items()), inputs, jnp.ones(len(labels)))
        if np.isnan(got.score):
            metric.fn(*inputs, **options)  # says why
        return Scored(float(got.score), np.asarray(got.per_sample))
    if metric.name in OF_SOME:
        inputs = [x[some] for x in inputs]
    if metric.key:
        inputs = [key, *inputs]
    value = float(metric.fn(*inputs, **options))
    if not num_halves:
        return Scored(value, None)
    halves = uncertainty.subsample(key, metric.fn, *inputs, num_replicates=num_halves, **options)
    halves = np.asarray(halves, float)
    return Scored(value, (halves - halves.mean()) / np.sqrt(max(len(halves) - 1, 1)))


@partial(jax.jit, static_argnames=("fn", "options"))
def _influence(fn, options, inputs, weights):
    # One program: less to compile, and the score and its gradient share what they can.
    return uncertainty.influence(fn, *inputs, weights=weights, **dict(options))


def _or(name):
    return "probs or logits" if name in ("probs", "source_labels") else name


def _listed(ready):
    return ", ".join(name for name in ARRAYS if name in ready) or "no arrays"

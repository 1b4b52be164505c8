"""One source scored: each score, the same under shuffled labels, and what samples do to it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._numbers import as_numbers
from leepjax.metrics import METRICS, Metric, score, uncertainty
from leepjax.ranking.files import ARRAYS
from leepjax.ranking.left_out import (
    HEADS,
    Scored,
    Target,
    halves,
    is_left_out,
    left_out,
    reason_of,
    spread_of,
)
from leepjax.ranking.shuffles import shuffle, shuffled_scores

HELD_OUT = ("predictive_r2", "cross_fitted_leep")  # of samples that were not fitted on: they decide
OF_SOME = (*HEADS, "knn")  # whose cost, or memory, grows with the square
_OF_TARGET = ("labels", "targets")


class Unscored(NamedTuple):
    """Why some metrics have no score; ``lacking`` where the source has not what they need."""

    metrics: tuple[str, ...]
    reason: str
    lacking: bool


def score_source(
    arrays: Mapping[str, Any],
    metrics: Sequence[str],
    deciding: Sequence[str],
    target: Target,
    some: np.ndarray,
    of_some: Target,
) -> tuple[dict[str, Scored], list[Unscored]]:
    """All scores of one source that can be had, and why the others cannot.

    Args:
      arrays: any of ``features [n, d]``, ``logits [n, s]``, ``probs [n, s]``.
      metrics: names from the registry.
      deciding: those of them that may decide, which get deviations.
      target: the labels.
      some: indices of the samples that ``OF_SOME`` see.
      of_some: their labels.
    """
    ready, broken = _check(arrays, target)
    reasons: dict[tuple[str, bool], list[str]] = {}
    there = []
    for name in metrics:
        missing = [x for x in METRICS[name].inputs if x not in (*_OF_TARGET, *ready)]
        if not missing:
            there.append(name)
        elif missing[0] in broken:
            reasons.setdefault((broken[missing[0]], False), []).append(name)
        else:
            lacks = f"needs {_or(missing[0])}; the source has {_listed(ready)}"
            reasons.setdefault((lacks, True), []).append(name)
    few = {name: x[some] for name, x in ready.items()} if {*there} & {*OF_SOME} else {}
    own = [name for name in there if is_left_out(name, target, deciding)]
    costly = [name for name in there if name in OF_SOME and name not in own]
    others = [name for name in there if name not in (*OF_SOME, *own)]
    parts = [left_out(own, few, of_some, ready, target, deciding)]
    if target.kind == "regression" and "logme_regression" in others:
        others.remove("logme_regression")
        parts.append(_scores(_centred(ready), target, ["logme_regression"], deciding))
    parts += [_scores(few, of_some, costly, deciding), _scores(ready, target, others, deciding)]
    found: dict[str, Scored] = {}
    for name, scored in (item for part in parts for item in part.items()):
        if isinstance(scored, Scored) and np.isfinite(scored.value):
            found[name] = scored
        else:
            reason = "no finite score" if isinstance(scored, Scored) else scored
            reasons.setdefault((reason, False), []).append(name)
    return found, [Unscored(tuple(names), *why) for why, names in reasons.items()]


def _centred(ready):
    """For LogME, which has no constant: features about their mean, as the numbers are."""
    x = ready["features"].astype(jnp.promote_types(ready["features"].dtype, jnp.float32))
    return ready | {"features": x - x.mean(0)}


def _scores(ready, target: Target, names, deciding) -> dict[str, Scored | str]:
    """Scores by name, or why there is none."""
    values, refused = _values(ready, target.labels, names, target)
    nothing_said = shuffle(target.labels, 0, target.groups)
    first, _ = _values(ready, nothing_said, list(values), target)
    found: dict[str, Scored | str] = {**refused}
    for name, value in values.items():
        nothing = first.get(name, np.nan)
        deviations = _deviations(METRICS[name], ready, target) if name in deciding else None
        shuffled = np.array([nothing])
        if deviations is not None and name in HELD_OUT:

            def under(labels: np.ndarray, name: str = name) -> float:
                return _values(ready, labels, [name], target)[0].get(name, np.nan)

            error = float(np.sqrt(np.sum(np.square(deviations))))
            shuffled = shuffled_scores(value, error, nothing, under, target.labels, target.groups)
        found[name] = Scored(value, shuffled, deviations)
    return found


def _values(
    ready: Mapping[str, Any], labels: np.ndarray, names: Sequence[str], target: Target
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by name, what they share computed once; and of those that are refused, why."""
    if not names:
        return {}, {}
    given = {x: ready[x] for x in ARRAYS if x in ready}
    given |= {"key": target.key} if any(METRICS[name].key for name in names) else {}
    try:
        found = score(labels, **target.counts, metrics=names, **given)
        return {name: float(found[name]) for name in names}, {}
    except Exception as error:  # a metric's own, or JAX's where memory is short
        if len(names) == 1:
            return {}, {names[0]: reason_of(error).removeprefix(f"{names[0]}: ")}
    values, refused = {}, {}
    for name in names:
        value, why = _values(ready, labels, [name], target)
        values, refused = values | value, refused | why
    return values, refused


def _check(arrays, target: Target):
    """What metrics need, checked and derived, and why what is not there is broken."""
    ready: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for name in ARRAYS:
        if name in arrays:
            try:
                if isinstance(arrays[name], Exception):  # of reading it
                    raise arrays[name]
                ready[name] = jnp.asarray(as_numbers(name, arrays[name]))
                _check_array(name, ready[name], target)
            except Exception as error:
                ready.pop(name, None)
                broken[name] = reason_of(error)
    if "probs" not in {*ready, *broken} and "logits" in ready:
        ready["probs"] = jax.nn.softmax(ready["logits"].astype(jnp.float32), axis=1)
    if "probs" in ready:
        ready["source_labels"] = jnp.argmax(ready["probs"], 1)
    said = broken.get("probs", broken.get("logits"))
    if said is not None and "probs" not in ready:
        broken |= {"probs": said, "source_labels": said}
    return ready, broken


def _check_array(name: str, x: Any, target: Target) -> None:
    """By the registry's own rules: with a metric that asks nothing of the array."""
    labels = np.zeros(len(target.labels), np.int32)
    score(labels, num_classes=1, metrics="neg_label_entropy", **{name: x})


def _deviations(metric: Metric, ready, target: Target) -> np.ndarray | None:
    """Influences of the samples or groups, or centred scores of half-samples; of several labels
    the mean over them."""
    if target.kind == "multilabel" and "labels" in metric.inputs:
        parts = [target._replace(labels=y, num_classes=2, kind="class") for y in target.labels.T]
        found = [_deviations(metric, ready, part) for part in parts]
        known = [deviations for deviations in found if deviations is not None]
        return np.mean(known, 0) if known else None
    labels = target.labels.astype(np.float32) if "targets" in metric.inputs else target.labels
    inputs = [labels if x in _OF_TARGET else ready[x] for x in metric.inputs]
    options = {"num_classes": target.num_classes} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = ready["probs"].shape[1]
    if metric.weights:
        weights = jnp.ones(len(target.labels))
        of_samples = _influence(metric.fn, tuple(options.items()), inputs, weights).per_sample
        if target.groups is None:
            return np.asarray(of_samples)
        return np.bincount(target.groups, np.asarray(of_samples, float))
    if not target.num_halves:
        return None
    inputs = [target.key, *inputs] if metric.key else inputs
    if target.groups is None:
        number = {"num_replicates": target.num_halves}
        return spread_of(uncertainty.subsample(target.key, metric.fn, *inputs, **number, **options))
    every = np.arange(len(target.labels))
    masks = [np.isin(every, rows) for _, rows in halves(target)]
    return spread_of([metric.fn(*inputs, where=where, **options) for where in masks])


@partial(jax.jit, static_argnames=("fn", "options"))
def _influence(fn, options, inputs, weights):
    # One program: less to compile, and the score and its gradient share what they can.
    return uncertainty.influence(fn, *inputs, weights=weights, **dict(options))


def _or(name):
    return "probs or logits" if name in ("probs", "source_labels") else name


def _listed(ready):
    return ", ".join(name for name in ARRAYS if name in ready) or "no arrays"

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
from leepjax.ranking.held_out import held_out
from leepjax.ranking.shuffles import shuffle, shuffled_scores

HELD_OUT = ("predictive_r2", "cross_fitted_leep")  # of samples that were not fitted on: they decide
HEADS = ("predictive_r2", "linear_probe")  # in float64 NumPy
OF_SOME = (*HEADS, "knn")  # whose cost, or memory, grows with the square


class Target(NamedTuple):
    """What all sources are judged by.

    Attributes:
      labels: ``[n]`` in 0..c-1, each of which is there.
      num_classes: c.
      key: of random metrics and half-samples, the same for all sources.
      num_halves: half-samples for the deviations of metrics without weights; 0: none.
    """

    labels: np.ndarray
    num_classes: int
    key: jax.Array
    num_halves: int


class Scored(NamedTuple):
    """A score, and numbers of which the sums of products are covariances between sources.

    Attributes:
      value: the score.
      shuffled: ``[s]`` as ``shuffled_scores``.
      deviations: ``[n]`` influences of the samples, or ``[r]`` centred scores of half-samples;
        None without either.
    """

    value: float
    shuffled: np.ndarray
    deviations: np.ndarray | None = None


class Unscored(NamedTuple):
    """Why some metrics have no score; ``lacking`` where the source has not what they need."""

    metrics: tuple[str, ...]
    reason: str
    lacking: bool


def reason_of(error: Exception) -> str:
    """One line: errors of bad input say it themselves, others with their kind."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = "" if isinstance(error, ValueError) and line else type(error).__name__
    return ": ".join(filter(None, (kind, line)))


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
        missing = [x for x in METRICS[name].inputs if x != "labels" and x not in ready]
        if not missing:
            there.append(name)
        elif missing[0] in broken:
            reasons.setdefault((broken[missing[0]], False), []).append(name)
        else:
            lacks = f"needs {_or(missing[0])}; the source has {_listed(ready)}"
            reasons.setdefault((lacks, True), []).append(name)
    few = {name: x[some] for name, x in ready.items()} if {*there} & {*OF_SOME} else {}
    # Where the probe itself decides it wants half-samples, which are the metric's own.
    heads = [n for n in there if n in HEADS and (n in HELD_OUT or n not in deciding)]
    costly = [name for name in there if name in OF_SOME and name not in heads]
    parts = [
        _held_out(few, of_some, heads),
        _scores(few, of_some, costly, deciding),
        _scores(ready, target, [name for name in there if name not in OF_SOME], deciding),
    ]
    found: dict[str, Scored] = {}
    for name, scored in (item for part in parts for item in part.items()):
        if isinstance(scored, Scored) and np.isfinite(scored.value):
            found[name] = scored
        else:
            reason = "no finite score" if isinstance(scored, Scored) else scored
            reasons.setdefault((reason, False), []).append(name)
    return found, [Unscored(tuple(names), *why) for why, names in reasons.items()]


def _held_out(ready, target: Target, names: Sequence[str]) -> dict[str, Scored | str]:
    if not names:
        return {}
    try:
        judged = held_out(np.asarray(ready["features"]), target.labels)
    except Exception as error:  # of memory, or of LAPACK
        return dict.fromkeys(names, reason_of(error))
    both = {
        "predictive_r2": Scored(float(judged.r2), judged.shuffled_r2, judged.deviations),
        "linear_probe": Scored(judged.accuracy, np.array([judged.shuffled_accuracy])),
    }
    return {name: both[name] for name in names}


def _scores(ready, target: Target, names, deciding) -> dict[str, Scored | str]:
    """Scores by name, or why there is none."""
    values, refused = _values(ready, target.labels, names, target)
    first, _ = _values(ready, shuffle(target.labels), list(values), target)
    found: dict[str, Scored | str] = {**refused}
    for name, value in values.items():
        nothing = first.get(name, np.nan)
        deviations = _deviations(METRICS[name], ready, target) if name in deciding else None
        shuffled = np.array([nothing])
        if deviations is not None and name in HELD_OUT:

            def under(labels: np.ndarray, name: str = name) -> float:
                return _values(ready, labels, [name], target)[0].get(name, np.nan)

            error = float(np.sqrt(np.sum(np.square(deviations))))
            shuffled = shuffled_scores(value, error, nothing, under, target.labels)
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
        found = score(labels, num_classes=target.num_classes, metrics=names, **given)
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
    options = {"num_classes": target.num_classes, "metrics": "neg_label_entropy"}
    score(target.labels, **options, **{name: x})


def _deviations(metric: Metric, ready, target: Target) -> np.ndarray | None:
    """Influences of the samples, or centred scores of half-samples, of a metric that has either."""
    inputs = [target.labels if x == "labels" else ready[x] for x in metric.inputs]
    options = {"num_classes": target.num_classes} if "labels" in metric.inputs else {}
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = ready["probs"].shape[1]
    if metric.weights:
        weights = jnp.ones(len(target.labels))
        return np.asarray(_influence(metric.fn, tuple(options.items()), inputs, weights).per_sample)
    if not target.num_halves:
        return None
    inputs = [target.key, *inputs] if metric.key else inputs
    number = {"num_replicates": target.num_halves}
    halves = uncertainty.subsample(target.key, metric.fn, *inputs, **number, **options)
    halves = np.asarray(halves, float)
    return (halves - halves.mean()) / np.sqrt(max(len(halves) - 1, 1))


@partial(jax.jit, static_argnames=("fn", "options"))
def _influence(fn, options, inputs, weights):
    # One program: less to compile, and the score and its gradient share what they can.
    return uncertainty.influence(fn, *inputs, weights=weights, **dict(options))


def _or(name):
    return "probs or logits" if name in ("probs", "source_labels") else name


def _listed(ready):
    return ", ".join(name for name in ARRAYS if name in ready) or "no arrays"

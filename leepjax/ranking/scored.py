"""One source scored: each score, the same under shuffled labels, and what samples do to it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._numbers import as_numbers
from leepjax.metrics import METRICS, Metric, score, uncertainty
from leepjax.ranking import by_group
from leepjax.ranking.files import ARRAYS
from leepjax.ranking.held_out import held_out
from leepjax.ranking.left_out_leep import left_out_leep
from leepjax.ranking.neighbours import judge, nearest
from leepjax.ranking.shuffles import shuffle, shuffled_scores

HELD_OUT = ("predictive_r2", "cross_fitted_leep")  # of samples that were not fitted on: they decide
HEADS = ("predictive_r2", "linear_probe")  # in float64 NumPy
OF_SOME = (*HEADS, "knn")  # whose cost, or memory, grows with the square
_OF_TARGET = ("labels", "targets")


class Target(NamedTuple):
    """What all sources are judged by.

    Attributes:
      labels: ``[n]`` in 0..c-1, each of which is there; ``[n, t]`` 0 and 1, or numbers.
      num_classes: c; of the others how many columns.
      key: of random metrics and half-samples, the same for all sources.
      num_halves: half-samples for the deviations of metrics without weights; 0: none.
      kind: what the labels are, of ``targets.KINDS``.
      groups: ``[n]`` ascending from 0, those that are left out, and vary, together; None: samples.
    """

    labels: np.ndarray
    num_classes: int
    key: jax.Array
    num_halves: int
    kind: str = "class"
    groups: np.ndarray | None = None

    @property
    def columns(self) -> np.ndarray:
        """``[n, t]`` what a linear head predicts."""
        if self.kind == "class":
            return np.eye(self.num_classes)[self.labels]
        return self.labels.astype(float)

    @property
    def counts(self) -> dict[str, int]:
        """What metrics are told."""
        return {"num_classes": self.num_classes} if self.kind == "class" else {}


class Scored(NamedTuple):
    """A score, and numbers of which the sums of products are covariances between sources.

    Attributes:
      value: the score.
      shuffled: ``[s]`` as ``shuffled_scores``.
      deviations: ``[n]`` influences of the samples, or one a group, or ``[r]`` centred scores of
        half-samples; None without either.
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
        missing = [x for x in METRICS[name].inputs if x not in (*_OF_TARGET, *ready)]
        if not missing:
            there.append(name)
        elif missing[0] in broken:
            reasons.setdefault((broken[missing[0]], False), []).append(name)
        else:
            lacks = f"needs {_or(missing[0])}; the source has {_listed(ready)}"
            reasons.setdefault((lacks, True), []).append(name)
    few = {name: x[some] for name, x in ready.items()} if {*there} & {*OF_SOME} else {}
    # Where the probe itself decides it wants half-samples, which are the metric's own.
    plain = target.kind == "class" and target.groups is None
    heads = [n for n in there if n in HEADS and (n in HELD_OUT or n not in deciding or not plain)]
    costly = [name for name in there if name in OF_SOME and name not in heads]
    others = [name for name in there if name not in OF_SOME]
    parts = [_held_out(few, of_some, heads)]
    if not plain:
        parts.append({name: _knn(few, of_some) for name in costly})
        costly = []
    if target.groups is not None and "cross_fitted_leep" in others:
        others.remove("cross_fitted_leep")
        parts.append({"cross_fitted_leep": _left_out_leep(ready, target)})
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


def _held_out(ready, target: Target, names: Sequence[str]) -> dict[str, Scored | str]:
    if not names:
        return {}
    try:
        features = np.asarray(ready["features"])
        judged = held_out(features, target.columns, target.kind, target.groups)
    except Exception as error:  # of memory, or of LAPACK
        return dict.fromkeys(names, reason_of(error))
    both = {
        "predictive_r2": Scored(float(judged.r2), judged.shuffled_r2, judged.deviations),
        "linear_probe": Scored(judged.accuracy, np.array([judged.shuffled_accuracy])),
    }
    return {name: both[name] for name in names}


def _centred(ready):
    """For LogME, which has no constant: features about their mean, as the numbers are."""
    x = ready["features"].astype(jnp.promote_types(ready["features"].dtype, jnp.float32))
    return ready | {"features": x - x.mean(0)}


def _knn(ready, target: Target) -> Scored | str:
    """Of several labels, of numbers, and among other groups."""
    try:
        found = nearest(np.asarray(ready["features"]), target.groups)
    except Exception as error:  # of memory
        return reason_of(error)
    own = np.arange(len(target.labels)) if target.groups is None else target.groups
    first = shuffle(target.labels, 0, target.groups)
    value, nothing = (
        judge(found, labels, target.kind, by_group.spread(target.columns, own))
        for labels in (target.labels, first)
    )
    return Scored(value, np.array([nothing]))


def _left_out_leep(ready, target: Target) -> Scored | str:
    """Where groups are left out; of several labels the mean over them."""
    groups, probs = target.groups, np.asarray(ready["probs"])

    def judged(labels: np.ndarray) -> tuple[float, np.ndarray]:
        columns = labels.T if target.kind == "multilabel" else labels[None]
        values, deviations = zip(*(left_out_leep(probs, y, groups) for y in columns), strict=True)
        return float(np.mean(values)), np.mean(deviations, 0)

    try:
        value, deviations = judged(target.labels)
        error = float(np.sqrt(np.sum(deviations**2)))
        first = judged(shuffle(target.labels, 0, groups))[0]
        shuffled = shuffled_scores(
            value, error, first, lambda labels: judged(labels)[0], target.labels, groups
        )
    except Exception as error:  # of memory
        return reason_of(error)
    return Scored(value, shuffled, deviations)


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
        return None if found[0] is None else np.mean(found, 0)
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
        halves = uncertainty.subsample(target.key, metric.fn, *inputs, **number, **options)
    else:
        rng = np.random.default_rng(0)
        number = target.groups.max() + 1
        chosen = [
            rng.permutation(number)[target.groups] < number / 2 for _ in range(target.num_halves)
        ]
        halves = [metric.fn(*inputs, where=where, **options) for where in chosen]
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

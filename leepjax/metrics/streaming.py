"""Scores of data that never fit in memory: batches in, ``{name: score}`` out.

The first pass over the data gathers moments and counts, which give every score that needs no more.
LEEP asks each sample again what the *whole* data said of its source classes: call ``second_pass``
and show the same data once more.

Parts of a data set, of which each worker has one, begin from the same ``init`` and are merged in
any order. Each worker needs no more for it than a small ``moments.about(features)``, and for the
second pass the merged ``conditional``. ``leepjax.streams`` saves and loads a stream.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from leepjax.metrics import streaming
  >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
  >>> labels = jnp.array([0, 0, 1, 1])
  >>> batches = [(labels[:2], probs[:2]), (labels[2:], probs[2:])]
  >>> state = streaming.init(num_classes=2, num_source_classes=2)
  >>> for y, theta in batches:
  ...     state = streaming.update(state, y, probs=theta)
  >>> state = streaming.second_pass(state)
  >>> for y, theta in batches:
  ...     state = streaming.update(state, y, probs=theta)
  >>> print({name: round(float(x), 4) for name, x in streaming.finalize(state).items()})
  {'leep': -0.3426, 'leep_gain': 0.3505, 'nce': 0.0, 'neg_label_entropy': -0.6931}
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics import moments as _moments
from leepjax.metrics._checks import check_count
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._h_score import h_score_from_moments
from leepjax.metrics._kernel import Kernel
from leepjax.metrics._leep import conditional_of, joint_of, log_likelihood
from leepjax.metrics._lfc import lfc_from_moments
from leepjax.metrics._logme import logme_from_moments
from leepjax.metrics._moments import Moments
from leepjax.metrics._nce import joint_counts, neg_conditional_entropy
from leepjax.metrics._neg_label_entropy import xlogx
from leepjax.metrics._pairs import add_pairs, no_rest
from leepjax.metrics._regularized_h_score import regularized_h_score_from_moments
from leepjax.metrics._transrate import transrate_from_moments
from leepjax.metrics.moments import About
from leepjax.metrics.platform import sum_by_class

FROM_MOMENTS = {
    "h_score": h_score_from_moments,
    "regularized_h_score": regularized_h_score_from_moments,
    "logme": logme_from_moments,
    "lfc": lfc_from_moments,
}


class Predictions(NamedTuple):
    """Sums over samples of what the source model predicts.

    Attributes:
      soft: ``[c, s]`` of probabilities: LEEP's joint counts.
      hard: ``[s, c]`` of the arg max: NCE's.
      seen: sum of weights of the second pass.
      log_likelihood: of the expected empirical predictor, over the second pass.
    """

    soft: jax.Array
    hard: jax.Array
    seen: jax.Array
    log_likelihood: jax.Array


class Stream(NamedTuple):
    """All that is kept of the samples seen. A pytree.

    Attributes:
      counts: ``[c]`` sum of weights.
      moments: of features, or None.
      predictions: of probabilities, or None.
      conditional: ``[c, s]`` P(y | z) of the whole first pass; None during that.
      rest: what rounding took from counts and predictions; moments have their own.
    """

    counts: jax.Array
    moments: Moments | None
    predictions: Predictions | None
    conditional: jax.Array | None
    rest: "Stream | None" = None

    @property
    def additive(self) -> "Stream":
        """Counts and predictions alone."""
        return Stream(self.counts, None, self.predictions, None)


def init(
    *,
    num_classes: int,
    num_source_classes: int | None = None,
    features: ArrayLike | About | None = None,
    by_class: bool = False,
    conditional: ArrayLike | None = None,
) -> Stream:
    """A stream of no samples yet.

    Args:
      num_classes: number of target classes c.
      num_source_classes: number of source classes s, where batches have ``probs`` or ``logits``.
      features: ``[m, d]``, some of the features, such as the first batch, where batches have
        ``features``; not counted. Or ``moments.about`` of them, which all workers share.
      by_class: also ``transrate``, which needs a ``[d, d]`` matrix for each class.
      conditional: ``[c, s]``, that of a merged :func:`second_pass`: a worker's second pass begins
        with it alone, without the sums of the first, and is merged into the stream that has them.

    Raises:
      ValueError: a count is not positive, ``features`` are not finite floats ``[m, d]``, or
        ``conditional`` has another shape.
    """
    c = check_count("num_classes", num_classes)
    zero = jnp.zeros((), float)
    predictions = None
    if num_source_classes is not None:
        s = check_count("num_source_classes", num_source_classes)
        predictions = Predictions(jnp.zeros((c, s)), jnp.zeros((s, c)), zero, zero)
    of_features = None
    if features is not None:
        of_features = _moments.init(features, num_classes=c, by_class=by_class)
    if conditional is not None:
        wanted = None if predictions is None else predictions.soft.shape
        if np.shape(conditional) != wanted or features is not None:
            also = "" if features is None else " and features"
            raise ValueError(
                f"conditional: wanted shape [num_classes, num_source_classes] and no features, got "
                f"{list(np.shape(conditional))}{also}"
            )
        conditional = jnp.asarray(conditional)
    state = Stream(jnp.zeros(c), of_features, predictions, conditional)
    return state._replace(rest=no_rest(state.additive))


def update(
    state: Stream,
    labels: ArrayLike,
    *,
    features: ArrayLike | None = None,
    probs: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Stream:
    """The stream with a batch of samples added.

    Args:
      state: of :func:`init`, an earlier update, or :func:`second_pass`.
      labels: ``[n]`` integer target labels in ``0..c-1``.
      features: ``[n, d]``, where the stream was begun with features; not needed in a second pass.
      probs: ``[n, s]`` source-class probabilities, where it was begun with source classes.
      logits: ``[n, s]`` source-class logits, in place of ``probs``.
      where: ``[n]`` bool, the samples to count; default all; none at all add nothing.
      weights: ``[n]`` float >= 0, frequency weights.

    Raises:
      ValueError: what the stream counts is not given, or what is given it does not count; a shape,
        dtype or (outside tracing) value is wrong. It names the argument; the state is unchanged.
    """
    second = state.conditional is not None
    outputs = probs if probs is not None else logits
    _check_given("features", features, state.moments is not None and not second, second)
    _check_given("probs", outputs, state.predictions is not None, False)
    shared = {
        "labels": labels,
        "num_classes": len(state.counts),
        "where": where,
        "weights": weights,
    }
    batch = Stream(jnp.zeros_like(state.counts), None, None, None)
    if outputs is not None and state.predictions is not None:
        s = state.predictions.soft.shape[1]
        if np.ndim(outputs) == 2 and np.shape(outputs)[1] != s:
            raise ValueError(f"probs: wanted shape [n, {s}], got {list(np.shape(outputs))}")
        predictions = evaluate(
            Kernel(_predictions_again if second else _predictions, adds=True),
            probs=probs,
            logits=logits if probs is None else None,
            given={"conditional": state.conditional} if second else None,
            **shared,
        )
        batch = batch._replace(predictions=predictions)
    if second:
        return _add(state, batch)
    of_features = state.moments
    if features is not None and state.moments is not None:
        of_features = _moments.update(state.moments, features, labels, where=where, weights=weights)
    batch = batch._replace(counts=evaluate(Kernel(_counts, adds=True), **shared))
    return _add(state, batch)._replace(moments=of_features)


def merge(a: Stream, b: Stream) -> Stream:
    """The stream of the samples of both, begun from the same :func:`init` or :func:`second_pass`.

    After the first pass: merge all parts, then give every part the merged ``second_pass``, or its
    ``conditional`` alone (:func:`init`).

    Raises:
      ValueError: they were not.
    """
    second = a.conditional is not None
    kinds = [jax.tree.map(jnp.shape, s._replace(moments=None) if second else s) for s in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError("b: wanted a stream of the same kind, pass and shapes as a")
    total = _add(a, b)
    if a.conditional is None or b.conditional is None:
        if a.moments is None or b.moments is None:
            return total
        return total._replace(moments=_moments.merge(a.moments, b.moments))
    traced = any(isinstance(s.conditional, Tracer) for s in (a, b))
    if not traced and not np.array_equal(a.conditional, b.conditional):
        raise ValueError("b: wanted a stream of the same second_pass as a")
    # The sums of the first pass are those of all parts already, or none at all.
    of_a = a.counts.sum() >= b.counts.sum()
    first = jax.tree.map(lambda x, y: jnp.where(of_a, x, y), a.additive, b.additive)
    first_rest = jax.tree.map(lambda x, y: jnp.where(of_a, x, y), a.rest, b.rest)
    return _only_second(total, first)._replace(
        moments=b.moments if a.moments is None else a.moments,
        rest=_only_second(total.rest, first_rest),
    )


def _only_second(total, first):
    """The sums of a second pass, beside those of a first."""
    predictions = total.predictions._replace(
        soft=first.predictions.soft, hard=first.predictions.hard
    )
    return total._replace(counts=first.counts, predictions=predictions)


def second_pass(state: Stream) -> Stream:
    """The stream ready to see the same data again, for LEEP; the first pass's sums stay.

    Raises:
      ValueError: the stream has no predictions, or is in its second pass.
    """
    if state.predictions is None or state.conditional is not None:
        raise ValueError("state: wanted a first pass with predictions")
    return state._replace(conditional=conditional_of(state.predictions.soft))


def finalize(state: Stream) -> dict[str, jax.Array]:
    """``{name: score}`` of all samples seen: what the passes so far can tell.

    ``neg_label_entropy``; of features ``h_score``, ``regularized_h_score``, ``logme``, of two
    classes or more ``lfc`` and, by class, ``transrate``; of predictions ``nce`` and, after the
    second pass, ``leep`` and ``leep_gain``.

    Raises:
      ValueError: no sample was seen, or (outside tracing) the second pass saw another number.
    """
    total = state.counts.sum()
    seen = None
    if state.conditional is not None and state.predictions is not None:
        seen = state.predictions.seen
    if not isinstance(total, Tracer):
        if total <= 0:
            raise ValueError("state: wanted at least one sample, got none")
        if seen is not None and abs(seen - total) > 1e-5 * total:
            wanted = f"a second pass over the same samples, {total:g} by weight"
            raise ValueError(f"state: wanted {wanted}; got {seen:g}")
    scores = _finalize(state)
    if not isinstance(total, Tracer) and (state.counts > 0).sum() < 2:
        scores.pop("lfc", None)  # which has no limit there
    return scores


def _add(a: Stream, b: Stream) -> Stream:
    """Counts and predictions of both; the rest of ``a``."""
    total, rest = _add_pairs((a.additive, a.rest), (b.additive, b.rest))
    return total._replace(moments=a.moments, conditional=a.conditional, rest=rest)


_add_pairs = jax.jit(add_pairs)


@jax.jit
def _finalize(state):
    total = state.counts.sum()
    p = state.counts / total
    null = jnp.sum(xlogx(p))
    scores = {}
    if state.conditional is not None:
        leep = state.predictions.log_likelihood / total
        scores |= {"leep": leep, "leep_gain": jnp.maximum(leep - null, 0)}
    if state.predictions is not None:
        scores["nce"] = neg_conditional_entropy(state.predictions.hard)
    if state.moments is not None:
        scores |= {name: fn(state.moments) for name, fn in FROM_MOMENTS.items()}
        if state.moments.gram.ndim == 3:
            scores["transrate"] = transrate_from_moments(state.moments)
    return scores | {"neg_label_entropy": null}


def _check_given(name: str, x: ArrayLike | None, wanted: bool, optional: bool) -> None:
    if (x is not None) != wanted and not (optional and x is not None):
        wish = "an array: the stream counts it" if wanted else "none: the stream began without it"
        raise ValueError(f"{name}: wanted {wish}, got {'none' if x is None else 'one'}")


def _counts(labels, weights, *, num_classes):
    return sum_by_class(weights, labels, num_classes)


def _predictions(probs, labels, weights, *, num_classes):
    soft = joint_of(probs, labels, weights, num_classes=num_classes)
    hard = joint_counts(probs.argmax(1), labels, weights, probs.shape[1], num_classes)
    return Predictions(soft, hard, jnp.zeros((), soft.dtype), jnp.zeros((), soft.dtype))


def _predictions_again(probs, labels, weights, conditional):
    zeros = jnp.zeros_like(conditional)
    return Predictions(
        zeros, zeros.T, weights.sum(), log_likelihood(probs, labels, weights, conditional)
    )

"""Moments of features in parts: batches of a stream, shards of a data set, devices.

``init`` once, ``update`` with every batch, ``merge`` parts that began from the same ``init``; then
``h_score_from_moments``, ``regularized_h_score_from_moments``, ``logme_from_moments``,
``logme_regression_from_moments``, ``lfc_from_moments``, ``transrate_from_moments``. All pure
functions of pytrees: they work under ``jit``, ``vmap`` and ``grad``.

Sums are kept as pairs, a sum and the rest that rounding took from it, so that 10^12 samples are
added as exactly as ten. Parts that are gathered by different workers begin from one small
:class:`About`.

Example:
  >>> import jax.numpy as jnp
  >>> from leepjax.metrics import h_score_from_moments, moments
  >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
  >>> labels = jnp.array([0, 0, 1, 1])
  >>> state = moments.init(features[:2], num_classes=2)
  >>> for batch in (slice(0, 2), slice(2, 4)):
  ...     state = moments.update(state, features[batch], labels[batch])
  >>> print(f"{h_score_from_moments(state):.4f}")
  0.9943
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._kernel import Kernel
from leepjax.metrics._moments import Moments as Moments
from leepjax.metrics._moments import Targets as Targets
from leepjax.metrics._moments import add, centre_of, measure_about, select_classes
from leepjax.metrics._pairs import no_rest


class About(NamedTuple):
    """What all parts of one data set have in common, so that their moments add.

    Attributes:
      shift: ``[d]``, near the features.
      unit: a scalar, about the size of the features about the shift.
    """

    shift: jax.Array
    unit: jax.Array


def about(features: ArrayLike) -> About:
    """A shift and a unit that suit ``features [m, d]``, some of the data.

    Raises:
      ValueError: ``features`` are not finite floats ``[m, d]``.
    """
    return About(*evaluate(_about, features=features))


def init(
    features: ArrayLike | About,
    *,
    num_classes: int = 1,
    num_targets: int | None = None,
    by_class: bool = False,
) -> Moments:
    """Moments of no samples yet, about a shift and in a unit that suit ``features``.

    Args:
      features: ``[m, d]``, some of the data, such as the first batch; they are not counted. Or what
        :func:`about` made of them: all parts that are to be merged must begin with the same.
      num_classes: number of classes c; 1 for regression.
      num_targets: number of real targets, for ``logme_regression_from_moments``.
      by_class: keep a Gram matrix for each class, ``[c, d, d]``: for :func:`subset` and
        ``transrate_from_moments``.

    Raises:
      ValueError: ``features`` are not finite floats ``[m, d]``, or a count is not positive.
    """
    shift, unit = features if isinstance(features, About) else about(features)
    c, d = check_count("num_classes", num_classes), len(shift)
    counts, table = jnp.zeros(c, shift.dtype), jnp.zeros((c, d), shift.dtype)
    gram = jnp.zeros((c, d, d) if by_class else (d, d), shift.dtype)
    targets = None
    if num_targets is not None:
        none = jnp.zeros(check_count("num_targets", num_targets), shift.dtype)
        targets = Targets(none, none, none, jnp.zeros((num_targets, d), shift.dtype))
    state = Moments(shift, unit, counts, counts, table, gram, counts, table, counts, targets)
    return state._replace(rest=no_rest(state.additive))


def update(
    state: Moments,
    features: ArrayLike,
    labels: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Moments:
    """The moments with these samples added.

    Args:
      state: of :func:`init` or an earlier update.
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..c-1``; may be left out where c is 1.
      targets: ``[n]`` or ``[n, t]`` real targets, where the state has them.
      where: ``[n]`` bool, the samples to count; default all; none at all add nothing.
      weights: ``[n]`` float >= 0, frequency weights.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.
    """
    if np.ndim(features) == 2 and np.shape(features)[1] != len(state.shift):
        got = list(np.shape(features))
        raise ValueError(f"features: wanted shape [n, {len(state.shift)}], got {got}")
    if labels is None and len(state.counts) == 1:
        labels = np.zeros(np.shape(features)[:1], np.int32)
    if (targets is None) != (state.targets is None):
        wanted = "none" if state.targets is None else "an array: the state counts targets"
        raise ValueError(f"targets: wanted {wanted}, got {'none' if targets is None else 'one'}")
    if state.targets is not None and targets is not None:
        t, shape = len(state.targets.sums), np.shape(targets)
        if (*shape, 1)[1] != t:
            raise ValueError(f"targets: wanted shape [n, {t}], got {list(shape)}")
    return evaluate(
        Kernel(_update if targets is None else _update_with_targets, adds=True),
        features=features,
        labels=labels,
        targets=targets,
        num_classes=len(state.counts),
        where=where,
        weights=weights,
        given={"state": state},
    )


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the samples of both, which must have begun from the same :func:`init`.

    Raises:
      ValueError: they did not (their shift or unit differs, or their shapes).
    """
    if jax.tree.map(jnp.shape, a) != jax.tree.map(jnp.shape, b):
        raise ValueError("b: wanted moments of the same shapes as a")
    traced = any(isinstance(x, Tracer) for x in (a.shift, a.unit, b.shift, b.unit))
    if not traced and not (np.array_equal(a.shift, b.shift) and a.unit == b.unit):
        raise ValueError("b: wanted moments about the same shift and unit as a: one moments.about")
    return add(a, b)


def subset(state: Moments, classes: ArrayLike) -> Moments:
    """Moments of the samples of some classes alone: a target task of those classes.

    Args:
      state: of ``init(by_class=True)``.
      classes: ``[k]`` distinct class ids, which become classes 0 to k - 1.

    Raises:
      ValueError: the state is not by class, or ``classes`` are not ids of it.
    """
    if state.gram.ndim != 3:
        raise ValueError("state: wanted moments by class, of init(by_class=True)")
    ids, c = (
        np.asarray(classes) if not isinstance(classes, jax.Array) else classes,
        len(state.counts),
    )
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"classes: wanted integers of shape [k], got {ids.dtype}{list(ids.shape)}")
    if not isinstance(ids, Tracer) and not np.isin(ids, np.arange(c)).all():
        raise ValueError(f"classes: wanted ids in [0, {c}), got {ids}")
    return select_classes(state, ids)


def _about(features, weights, some):
    return centre_of(features, weights, some)


def _update(features, labels, weights, state):
    about, c, by_class = (state.shift, state.unit), len(state.counts), state.gram.ndim == 3
    batch = measure_about(about, features, labels, weights, num_classes=c, by_class=by_class)
    return add(state, batch)


def _update_with_targets(features, labels, weights, targets, state):
    about = (state.shift, state.unit, state.targets.shift)
    batch = measure_about(
        about,
        features,
        labels,
        weights,
        num_classes=len(state.counts),
        targets=targets.reshape(len(labels), -1),
        by_class=state.gram.ndim == 3,
    )
    return add(state, batch)

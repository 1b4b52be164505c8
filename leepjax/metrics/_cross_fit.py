"""LEEP on samples that its predictor was not fitted on."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._leep import conditional_of
from leepjax.metrics._sums import sum_over_samples


def cross_fitted_leep(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_folds: int = 5,
    smoothing: float | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The mean log-likelihood of held-out samples under the expected empirical predictor; <= 0.

    LEEP judges its predictor on the samples that it was fitted on, so with few samples for many
    source classes it is too high, and the more source classes a model has, the higher. This fits on
    all folds but one and judges on that one. Larger is better.

    Folds take each class's samples in turn, in the order of the arrays: the same data give the same
    score, and sorted data should be shuffled first.

    Args:
      probs: ``[n, s]`` source-class probabilities, rows sum to 1.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes c, a Python int.
      num_folds: number of folds, at least 2.
      smoothing: added to every cell of the joint counts (Laplace), so that what one fold alone has
        is not impossible in it; default 1 / c, one sample spread over each source class.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``probs``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> print(f"{cross_fitted_leep(probs, labels, num_classes=2, num_folds=2):.4f}")
      -0.5034
    """
    if check_count("num_folds", num_folds) < 2:
        raise ValueError(f"num_folds: wanted at least 2, got {num_folds}")
    c = check_count("num_classes", num_classes)
    smoothing = 1 / c if smoothing is None else smoothing
    return evaluate(
        _cross_fitted_leep,
        probs=probs,
        labels=labels,
        num_classes=c,
        where=where,
        num_folds=num_folds,
        smoothing=check_number("smoothing", smoothing, positive=True),
    )


def _cross_fitted_leep(probs, labels, weights, *, num_classes, num_folds, smoothing):
    fold = rank_in_class(labels, weights, num_classes) % num_folds
    cell = fold * num_classes + labels  # one row of joint counts for each fold and class

    def count(probs, cell, weights):
        return jax.ops.segment_sum(weights[:, None] * probs, cell, num_folds * num_classes)

    joint = sum_over_samples(count, (probs, cell, weights))
    joint = joint.reshape(num_folds, num_classes, -1)
    others = joint.sum(0, keepdims=True) - joint
    others = jnp.maximum(others, 0) + smoothing  # a difference may round below zero
    conditional = jax.vmap(conditional_of)(others).reshape(num_folds * num_classes, -1)

    def add_up(probs, cell, weights, conditional):
        likelihood = jnp.sum(conditional[cell] * probs, 1)
        return jnp.sum(weights * jnp.log(jnp.where(weights > 0, likelihood, 1)))

    return sum_over_samples(add_up, (probs, cell, weights), conditional) / weights.sum()


def rank_in_class(labels, weights, num_classes):
    """``[n]``: how many samples of the same class that count come before."""
    keys = jnp.where(weights > 0, labels, num_classes)
    order = jnp.argsort(keys)
    starts = jnp.searchsorted(keys[order], keys)  # of each sample's class, in the sorted order
    return (
        jnp.zeros_like(labels).at[order].set(jnp.arange(len(labels), dtype=labels.dtype)) - starts
    )

"""Minus the entropy of the labels: the null that every score must beat."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import sum_by_class


def neg_label_entropy(
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""-H(Y), in nats: what can be said of a task without looking at the source model.

    .. math:: -H(Y) = \sum_y p_y \log p_y, \qquad p_y = n_y / n

    Between -log(num_classes), even classes, and 0, one class only. It is the lower bound of LEEP
    and NCE, so wherever tasks differ in their class counts it correlates with both, and with
    accuracy: the null of every study.

    Args:
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent classes change nothing.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar <= 0; NaN for invalid values under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{neg_label_entropy(jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -0.6931

    Source: Shannon, "A Mathematical Theory of Communication", 1948.
    """
    return evaluate(
        neg_entropy, labels=labels, num_classes=num_classes, where=where, weights=weights
    )


def neg_entropy(labels, weights, *, num_classes):
    """The kernel, also of :func:`leep_gain`."""
    counts = sum_over_samples(
        lambda labels, weights: sum_by_class(weights, labels, num_classes),
        (labels, weights),
    )
    return jnp.sum(xlogx(counts / counts.sum()))


def xlogx(p):
    """p log p, 0 at 0, and of derivative 0 there: what never occurs has no influence."""
    positive = p > 0
    return jnp.where(positive, p * jnp.log(jnp.where(positive, p, 1)), 0)

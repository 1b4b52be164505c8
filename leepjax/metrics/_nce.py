"""NCE: negative conditional entropy of target labels given source labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._neg_label_entropy import xlogx
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import sum_by_class, use_one_hot


def nce(
    source_labels: ArrayLike,
    labels: ArrayLike,
    *,
    num_source_classes: int,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative conditional entropy -H(Y | Z) of hard labels, in nats; larger is better.

    .. math:: \mathrm{NCE} = \sum_{y,z} \hat P(y, z) \log \hat P(y \mid z)

    with counts alone, no smoothing. -H(Y) <= NCE <= 0; one class present gives 0. LEEP of one-hot
    probabilities equals NCE. Z is a label of the source task: given by the data set where target
    images carry both, else the source model's arg max.

    Args:
      source_labels: ``[n]`` integer source labels in ``0..num_source_classes-1``.
      labels: ``[n]`` integer target labels in ``0..num_classes-1``.
      num_source_classes: number of source classes, a Python int.
      num_classes: number of target classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar <= 0; NaN for invalid values under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> source_labels, labels = jnp.array([0, 0, 0, 1]), jnp.array([0, 0, 1, 1])
      >>> print(f"{nce(source_labels, labels, num_source_classes=2, num_classes=2):.4f}")
      -0.4774

    Source: Tran, Nguyen, Hassner, "Transferability and Hardness of Supervised Classification
    Tasks", ICCV 2019.
    """
    return evaluate(
        _nce,
        source_labels=source_labels,
        labels=labels,
        num_source_classes=num_source_classes,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def _nce(source_labels, labels, weights, *, num_source_classes, num_classes):
    joint = joint_counts(source_labels, labels, weights, num_source_classes, num_classes)
    return neg_conditional_entropy(joint)


def joint_counts(source_labels, labels, weights, num_source_classes, num_classes):
    """``[num_source_classes, num_classes]`` sums of weights."""

    def add_up(source_labels, labels, weights):
        if use_one_hot(max(num_classes, num_source_classes)):
            counted = weights[:, None] * jax.nn.one_hot(labels, num_classes, dtype=weights.dtype)
            return sum_by_class(counted, source_labels, num_source_classes)
        pair = source_labels * num_classes + labels
        return jax.ops.segment_sum(weights, pair, num_source_classes * num_classes)

    joint = sum_over_samples(add_up, (source_labels, labels, weights))
    return joint.reshape(num_source_classes, num_classes)


def neg_conditional_entropy(joint):
    """-H(column | row) of counts."""
    joint = joint / joint.sum()
    return jnp.minimum(jnp.sum(xlogx(joint)) - jnp.sum(xlogx(joint.sum(1))), 0)

"""Leave-one-out nearest-neighbour accuracy: the null that is hardest to beat."""

from typing import Any

import jax
import jax.numpy as jnp

from leepjax.metrics._evaluate import evaluate

BLOCK = 1024  # rows of similarities held at once: n * BLOCK floats


def knn(
    features: Any, labels: Any, *, num_classes: int, k: int = 5, where: Any = None
) -> jax.Array:
    """Leave-one-out accuracy of k nearest neighbours by cosine similarity; larger is better.

    Each sample is labelled by the majority of its ``k`` nearest others (all others, where there
    are fewer); of tied classes the one with the nearer neighbour wins. A feature vector of norm
    zero is similar to none (0). One class gives 1; a single sample has no neighbour and gives 0.
    A class with one sample is never right.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      k: number of neighbours, a Python int >= 1.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar in [0, 1]; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0], [0.8, 0.3]])
      >>> print(f"{knn(features, jnp.array([0, 0, 1, 1, 1]), num_classes=2, k=1):.4f}")
      0.8000

    Source: Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on
    Information Theory, 1967.
    """
    return evaluate(
        _knn, features=features, labels=labels, num_classes=num_classes, k=k, where=where
    )


def _knn(features, labels, weights, *, num_classes, k):
    included = weights > 0
    n = labels.shape[0]
    k = min(k, n)
    norm = jnp.linalg.norm(features, axis=1, keepdims=True)
    unit = features / jnp.where(norm > 0, norm, 1)
    # A vote weighs 1, and 2^-(rank + 2) breaks ties for the nearer without ever outvoting.
    vote = 1 + 0.5 ** (jnp.arange(k, dtype=features.dtype) + 2)

    def correct(row):
        similarity = jnp.matmul(unit, unit[row], precision="highest")
        others = included & (jnp.arange(n) != row)
        nearest, index = jax.lax.top_k(jnp.where(others, similarity, -jnp.inf), k)
        votes = jax.ops.segment_sum(
            jnp.where(nearest > -jnp.inf, vote, 0), labels[index], num_classes
        )
        return (votes.argmax() == labels[row]) & (votes.max() > 0)

    right = jax.lax.map(correct, jnp.arange(n), batch_size=min(n, BLOCK))
    return jnp.sum(right & included) / jnp.sum(included)

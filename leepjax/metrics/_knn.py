"""Leave-one-out nearest-neighbour accuracy: the null that is hardest to beat."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count
from leepjax.metrics._evaluate import evaluate

BLOCK = 1024  # rows of similarities held at once: n * BLOCK floats


def knn(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    k: int = 5,
    where: ArrayLike | None = None,
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
        _knn,
        features=features,
        labels=labels,
        num_classes=num_classes,
        k=check_count("k", k),
        where=where,
    )


def _knn(features, labels, weights, *, num_classes, k):
    included = weights > 0
    n = labels.shape[0]
    k = min(k, n)
    unit = features
    for norm in (jnp.inf, 2):  # by the largest entry first: its square may leave float32's range
        size = jnp.linalg.norm(unit, norm, axis=1, keepdims=True)
        unit = unit / jnp.where(size > 0, size, 1)
    # cos - 1 = -|u - v|^2 / 2: about their mean, so that directions that are all nearly the same,
    # as under a large common offset, are told apart.
    zero = size[:, 0] == 0
    u = unit - (jnp.matmul(weights, unit, precision="highest") / weights.sum())[None]
    half = jnp.sum(u * u, 1) / 2
    rank = jnp.arange(k)

    def correct(row):
        similarity = jnp.matmul(u, u[row], precision="highest") - half - half[row]
        similarity = jnp.where(zero | zero[row], -1, similarity)
        others = included & (jnp.arange(n) != row)
        nearest, index = jax.lax.top_k(jnp.where(others, similarity, -jnp.inf), k)
        valid = nearest > -jnp.inf
        votes = jax.ops.segment_sum(valid.astype(jnp.int32), labels[index], num_classes)
        first = jax.ops.segment_min(jnp.where(valid, rank, k), labels[index], num_classes)
        # Most votes, then the nearest voter: 0 <= k - first <= k never outweighs a vote.
        winner = jnp.argmax(jnp.where(votes > 0, votes * (k + 1) + (k - first), 0))
        return (winner == labels[row]) & valid.any()

    right = jax.lax.map(correct, jnp.arange(n), batch_size=min(n, BLOCK))
    return jnp.sum(right & included) / jnp.sum(included)

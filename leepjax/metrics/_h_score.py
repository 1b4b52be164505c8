"""H-score: how much of the feature covariance lies between the classes."""

from typing import Any

import jax
import jax.numpy as jnp

from leepjax.metrics._evaluate import evaluate

RTOL = 1e-6  # eigenvalues of cov(f) below this part of the largest count as zero


def h_score(
    features: Any, labels: Any, *, num_classes: int, where: Any = None, weights: Any = None
) -> jax.Array:
    r"""H-score, 0 <= H <= c - 1 for c classes present; larger is better.

    .. math:: H = \mathrm{tr}\left( \mathrm{cov}(f)^{+}\, \mathrm{cov}(E[f \mid y]) \right)

    The pseudo-inverse keeps eigenvalues above 1e-6 of the largest, and at most min(d, n - 1) of
    them. H does not change under an invertible linear map of the features. With n <= d + 1 samples
    in general position it is exactly c - 1 *whatever the features*: ask for more samples than
    features before reading it. One class present gives 0.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``features``
      where the eigenvalues of their covariance are distinct. In float32 right to 1e-4 for
      covariances of condition number up to 1e4.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{h_score(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      0.9943

    Source: Bao, Li, Huang, Zhang, Zheng, Zamir, Guibas, "An Information-Theoretic Approach to
    Transferability in Task Transfer Learning", ICIP 2019.
    """
    return evaluate(
        _h_score,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def _h_score(features, labels, weights, *, num_classes):
    total = weights.sum()
    # About a sample first, so that a large offset, or features that do not vary, leave no rounding
    # behind; in units of the largest, so that squares stay in range. H depends on neither.
    g = features - features[jnp.argmax(weights > 0)][None]
    g = jnp.where((weights > 0)[:, None], g, 0)
    unit = jax.lax.stop_gradient(jnp.abs(g).max())
    g = g / jnp.where(unit > 0, unit, 1)
    g = g - (jnp.matmul(weights, g, precision="highest") / total)[None]
    counts = jax.ops.segment_sum(weights, labels, num_classes)
    sums = jax.ops.segment_sum(weights[:, None] * g, labels, num_classes)
    # With B = between^T between, H = tr(C^+ B) for rows sqrt(n_c / n) * (mean of class c).
    between = sums / jnp.sqrt(jnp.where(counts > 0, counts, 1) * total)[:, None]
    whiten, kept = _whitening(_gram(g, weights), jnp.sum(weights > 0))
    # H is the same for any invertible T in tr((T'CT)^-1 T'BT), so T may be held constant and need
    # only be rough: the second Gram, near the identity, mends the float32 error of small
    # eigenvalues, and the gradient stays finite where eigenvalues coincide.
    gram = _gram(jnp.matmul(g, whiten, precision="highest"), weights) + jnp.diag(1.0 - kept)
    between = jnp.matmul(between, whiten, precision="highest")
    solved = jax.scipy.linalg.solve(gram, between.T, assume_a="pos")
    return jnp.sum(between.T * solved)


def _gram(x, weights):
    return jnp.matmul((weights / weights.sum())[None] * x.T, x, precision="highest")


def _whitening(covariance, n):
    """``T [d, d]`` with T'CT = 1 on the kept directions, zero columns elsewhere; ``kept [d]``."""
    eigenvalues, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(covariance))
    d = eigenvalues.shape[0]
    kept = (eigenvalues > RTOL * eigenvalues[-1]) & (jnp.arange(d)[::-1] < n - 1)
    scale = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, eigenvalues, 1)), 0)
    return vectors * scale[None], kept.astype(covariance.dtype)

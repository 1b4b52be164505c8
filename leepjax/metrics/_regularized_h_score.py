"""H-score with a shrunk covariance: readable also where features outnumber samples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._moments import RTOL, Moments, sum_of_squares
from leepjax.metrics._of_moments import evaluate_moments


def regularized_h_score(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""H-score with the Ledoit-Wolf covariance, >= 0; larger is better.

    .. math:: H_\alpha = \mathrm{tr}\left( \Sigma_\alpha^{-1}\,
        (1 - \alpha)\, \tfrac{n}{n-1} \mathrm{cov}(E[f \mid y]) \right), \qquad
        \Sigma_\alpha = (1 - \alpha)\, \mathrm{cov}(f) + \alpha \tfrac{\mathrm{tr}\,
        \mathrm{cov}(f)}{d} I

    with covariances over n and alpha in [0, 1] by Ledoit and Wolf: the larger, the less the n
    samples say of the d x d covariance. Where H itself is c - 1 whatever the features (n <= d + 1)
    this still tells features apart. Features that do not vary, or one class, give 0.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{regularized_h_score(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      0.9962

    Source: Ibrahim, Ponomareva, Mazumder, "Newer is not always better: Rethinking transferability
    metrics, their peculiarities, stability and performance", ECML PKDD 2022; Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004.
    """
    return evaluate(
        _regularized_h_score,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def regularized_h_score_from_moments(moments: Moments) -> jax.Array:
    """:func:`regularized_h_score` of ``leepjax.metrics.moments`` alone."""
    return evaluate_moments(_regularized_h_score, moments)


def _regularized_h_score(moments):
    n = moments.total
    covariance = moments.scatter / n
    d = covariance.shape[0]
    average = jnp.trace(covariance) / d  # the mean eigenvalue
    alpha = _shrinkage(moments, covariance, average)
    # In units of the average eigenvalue, so that a constant feature needs no case of its own.
    unit = jnp.where(average > 0, average, 1)
    shrunk = (1 - alpha) * covariance / unit + alpha * jnp.eye(d, dtype=covariance.dtype)
    counts = jnp.where(moments.counts > 0, moments.counts, 1)
    means = moments.class_sums / jnp.sqrt(counts * unit)[:, None]
    lower = jnp.linalg.cholesky(shrunk)
    between = jnp.sum(jax.scipy.linalg.solve_triangular(lower, means.T, lower=True) ** 2)
    return (1 - alpha) * between / jnp.where(n > 1, n - 1, 1)


def _shrinkage(moments: Moments, covariance, average):
    """alpha = min(beta, delta) / delta, with beta = (mean |x|^4 - |C|^2) / (d n), |C| Frobenius's.

    delta = |C - average I|^2 / d. Where all eigenvalues are the same there is nothing to shrink and
    alpha is 0; where features do not vary, 1. Samples at two points alone have beta = 0 and a
    singular covariance: alpha is then 1e-6 |C| / average, for a condition number of 1e6.
    """
    n, d = moments.total, covariance.shape[0]
    m = moments.centre
    # |g - m|^4 = (|g|^2 - 2 g.m + |m|^2)^2, summed over samples.
    m2 = jnp.sum(m * m)
    gram_m = jnp.matmul(moments.scatter, m, precision="highest") + n * m * m2
    fourth = (
        moments.squared_norms.sum()
        + 4 * jnp.sum(m * gram_m)
        - 4 * jnp.sum(moments.norm_sums.sum(0) * m)
        + 2 * moments.norms.sum() * m2
        - 3 * n * m2**2
    )
    delta = sum_of_squares(covariance - average * jnp.eye(d, dtype=covariance.dtype)) / d
    squares = d * (delta + average**2)
    spread = fourth / n - squares  # >= 0, and 0 for two points
    sure = delta > 1e-6 * squares / d
    alpha = jnp.where(sure, spread / (d * n) / jnp.where(sure, delta, 1), 0)
    norm = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    two_points = spread <= RTOL * squares
    least = jnp.where(two_points, RTOL * norm / jnp.where(average > 0, average, 1), 0)
    return jnp.where(average > 0, jnp.clip(alpha, least, 1), 1)

"""H-score: how much of the feature covariance lies between the classes."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._moments import Moments
from leepjax.metrics._of_moments import evaluate_moments


def h_score(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
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
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable where the rank
      does not change. In float32 right to 1e-4 for covariances of condition number up to 1e4.

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


def h_score_from_moments(moments: Moments) -> jax.Array:
    """:func:`h_score` of ``leepjax.metrics.moments`` alone."""
    return evaluate_moments(_h_score, moments)


def _h_score(moments, solve):
    """With B = M^T M between the classes, H = tr(C^+ B) = max_X 2 <M^T, X> - <X, C X>.

    The maximum is at X = C^+ M^T. There the value is right to second order in errors of X, as of
    single-precision eigenvectors, and the gradient is that at constant X: none goes through the
    eigendecomposition, so eigenvalues may coincide.
    """
    covariance = moments.scatter / moments.total
    # The rows of M are sqrt(n_c / n) (mean of class c).
    counts = jnp.where(moments.counts > 0, moments.counts, 1)
    means = moments.class_sums / jnp.sqrt(counts * moments.total)[:, None]
    x = solve(means.T)  # [d, c]
    image = jnp.matmul(covariance, x, precision="highest")
    return 2 * jnp.sum(means.T * x) - jnp.sum(x * image)

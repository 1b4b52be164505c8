"""SFDA: self-challenging Fisher discriminant analysis."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics.platform import eigh, product, row_of_class, sum_by_class

SLOPE = 5.0  # shrinkage falls as exp(-SLOPE * largest eigenvalue)
LEAST_SHRINKAGE = 1e-10
LEAST_SPREAD = 1e-10  # within classes, as a part of the total


def sfda(
    features: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""Mean posterior of the right class in a Fisher space that was made harder; in [0, 1].

    Larger is better. A linear discriminant with class priors is fitted,

    .. math:: p(c \mid f) \propto \tfrac{n_c}n
              \exp\left( -\tfrac12 (f - \mu_c)^\top S^{-1} (f - \mu_c) \right), \qquad
              S = (1 - s) S_w + s\,\tfrac{\mathrm{tr} S_w}{d} I

    with class means :math:`\mu_c`, the within-class covariance
    :math:`S_w = \tfrac1n \sum_i (f_i - \mu_{y_i})(f_i - \mu_{y_i})^\top` and
    :math:`s = \max(e^{-5 \lambda_{\max}(S_w)}, 10^{-10})`. Then each sample is drawn towards the
    (unweighted) mean of the other classes' means, the more the less sure it was of its own
    (ConfMix),

    .. math:: f_i' = w_i f_i + (1 - w_i)\, \tfrac1{c - 1} \sum_{k \ne y_i} \mu_k, \qquad
              w_i = \frac{\exp p(y_i \mid f_i)}{\sum_k \exp p(k \mid f_i)}

    (a softmax of *probabilities*, as the authors' code has it), the same is fitted to :math:`f'`
    with its own means and covariance and the same s, and the score is the mean of
    :math:`p'(y_i \mid f_i')`. The between-class scatter needs no mention: all its generalised
    eigenvectors V together have :math:`V V^\top = S^{-1}`.

    It is fitted and read on the same samples: with n <= d + c in general position and s at its
    least it is 1 *whatever the features*. s makes the score depend on the unit of the features
    where they are small (largest within-class variance below about 4). Only directions in which
    features vary count (the rank rule: eigenvalues of their covariance above 1e-6 of the largest,
    at most n - 1), while d counts all columns. Absent classes change nothing; one class gives 1,
    constant features :math:`\sum_c (n_c/n)^2`. The mean diagonal of S_w counts as at least 1e-10 of
    that of the total covariance: so features that are constant within each class give 1, or where
    class means coincide those classes' shares.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.5]])
      >>> print(f"{sfda(features, jnp.array([0, 0, 1, 1, 0]), num_classes=2):.4f}")
      0.9394

    Source: Shao, Zhao, Ge, Zhang, Yang, Wang, Shan, Luo, "Not All Models Are Equal: Predicting
    Model Transferability in a Self-challenging Fisher Space", ECCV 2022. Its code takes the largest
    eigenvalue from three steps of the power method.
    """
    return evaluate(_sfda, features=features, labels=labels, num_classes=num_classes, where=where)


def _sfda(features, labels, weights, moments, spectrum, *, num_classes):
    included, d = weights > 0, features.shape[1]
    n, counts = moments.total, moments.counts
    present = counts > 0
    vectors = (spectrum.vectors * spectrum.kept[None])[:, max(0, d - len(labels)) :]
    g = (features - moments.shift[None]) / moments.unit - moments.centre[None]
    x = jnp.where(included[:, None], product(g, vectors), 0)

    def means_of(x):
        return sum_by_class(x, labels, num_classes) / jnp.where(present, counts, 1)[:, None]

    def fit(x, s):
        means = means_of(x)
        residual = jnp.where(included[:, None], x - row_of_class(means, labels), 0)
        covariance = product(residual.T, residual) / n
        centred = jnp.where(included[:, None], x - (x.sum(0) / n)[None], 0)
        spread = LEAST_SPREAD * jnp.sum(jnp.square(centred)) / n
        diagonal = jnp.maximum(jnp.trace(covariance), spread) / d
        diagonal = jnp.where(diagonal > 0, diagonal, 1)
        eigenvalues, basis = eigh(covariance)
        if s is None:
            s = jnp.exp(-SLOPE * eigenvalues[-1] * moments.unit * moments.unit)
            s = jnp.maximum(s, LEAST_SHRINKAGE)
        log_posterior = _log_posterior(residual, means, eigenvalues, basis, s, diagonal)
        return jax.nn.softmax(log_posterior, axis=1), s

    def _log_posterior(residual, means, eigenvalues, basis, s, diagonal):
        # For any T, S^-1 = T K^-1 T' with K = T'ST. T need only be a rough root of S^-1: K is near
        # the identity, and mends what eigh loses of small eigenvalues beside large ones.
        scale = jax.lax.rsqrt((1 - s) * jnp.maximum(eigenvalues, 0) + s * diagonal)
        t = basis * scale[None]
        residual, means = product(residual, t), product(means, t)
        k = (1 - s) * product(residual.T, residual) / n + jnp.diag(s * diagonal * scale**2)
        root = jnp.linalg.cholesky(k)
        half = jax.scipy.linalg.solve_triangular(root, means.T, lower=True)  # [d, c]
        solved = jax.scipy.linalg.solve_triangular(root, half, lower=True, trans=1)
        # With r = f - mu_y the exponents of class c and of the right class y differ by
        # -r'S^-1 (mu_y - mu_c) - |mu_y - mu_c|^2 / 2 in the norm of S^-1: no large squares cancel.
        along = product(residual, solved)
        own = jnp.take_along_axis(along, labels[:, None], 1)
        apart = jax.lax.map(lambda m: jnp.sum(jnp.square(m[:, None] - half), 0), half.T)
        log_share = jnp.log(jnp.where(present, counts, 1) / n)
        exponents = along - own - row_of_class(apart, labels) / 2 + log_share[None]
        return jnp.where(present[None], exponents, -jnp.inf)

    posterior, s = fit(x, None)
    confidence = jnp.where(present[None], jnp.exp(posterior), 0)
    own = jnp.take_along_axis(confidence, labels[:, None], 1) / confidence.sum(1, keepdims=True)
    means = means_of(x)
    others = (means.sum(0)[None] - means) / jnp.maximum(present.sum() - 1, 1)
    mixed = jnp.where(included[:, None], own * x + (1 - own) * row_of_class(others, labels), 0)
    posterior = jnp.take_along_axis(fit(mixed, s)[0], labels[:, None], 1)[:, 0]
    return jnp.sum(jnp.where(included, posterior, 0)) / n

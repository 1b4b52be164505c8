"""LDA score: how surely linear discriminant analysis finds the right class."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics.platform import eigh, product, row_of_class, sum_by_class

SLOPE = 5.0  # shrinkage falls as exp(-SLOPE * largest eigenvalue)
LEAST_SHRINKAGE = 1e-10
LEAST_SPREAD = 1e-10  # within classes, as a part of the total


def lda_score(
    features: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""Mean LDA posterior of the right class, in [0, 1]; larger is better.

    .. math:: \mathrm{score} = \tfrac1n \sum_i p(y_i \mid f_i), \qquad
              p(c \mid f) \propto \tfrac{n_c}n
              \exp\left( -\tfrac12 (f - \mu_c)^\top S^{-1} (f - \mu_c) \right)

    with the class means and the shrunk within-class covariance

    .. math:: S = (1 - s) S_w + s\,\tfrac{\mathrm{tr} S_w}{d} I, \qquad
              S_w = \tfrac1n \sum_i (f_i - \mu_{y_i})(f_i - \mu_{y_i})^\top, \qquad
              s = \max\left( e^{-5 \lambda_{\max}(S_w)}, 10^{-10} \right)

    This is the posterior in all directions U of the generalised eigenproblem
    :math:`S_b u = \lambda S u`, for which :math:`U^\top S U = I` and so :math:`U U^\top = S^{-1}`.
    It is fitted and read on the same samples: with n <= d + c in general position it is 1 *whatever
    the features*. s makes the score depend on the unit of the features where they are small
    (largest within-class variance below about 4). Absent classes change nothing. One class gives 1,
    constant features :math:`\sum_c (n_c/n)^2`. Features that are constant within each class give
    1, or where class means coincide those classes' shares (for this the mean diagonal of S_w counts
    as at least 1e-10 of the total covariance's).

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [2.0, 3.0]])
      >>> print(f"{lda_score(features, jnp.array([0, 0, 1, 1, 0]), num_classes=2):.4f}")
      0.8523

    Source: Gholami, Akbari, Wang, Kamranian, Zhang, "ETran: Energy-Based Transferability
    Estimation", ICCV 2023. Its code calls a symmetric solver on :math:`S^{-1} S_b`, which is not
    symmetric: orthonormal directions, and a nearest-class-mean rule that leaves S out.
    """
    return evaluate(
        _lda_score, features=features, labels=labels, num_classes=num_classes, where=where
    )


def _lda_score(features, labels, weights, *, num_classes):
    included, total, d = weights > 0, weights.sum(), features.shape[1]
    # About a sample first, and in units of the largest: no rounding of an offset, no overflow.
    g = jnp.where(included[:, None], features - features[jnp.argmax(included)][None], 0)
    unit = jnp.abs(g).max()
    g = g / jnp.where(unit > 0, unit, 1)
    g = jnp.where(included[:, None], g - (product(weights, g) / total)[None], 0)
    counts = sum_by_class(weights, labels, num_classes)
    present = counts > 0
    means = sum_by_class(g, labels, num_classes) / jnp.where(present, counts, 1)[:, None]
    residual = jnp.where(included[:, None], g - row_of_class(means, labels), 0)
    residual, means = _whitened(residual, means, jnp.sum(jnp.square(g)) / (total * d), total, unit)

    # With r = f - mu_y in whitened coordinates, the exponents of class c and of the right class y
    # differ by |r|^2/2 - |r + mu_y - mu_c|^2/2 = -r.(mu_y - mu_c) - |mu_y - mu_c|^2/2: differences
    # of means, and no large squares that cancel.
    distances = jax.lax.map(lambda mean: jnp.sum(jnp.square(mean[None] - means), 1), means)
    along = product(residual, means.T)
    along = along - jnp.take_along_axis(along, labels[:, None], 1)
    exponents = along - row_of_class(distances, labels) / 2
    log_share = jnp.log(jnp.where(present, counts, 1) / total)
    logits = jnp.where(present[None], exponents + log_share[None], -jnp.inf)
    # The right class's own exponent is zero.
    posterior = jnp.exp(log_share[labels] - jax.nn.logsumexp(logits, axis=1))
    return jnp.minimum(jnp.sum(jnp.where(included, posterior, 0)) / total, 1)


def _whitened(residual, means, spread, total, unit):
    """``residual [n, d]`` and ``means [c, d]`` in coordinates where S is the identity."""
    covariance = product(residual.T, residual) / total
    eigenvalues, vectors = eigh(covariance)
    largest = eigenvalues[-1]
    diagonal = jnp.maximum(jnp.trace(covariance) / covariance.shape[0], LEAST_SPREAD * spread)
    diagonal = jnp.where(diagonal > 0, diagonal, 1)
    s = jnp.maximum(jnp.exp(-SLOPE * largest * unit * unit), LEAST_SHRINKAGE)
    # S is hard to invert in float32 where s is small. So in two steps: the first makes all but the
    # smallest eigenvalues nearly 1, and what the second finds is no longer lost beside large ones.
    bound = jnp.maximum(s * diagonal, 1e-6 * largest)
    scale = jax.lax.rsqrt((1 - s) * jnp.maximum(eigenvalues, 0) + bound)
    first = vectors * scale[None]
    residual, means = product(residual, first), product(means, first)
    covariance = (1 - s) * product(residual.T, residual) / total
    covariance = covariance + jnp.diag(s * diagonal * jnp.square(scale))
    eigenvalues, vectors = eigh(covariance)
    eigenvalues = jnp.maximum(eigenvalues, jnp.finfo(eigenvalues.dtype).eps)
    second = vectors * jax.lax.rsqrt(eigenvalues)[None]
    return product(residual, second), product(means, second)

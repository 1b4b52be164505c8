"""Leave-one-out accuracy of a ridge classifier, in closed form."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate

# Penalties, relative to the mean eigenvalue; from the largest, which wins a tie.
PENALTIES = tuple(10 ** (k / 2) for k in range(4, -9, -1))
TIE = 1e-5  # scores of two classes that differ by no more are equal


def linear_probe(
    features: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""Leave-one-out accuracy of a linear classifier (ridge regression); larger is better.

    One-hot labels t are regressed on the features, with an intercept that is not penalised:

    .. math:: \min_{W, b} \sum_i \lVert t_i - W^\top f_i - b \rVert^2 + n \lambda \lVert W \rVert^2

    For each sample this is fitted to the n - 1 others (n and :math:`\lambda` stay those of all),
    and the sample is right when the score of its own class exceeds that of every other class
    present by more than 1e-5: a tie is wrong, whatever the names of the classes. No fit is
    repeated: with H the hat matrix of all samples, including the intercept's 1/n, the scores left
    out are :math:`t_i - (t_i - \hat t_i) / (1 - H_{ii})`.

    :math:`\lambda` is :math:`10^{k/2}`, k = -8, -7, ..., 4, times the mean eigenvalue of the
    feature covariance (1/n; the mean over eigenvalues above 1e-6 of the largest, of which there are
    at most n - 1; features outside these directions do not count). Of these 13 that is taken whose
    left-out squared error (summed over samples and classes) is least; of equals the largest.

    One class gives 1; a single sample gives 0, as nothing is left to learn from. A class with one
    sample is never right. Features that do not vary predict the most frequent class among the
    others: the score is the share of the largest class, if it leads by two or more, else 0. The
    unit of the features does not matter.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent classes change nothing.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar in [0, 1]; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.0]])
      >>> print(f"{linear_probe(features, jnp.array([0, 0, 1, 1, 1]), num_classes=2):.4f}")
      0.8000

    Source: Hoerl, Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems",
    Technometrics, 1970; left-out residuals: Allen, "The Relationship between Variable Selection and
    Data Augmentation and a Method for Prediction", Technometrics, 1974.
    """
    return evaluate(
        _linear_probe, features=features, labels=labels, num_classes=num_classes, where=where
    )


def _linear_probe(features, labels, weights, moments, spectrum, *, num_classes):
    included, n, present = weights > 0, moments.total, moments.counts > 0
    g = (features - moments.shift[None]) / moments.unit - moments.centre[None]
    left, eigenvalues, rank = _left_singular(g, included, spectrum, n)
    kept = jnp.arange(len(eigenvalues)) < rank
    one_hot = jnp.where(included[:, None], jax.nn.one_hot(labels, num_classes, dtype=g.dtype), 0)
    target = one_hot - (moments.counts / n)[None]
    target = jnp.where(included[:, None], target, 0)
    projected = _product(left.T, target)  # [r, c]

    # With f_j = lambda / (lambda + eigenvalue j), residuals are (1 - U U')t + U diag(f) U't and
    # 1 - H_ii = (1 - 1/n - |u_i|^2) + sum_j f_j u_ij^2. The first terms vanish at rank n - 1, and
    # must not be what rounding leaves of them: where features fit all labels, both are small.
    spare = rank < n - 1
    outside = jnp.where(spare, target - _product(left, projected), 0)
    square = jnp.square(left)
    free = jnp.where(spare, jnp.maximum(1 - 1 / n - square.sum(1), 0), 0)
    mean = eigenvalues.sum() / jnp.maximum(rank, 1)
    mean = jnp.where(mean > 0, mean, 1)

    def left_out(relative):
        factor = jnp.where(kept, relative * mean / (relative * mean + eigenvalues), 0)
        residual = outside + _product(left, factor[:, None] * projected)
        free_left = free + _product(square, factor)
        residual = residual / jnp.where(free_left > 0, free_left, 1)[:, None]
        score = one_hot - residual
        own = jnp.take_along_axis(score, labels[:, None], 1)[:, 0]
        other = jnp.where(present[None] & (one_hot == 0), score, -jnp.inf).max(1)
        right = included & (own > other + TIE)
        return jnp.sum(jnp.square(residual)), jnp.sum(right) / n

    errors, accuracies = jax.lax.map(left_out, jnp.asarray(PENALTIES, g.dtype))
    return jnp.where(n > 1, accuracies[jnp.argmin(errors)], 0)


def _left_singular(g, included, spectrum, n):
    """U ``[n, r]``, eigenvalues ``[r]`` descending, 0 past the rank, and the rank.

    The spectrum has small eigenvalues to rounding of the largest only. Twice then: scaled by it
    the features are nearly orthonormal, which a Cholesky factor mends; what is left to rotate is a
    triangular matrix with the singular values, not their squares.
    """
    d = g.shape[1]
    rest = max(0, d - g.shape[0])
    kept, vectors = spectrum.kept[rest:], spectrum.vectors[:, rest:]
    x = jnp.where(included[:, None] & kept[None], _product(g, vectors), 0)
    size = jnp.sqrt(jnp.sum(jnp.square(x), 0))
    x = x / jnp.where(size > 0, size, 1)[None]
    gram = _product(x.T, x) + jnp.diag(jnp.where(kept & (size > 0), 0.0, 1.0).astype(g.dtype))
    root = jnp.linalg.cholesky(gram)  # x = Q root', Q orthonormal
    p, singular, _ = jnp.linalg.svd(root.T * size[None])
    left = _product(x, jax.scipy.linalg.solve_triangular(root, p, lower=True, trans=1))
    return left, jnp.square(singular) / n, kept.sum()


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")

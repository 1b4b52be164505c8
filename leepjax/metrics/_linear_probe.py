"""Leave-one-out accuracy of a ridge classifier, in closed form."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate


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


def _linear_probe(weights, left_out):
    return jnp.where(weights.sum() > 1, left_out.accuracy, 0)

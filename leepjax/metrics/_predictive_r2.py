"""Leave-one-out R² of ridge regression on one-hot labels, in closed form."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate


def predictive_r2(
    features: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""The share of the labels' variance that a linear head predicts in samples it has not seen.

    The head is that of :func:`linear_probe`, with its penalties: each sample's one-hot label
    :math:`t_i` is predicted by the ridge regression of all others. Its squared error is held
    against that of the class shares :math:`\bar t_{-i}` among the others,

    .. math:: 1 - \frac{\sum_i \lVert t_i - \hat t_{-i}(f_i) \rVert^2}
        {\sum_i \lVert t_i - \bar t_{-i} \rVert^2}

    At most 1, larger is better; features that say nothing of the labels have about 0, whatever
    their number, as nothing is judged on what it was fitted to. Where accuracy counts samples,
    this is smooth: it tells sources apart with fewer of them. One class, or a single sample,
    gives 0: there is nothing to predict.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent classes change nothing.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.0]])
      >>> print(f"{predictive_r2(features, jnp.array([0, 0, 1, 1, 1]), num_classes=2):.4f}")
      0.5329

    Source: Allen, "The Relationship between Variable Selection and Data Augmentation and a Method
    for Prediction", Technometrics, 1974 (PRESS, the sum above); Stone, "Cross-Validatory Choice and
    Assessment of Statistical Predictions", Journal of the Royal Statistical Society B, 1974.
    """
    return evaluate(
        _predictive_r2, features=features, labels=labels, num_classes=num_classes, where=where
    )


def _predictive_r2(weights, moments, left_out):
    n, shares = weights.sum(), moments.counts / moments.total
    # t - (n shares - t) / (n - 1) = n / (n - 1) (t - shares)
    spread = n * jnp.square(n / jnp.maximum(n - 1, 1)) * (1 - jnp.square(shares).sum())
    defined = (moments.counts > 0).sum() > 1
    return jnp.where(defined, 1 - left_out.error / jnp.where(defined, spread, 1), 0)

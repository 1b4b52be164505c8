"""Energy: whether the target samples look like anything the source model knows."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate

ONE_IN = 200  # the lowest 0.5 % of samples


def energy(features: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    r"""Mean log-sum-exp of the 0.5 % of samples where it is lowest; larger is better.

    .. math:: -E(f) = \log \sum_j e^{f_j}, \qquad
              \mathrm{energy} = \tfrac1m \sum_{i \le m} (-E(f))_{(i)},
              \qquad m = \max(1, \lfloor n / 200 \rfloor)

    with the values of all samples in ascending order. -E is the log of an unnormalised density of
    the model's inputs, so a high value of even the lowest says that the target lies within what the
    model was trained on. It needs no labels and says nothing of classes. Any real value; it shifts
    with a common shift of the features, and is comparable only between models whose features have
    the same meaning and number. One sample gives its own value; zero features give log d.

    Args:
      features: ``[n, d]`` floating-point features, or the source model's logits: the paper allows
        both, and its published results are of features.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{energy(jnp.array([[1.0, 0.0], [0.0, 3.0], [2.0, 5.0]])):.4f}")
      1.3133

    Source: Gholami, Akbari, Wang, Kamranian, Zhang, "ETran: Energy-Based Transferability
    Estimation", ICCV 2023. Its code takes the mean of no value, NaN, below 200 samples.
    """
    return evaluate(_energy, features=features, where=where)


def _energy(features, weights):
    included = weights > 0
    values = jax.nn.logsumexp(features, axis=1)
    ascending = jnp.sort(jnp.where(included, values, jnp.inf))
    count = jnp.maximum(included.sum() // ONE_IN, 1)
    lowest = jnp.arange(ascending.shape[0]) < count
    return jnp.sum(jnp.where(lowest, ascending, 0)) / count

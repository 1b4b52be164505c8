"""Batch normalisation: by which statistics, and in the form that is fastest to differentiate."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

BatchNormMode = Literal["batch", "running", "frozen"]
"""What batch normalisation does while a source's network is trained on other classes.

``"batch"``
  Normalise by the images at hand. Fine-tuning updates the running averages, and tests by them; a
  meta-learner normalises the queries of a task by each other, so that it is transductive.
``"running"``
  Normalise by the source's running averages, which stay. Scales and shifts are trained.
``"frozen"``
  As ``"running"``, and scales and shifts are not trained either.
"""


class BatchNorm(nnx.BatchNorm):
    """``nnx.BatchNorm`` that normalises a batch by one multiplication and one addition.

    (x - m) a + b = x a + (b - m a), with a = scale / √(v + ε), is the same to rounding. By the left
    side XLA writes x - m, an array as large as x, for the gradient; by the right side it keeps x,
    which the convolution before wrote anyway. Not for masks, half precision or other axes: nothing
    here uses them.
    """

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: Any = None
    ) -> jax.Array:
        """Normalise ``[..., c]`` over all axes but the last; by running averages as Flax."""
        plain = use_running_average is False and mask is None
        if not plain or self.scale is None or self.bias is None:
            return super().__call__(x, use_running_average, mask=mask)
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        var = jnp.maximum((x * x).mean(axes) - mean * mean, 0)
        for average, value in ((self.mean, mean), (self.var, var)):
            kept = self.momentum * average[...] + (1 - self.momentum) * value
            average[...] = jax.lax.stop_gradient(kept)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)

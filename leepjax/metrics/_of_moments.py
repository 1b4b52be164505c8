"""The other road to the kernels: from moments alone, which may have been gathered in parts."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from leepjax.metrics._kernel import Kernel, Shared, as_kernel
from leepjax.metrics._moments import Moments


def evaluate_moments(
    formula: Kernel | Callable[..., Any], moments: Moments, **options: Hashable
) -> jax.Array:
    """What the kernel says of moments; a ``ValueError``, or NaN in a trace, where they are empty.

    ``options`` are static.
    """
    if not isinstance(moments, Moments):
        wanted = "leepjax.metrics.moments.Moments, of init and update"
        raise ValueError(f"moments: wanted {wanted}, got {type(moments).__name__}")
    kernel = as_kernel(formula)
    if kernel.targets and moments.targets is None:
        raise ValueError("moments: wanted some of moments.init(num_targets=...), got none")
    value, empty = _run(kernel, moments, tuple(sorted(options.items())))
    if not isinstance(empty, Tracer):
        if empty:
            raise ValueError("moments: wanted at least one sample of positive weight, got none")
        kernel.refuse_undefined(value)
    return value


@partial(jax.jit, static_argnames=("kernel", "options"))
def _run(kernel, moments, options):
    empty = moments.support.sum() == 0
    value = Shared({"moments": moments}).call(kernel, dict(options))
    return jnp.where(empty, jnp.nan, value), empty

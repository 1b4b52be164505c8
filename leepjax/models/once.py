"""In training, XLA's CPU backend is to compute what a convolution reads once.

It fuses whatever is elementwise into each of its readers: normalisation, ReLU and all the residual
sums before them are then computed again for every convolution and every gradient of a kernel, 37
times in a ResNet20. A barrier before each convolution keeps its input an array of its own. XLA
removes barriers before it fuses, unless it is told not to: that is the compiler option.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


def read_once(network: nnx.Module) -> None:
    """Put a barrier before every convolution of a network, in place."""
    for _, module in nnx.iter_graph(network):
        if isinstance(module, nnx.Conv):
            module.conv_general_dilated = _after_barrier(module.conv_general_dilated)


def keep_barriers() -> dict[str, str] | None:
    """``compiler_options`` for a ``jax.jit`` of training steps; None on other backends.

    There barriers are removed after fusion, so that they do what they are for.
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def _after_barrier(convolution: Callable[..., Any]) -> Callable[..., Any]:
    def convolve(x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        return convolution(jax.lax.optimization_barrier(x), *args, **kwargs)

    return convolve

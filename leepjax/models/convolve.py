"""Convolution of small images in the forms that are fastest on a CPU, under XLA.

XLA's CPU backend lays out the window of every output (im2col), then multiplies by the kernel. Three
things cost more there than the arithmetic:

- **Few channels.** A product with a kernel of 16 columns runs at half the speed of one with 32, and
  where images have few channels the layout costs more than the product. So m neighbouring outputs
  are computed as m times the channels, by a kernel whose window is m - 1 wider and which moves by
  m: the layout shrinks from kw m to kw + m - 1 columns, the arithmetic grows by that over kw.
- **Gradients of kernels over many images.** They are convolutions whose channels are the images:
  slow unless 4 divides these, and several times slower where they do not fit the cache. So images
  are taken in parts, whose gradients are summed.
- **What is computed twice.** XLA fuses whatever is elementwise into each of its readers:
  normalisation, ReLU and all the residual sums before them would be computed again for every
  convolution and every gradient, 37 times in a ResNet20. A barrier keeps what a convolution reads
  an array of its own. XLA removes barriers before it fuses, unless told not to: `keep_barriers`.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

_PART_BYTES = 2**20  # of images at once in the gradient of a kernel: half of a usual L2 cache
_MAX_PARTS = 16  # and a rest of up to three images: each is compiled

_Convolution = Callable[..., jax.Array]


def hasten(network: nnx.Module) -> None:
    """Let the convolutions of a network be `convolve`, in place, but those that have their own."""
    for _, module in nnx.iter_graph(network):
        plain = isinstance(module, nnx.Conv)
        if plain and module.conv_general_dilated is jax.lax.conv_general_dilated:
            module.conv_general_dilated = convolve


def keep_barriers() -> dict[str, str] | None:
    """``compiler_options`` for a ``jax.jit`` of training steps; None on other backends."""
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """``jax.lax.conv_general_dilated`` of what ``nnx.Conv`` passes to it, the same to rounding.

    Other backends than a CPU get just that; so do, after the barrier, convolutions with groups,
    dilation, other than two dimensions, another type of result or an empty one. Differentiable in
    reverse, as often as wanted; not by ``jax.jvp`` alone.
    """
    convolution = partial(jax.lax.conv_general_dilated, **options)
    plain = partial(convolution, window_strides=window_strides, padding=padding)
    if jax.default_backend() != "cpu":
        return plain(x, kernel)
    x = jax.lax.optimization_barrier(x)
    result = jax.eval_shape(plain, x, kernel)
    dilations = (*options.get("lhs_dilation", ()), *options.get("rhs_dilation", ()))
    of_images = kernel.ndim == 4 and options.get("feature_group_count", 1) == 1
    if not of_images or {*dilations} - {1} or result.dtype != x.dtype or not result.size * x.size:
        return plain(x, kernel)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], window_strides, padding)
    strides, padding = tuple(window_strides), tuple(map(tuple, padding))

    def forward(x, kernel):
        if strides == (1, 1):
            return _outputs_together(convolution, x, kernel, padding)
        return convolution(x, kernel, strides, padding)

    def backward(saved, gradient):
        x, kernel = saved
        gradient = jax.lax.optimization_barrier(gradient)
        if strides == (1, 1):
            # The gradient convolved with the kernel turned around, inputs and outputs exchanged.
            turned = kernel[::-1, ::-1].swapaxes(2, 3)
            sizes = zip(kernel.shape[:2], padding, strict=True)
            beyond = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in sizes)
            of_x = _outputs_together(convolution, gradient, turned, beyond)
        else:
            of_x = jax.linear_transpose(lambda x: plain(x, kernel), x)(gradient)[0]
        return of_x, _kernel_gradient(plain, x, kernel, gradient)

    convolved = jax.custom_vjp(forward)
    convolved.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), backward)
    return convolved(x, kernel)


def _outputs_together(
    convolution: _Convolution, x: jax.Array, kernel: jax.Array, padding: Any
) -> jax.Array:
    """A convolution of stride 1, m neighbouring outputs of a row at a time."""
    _, kernel_width, inputs, outputs = kernel.shape
    width = x.shape[2] + sum(padding[1]) - kernel_width + 1
    m = (64 if inputs < 8 else 32) // outputs if inputs <= 16 else 1
    while m > 1 and width % m:
        m -= 1
    if m <= 1:
        return convolution(x, kernel, (1, 1), padding)
    # The window of output i begins i pixels later.
    shifted = [jnp.pad(kernel, ((0, 0), (i, m - 1 - i), (0, 0), (0, 0))) for i in range(m)]
    y = convolution(x, jnp.concatenate(shifted, 3), (1, m), padding)
    return y.reshape(*y.shape[:2], width, outputs)


def _kernel_gradient(
    convolution: _Convolution, x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    """The gradient by the kernel: the sum over parts of the images."""

    def of_part(x, gradient):
        return jax.linear_transpose(lambda kernel: convolution(x, kernel), kernel)(gradient)[0]

    images = len(x)
    if kernel.shape[:2] == (1, 1):  # a product, which minds neither
        return of_part(x, gradient)
    fitting = _PART_BYTES * images // x.nbytes
    fewest = -(-images // (4 * _MAX_PARTS))
    part = 4 * max(fitting // 4, fewest)
    fours = images - images % 4
    cuts = [*range(0, fours, part), fours, images]
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    parts = [of_part(x[a:b], gradient[a:b]).astype(wide) for a, b in pairwise(cuts) if a < b]
    return sum(parts[1:], start=parts[0]).astype(kernel.dtype)

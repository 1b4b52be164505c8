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

from leepjax.metrics.platform import target

_PART_BYTES = 2**20  # of images at once in the gradient of a kernel: half of a usual L2 cache
_MAX_PARTS = 16  # and a rest of up to three images: each is compiled

_NHWC = ("NHWC", "HWIO", "NHWC")
_Convolution = Callable[..., jax.Array]


def use_fast_convolutions(network: nnx.Module) -> None:
    """Let the convolutions of a network be `convolve`, in place, but those that have their own."""
    for _, module in nnx.iter_graph(network):
        plain = isinstance(module, nnx.Conv)
        if plain and module.conv_general_dilated is jax.lax.conv_general_dilated:
            module.conv_general_dilated = convolve


def keep_barriers(platform: str) -> dict[str, str] | None:
    """``compiler_options`` for a ``jax.jit`` of training steps for a CPU; None for others."""
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if platform == "cpu" else None


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """``jax.lax.conv_general_dilated`` of what ``nnx.Conv`` passes to it, the same to rounding.

    Other backends than a CPU get just that; so do, after the barrier, convolutions with groups,
    dilation, other than two dimensions, another type of result or an empty one. Differentiable in
    reverse, as often as wanted; not by ``jax.jvp`` alone.
    """
    plain = partial(
        jax.lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )
    # jax 0.7 cannot batch the gradients of its own in shard_map; those below it can.
    if not _on_cpu() and jax.__version_info__ >= (0, 8):
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
    convolution = partial(jax.lax.conv_general_dilated, precision=options.get("precision"))

    def forward(x, kernel):
        if strides == (1, 1):
            return _outputs_together(convolution, x, kernel, padding)
        return convolution(x, kernel, strides, padding, dimension_numbers=_NHWC)

    def backward(saved, gradient):
        x, kernel = saved
        gradient = jax.lax.optimization_barrier(gradient)
        of_x = _image_gradient(convolution, x.shape, kernel, gradient, strides, padding)
        return of_x, _kernel_gradient(convolution, x, kernel, gradient, strides, padding)

    convolved = jax.custom_vjp(forward)
    convolved.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), backward)
    return convolved(x, kernel)


def _on_cpu() -> bool:
    return target() == "cpu"


def _outputs_together(
    convolution: _Convolution, x: jax.Array, kernel: jax.Array, padding: Any
) -> jax.Array:
    """A convolution of stride 1, m neighbouring outputs of a row at a time."""
    _, kernel_width, inputs, outputs = kernel.shape
    width = x.shape[2] + sum(padding[1]) - kernel_width + 1
    m = (64 if inputs < 8 else 32) // outputs if inputs <= 16 and _on_cpu() else 1
    while m > 1 and width % m:
        m -= 1
    if m <= 1:
        return convolution(x, kernel, (1, 1), padding, dimension_numbers=_NHWC)
    # The window of output i begins i pixels later.
    shifted = [jnp.pad(kernel, ((0, 0), (i, m - 1 - i), (0, 0), (0, 0))) for i in range(m)]
    wide = jnp.concatenate(shifted, 3)
    y = convolution(x, wide, (1, m), padding, dimension_numbers=_NHWC)
    return y.reshape(*y.shape[:2], width, outputs)


def _spread(gradient: jax.Array, strides: tuple[int, ...]) -> list[int]:
    """Height and width of a gradient with strides - 1 zeros between its pixels."""
    return [s * (size - 1) + 1 for s, size in zip(strides, gradient.shape[1:3], strict=True)]


def _image_gradient(
    convolution: _Convolution,
    shape: tuple[int, ...],
    kernel: jax.Array,
    gradient: jax.Array,
    strides: tuple[int, ...],
    padding: Any,
) -> jax.Array:
    """The gradient, spread out by the strides, convolved with the kernel turned around."""
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    spread = _spread(gradient, strides)
    beyond = [
        (kernel.shape[i] - 1 - padding[i][0], shape[1 + i] + padding[i][0] - spread[i])
        for i in range(2)
    ]
    if strides == (1, 1):
        return _outputs_together(convolution, gradient, turned, beyond)
    options = {"lhs_dilation": strides, "dimension_numbers": _NHWC}
    return convolution(gradient, turned, (1, 1), beyond, **options)


def _kernel_gradient(
    convolution: _Convolution,
    x: jax.Array,
    kernel: jax.Array,
    gradient: jax.Array,
    strides: tuple[int, ...],
    padding: Any,
) -> jax.Array:
    """The images, as channels, convolved with the gradient, spread out; in parts, summed."""
    spread = _spread(gradient, strides)
    beyond = [
        (low, kernel.shape[i] - 1 + spread[i] - x.shape[1 + i] - low)
        for i, (low, _) in enumerate(padding)
    ]

    def of_part(x, gradient):
        options = {"rhs_dilation": strides, "dimension_numbers": ("CHWN", "IHWO", "HWNC")}
        return convolution(x, gradient, (1, 1), beyond, **options)

    images = len(x)
    if kernel.shape[:2] == (1, 1) or not _on_cpu():  # a product, which minds neither
        return of_part(x, gradient)
    fitting = _PART_BYTES * images // x.nbytes
    fewest = -(-images // (4 * _MAX_PARTS))
    part = 4 * max(fitting // 4, fewest)
    fours = images - images % 4
    cuts = [*range(0, fours, part), fours, images]
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    parts = [of_part(x[a:b], gradient[a:b]).astype(wide) for a, b in pairwise(cuts) if a < b]
    return sum(parts[1:], start=parts[0]).astype(kernel.dtype)

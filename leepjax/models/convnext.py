"""ConvNeXt.

Z. Liu, H. Mao, C.-Y. Wu, C. Feichtenhofer, T. Darrell, S. Xie: A ConvNet for the 2020s, CVPR 2022.
Stochastic depth is left out: networks come here trained.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

SIZE = 7  # of the kernels
EPSILON = 1e-6  # of every normalisation but the last, which libraries set apart

_LECUN_NORMAL = nnx.initializers.lecun_normal()


def _norm(width: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


def _patches(inputs: int, outputs: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs, outputs, kernel_size=(size, size), strides=size, padding="VALID", rngs=rngs
    )


class Depthwise(nnx.Module):
    """7×7 convolution of each channel by itself.

    As a sum of 49 shifted images, which XLA makes one loop of: on a CPU its own convolution by
    groups takes about 15 times as long, and its gradient 4 times.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_LECUN_NORMAL(rngs.params(), (SIZE, SIZE, 1, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, h, w, width]``, before and after; zeros beyond the edges."""
        h, w = x.shape[1:3]
        margin = SIZE // 2
        x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        kernel = self.kernel[...]
        shifted = (
            x[:, row : row + h, column : column + w] * kernel[row, column, 0]
            for row in range(SIZE)
            for column in range(SIZE)
        )
        return sum(shifted, start=self.bias[...])


class Block(nnx.Module):
    """7×7 convolution by channel, normalised; two dense layers around GELU; scaled and added."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv = Depthwise(width, rngs=rngs)
        self.norm = _norm(width, EPSILON, rngs)
        self.fc1 = nnx.Linear(width, 4 * width, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, rngs=rngs)
        self.gamma = nnx.Param(jnp.ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, h, w, width]``, before and after."""
        y = nnx.gelu(self.fc1(self.norm(self.conv(x))), approximate=False)
        return x + self.gamma[...] * self.fc2(y)


class ConvNeXt(nnx.Module):
    """Patches, stages of blocks with 2×2 patches between them, average, normalisation, head.

    ``widths`` are the channels of each stage and ``depths`` its blocks; ``epsilon`` is that of the
    last normalisation.

    Raises:
      ValueError: not as many widths as depths.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        depths: Sequence[int],
        widths: Sequence[int],
        patch: int = 4,
        epsilon: float = EPSILON,
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        if len(depths) != len(widths):
            raise ValueError(
                f"depths, widths: wanted one each for a stage, got {depths} and {widths}"
            )
        self.depths = tuple(depths)
        self.stem = _patches(channels, widths[0], patch, rngs)
        self.stem_norm = _norm(widths[0], EPSILON, rngs)
        inputs = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage > 0:
                setattr(self, f"stage{stage}_norm", _norm(inputs, EPSILON, rngs))
                setattr(self, f"stage{stage}_down", _patches(inputs, width, 2, rngs))
            for block in range(depth):
                setattr(self, f"stage{stage}_block{block}", Block(width, rngs=rngs))
            inputs = width
        self.head_norm = _norm(inputs, epsilon, rngs)
        self.head = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, widths[-1]]``, normalised, and logits ``[n, num_classes]``.

        ``x`` is ``[n, h, w, channels]``; ``train`` changes nothing.
        """
        del train
        x = self.stem_norm(self.stem(x))
        for stage, depth in enumerate(self.depths):
            if stage > 0:
                x = getattr(self, f"stage{stage}_down")(getattr(self, f"stage{stage}_norm")(x))
            for block in range(depth):
                x = getattr(self, f"stage{stage}_block{block}")(x)
        features = self.head_norm(x.mean(axis=(1, 2)))
        return features, self.head(features)

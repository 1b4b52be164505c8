"""Residual networks of ImageNet's size: ResNet-18, 34, 50 and their deeper relatives.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016. As
PyTorch's libraries have them: the bottleneck strides in its 3×3 convolution ("v1.5"), the article's
in its first.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from leepjax.models.batch_norm import BatchNorm

EXPANSION = 4  # outputs of a bottleneck for each channel of its 3×3 convolution


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    # Padding is written out: "SAME" with stride 2 pads only the far edge of an even image.
    return nnx.Conv(
        inputs,
        outputs,
        kernel_size=(size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        rngs=rngs,
    )


def _norm(width: int, rngs: nnx.Rngs) -> BatchNorm:
    return BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)


class Block(nnx.Module):
    """Two 3×3 convolutions, or 1×1, 3×3, 1×1, around a shortcut.

    The shortcut is a strided 1×1 convolution where width or size change, else the identity.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        bottleneck: bool,
        stride_first: bool,
        rngs: nnx.Rngs,
    ):
        inner = width // EXPANSION if bottleneck else width
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        strided = 0 if stride_first or not bottleneck else 1
        self.layers = len(sizes)
        self.projects = stride != 1 or inputs != width
        before = inputs
        for i, size in enumerate(sizes):
            after = width if i == len(sizes) - 1 else inner
            conv = _conv(before, after, size, stride if i == strided else 1, rngs)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", _norm(after, rngs))
            before = after
        if self.projects:
            self.shortcut_conv = _conv(inputs, width, 1, stride, rngs)
            self.shortcut_bn = _norm(width, rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """``[n, h, w, inputs]`` to ``[n, h / stride, w / stride, width]``."""
        y = x
        for i in range(1, self.layers + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y), use_running_average=not train)
            y = nnx.relu(y) if i < self.layers else y
        if self.projects:
            x = self.shortcut_bn(self.shortcut_conv(x), use_running_average=not train)
        return nnx.relu(y + x)


class ImageNetResNet(nnx.Module):
    """7×7 convolution and maximum, both with stride 2; stages of blocks; average; linear head.

    ``widths`` are the channels that each stage puts out and ``depths`` its blocks; all stages but
    the first start with stride 2. ``stride_first`` is where a bottleneck strides: in its first
    convolution, not in the 3×3 one.

    Raises:
      ValueError: not as many widths as depths.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        bottleneck: bool,
        depths: Sequence[int],
        widths: Sequence[int],
        stem: int = 64,
        stride_first: bool = False,
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        if len(depths) != len(widths):
            raise ValueError(
                f"depths, widths: wanted one each for a stage, got {depths} and {widths}"
            )
        self.depths = tuple(depths)
        self.conv = _conv(channels, stem, 7, 2, rngs)
        self.bn = _norm(stem, rngs)
        inputs = stem
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for block in range(depth):
                module = Block(
                    inputs,
                    width,
                    2 if stage > 0 and block == 0 else 1,
                    bottleneck=bottleneck,
                    stride_first=stride_first,
                    rngs=rngs,
                )
                setattr(self, f"stage{stage}_block{block}", module)
                inputs = width
        self.head = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, widths[-1]]`` and logits ``[n, num_classes]`` of ``[n, h, w, channels]``.

        ``train`` normalises by the batch and updates the running averages; otherwise the running
        averages normalise.
        """
        x = nnx.relu(self.bn(self.conv(x), use_running_average=not train))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # what a ReLU put out is at least zero
        x = nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2))
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                x = getattr(self, f"stage{stage}_block{block}")(x, train=train)
        features = x.mean(axis=(1, 2))
        return features, self.head(features)

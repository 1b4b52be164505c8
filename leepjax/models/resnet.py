"""CIFAR-style residual networks, the source models of the LEEP paper's CIFAR-10 experiments.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016,
section 4.2.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from leepjax.models.batch_norm import BatchNorm

DEPTHS = (20, 32, 44, 56)
WIDTHS = (16, 32, 64)

# One object for all layers: two networks built alike then have equal graphdefs, and share one
# compilation.
_HE_NORMAL = nnx.initializers.he_normal()


def _conv(inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    # Padding is written out: "SAME" with stride 2 pads only the far edge of an even image.
    return nnx.Conv(
        inputs,
        outputs,
        kernel_size=(3, 3),
        strides=stride,
        padding=1,
        use_bias=False,
        kernel_init=_HE_NORMAL,
        rngs=rngs,
    )


def _norm(width: int, rngs: nnx.Rngs) -> BatchNorm:
    return BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)


def option_a(x: jax.Array, width: int, stride: int) -> jax.Array:
    """The parameter-free shortcut: every ``stride``-th pixel, channels padded with zeros.

    Args:
      x: ``[n, h, w, c]`` with ``c <= width``.
      width: channels of the result; the zeros go half before and half after the ``c`` channels.
      stride: 1 or 2.

    Returns:
      ``[n, ceil(h / stride), ceil(w / stride), width]``.
    """
    missing = width - x.shape[-1]
    before = missing // 2
    strided = x[:, ::stride, ::stride]
    return jnp.pad(strided, ((0, 0), (0, 0), (0, 0), (before, missing - before)))


class Block(nnx.Module):
    """Two 3×3 convolutions around an option-A shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.width = width
        self.stride = stride
        self.conv1 = _conv(inputs, width, stride, rngs)
        self.bn1 = _norm(width, rngs)
        self.conv2 = _conv(width, width, 1, rngs)
        self.bn2 = _norm(width, rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """``[n, h, w, inputs]`` to ``[n, h / stride, w / stride, width]``."""
        y = nnx.relu(self.bn1(self.conv1(x), use_running_average=not train))
        y = self.bn2(self.conv2(y), use_running_average=not train)
        return nnx.relu(y + option_a(x, self.width, self.stride))


class ResNet(nnx.Module):
    """ResNet of 20, 32, 44 or 56 layers for small images.

    One 3×3 convolution, three stages of ``(depth - 2) / 6`` blocks with 16, 32 and 64 channels,
    the second and third starting with stride 2, global average pooling, one linear layer.

    Raises:
      ValueError: another depth.
    """

    def __init__(self, depth: int, num_classes: int, *, channels: int = 3, rngs: nnx.Rngs):
        if depth not in DEPTHS:
            raise ValueError(f"depth: wanted one of {DEPTHS}, got {depth}")
        self.blocks_per_stage = (depth - 2) // 6
        self.conv = _conv(channels, WIDTHS[0], 1, rngs)
        self.bn = _norm(WIDTHS[0], rngs)
        inputs = WIDTHS[0]
        # Attributes by name and not a list: only newer versions of Flax know nnx.List, and string
        # keys all the way down are what checkpoints keep.
        for stage, width in enumerate(WIDTHS):
            for block in range(self.blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                module = Block(inputs, width, stride, rngs=rngs)
                setattr(self, f"stage{stage + 1}_block{block}", module)
                inputs = width
        self.head = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, 64]`` and logits ``[n, num_classes]`` of images ``[n, h, w, channels]``.

        ``train`` normalises by the batch and updates the running averages; otherwise the running
        averages normalise.
        """
        features = self.stages(x, train=train)[-1].mean(axis=(1, 2))
        return features, self.head(features)

    def stages(self, x: jax.Array, *, train: bool = False) -> list[jax.Array]:
        """What the first convolution and each of the three stages give, ``[n, h, w, c]``."""
        x = nnx.relu(self.bn(self.conv(x), use_running_average=not train))
        outputs = [x]
        for stage in range(len(WIDTHS)):
            for block in range(self.blocks_per_stage):
                x = getattr(self, f"stage{stage + 1}_block{block}")(x, train=train)
            outputs.append(x)
        return outputs

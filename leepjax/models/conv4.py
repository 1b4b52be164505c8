"""Four convolutional blocks, the small network of few-shot learning.

O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: Matching Networks for One Shot
Learning, NeurIPS 2016, which pools by maxima. Striding instead of pooling, as C. Finn, P. Abbeel,
S. Levine (Model-Agnostic Meta-Learning, ICML 2017) do for Omniglot, is several times faster on a
CPU.
"""

from typing import Literal

import jax
from flax import nnx

from leepjax.models.batch_norm import BatchNorm

_STRIDES = {"stride": (2, 2, 2, 1), "max": (1, 1, 1, 1)}
_MIN_SIZE_POOLED = 16  # four halvings


class Conv4(nnx.Module):
    """Four times 3×3 convolution, batch normalisation, ReLU; global average pooling; linear head.

    ``pooling="stride"`` halves the image in the first three convolutions; ``"max"`` halves it by
    2×2 maxima after every block and so wants images of at least 16×16.

    Raises:
      ValueError: another pooling, or (when called) an image too small for ``"max"``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 1,
        width: int = 64,
        pooling: Literal["stride", "max"] = "stride",
        rngs: nnx.Rngs,
    ):
        if pooling not in _STRIDES:
            raise ValueError(f"pooling: wanted one of {sorted(_STRIDES)}, got {pooling!r}")
        self.pooling = pooling
        inputs = channels
        for layer, stride in enumerate(_STRIDES[pooling], start=1):
            conv = nnx.Conv(
                inputs,
                width,
                kernel_size=(3, 3),
                strides=stride,
                padding=1,
                use_bias=False,  # the normalisation's own shift follows
                rngs=rngs,
            )
            setattr(self, f"conv{layer}", conv)
            setattr(self, f"bn{layer}", BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs))
            inputs = width
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, width]`` and logits ``[n, num_classes]`` of ``[n, h, w, channels]``.

        ``train`` normalises by the batch and updates the running averages; otherwise the running
        averages normalise.
        """
        features = self.stages(x, train=train)[-1].mean(axis=(1, 2))
        return features, self.head(features)

    def stages(self, x: jax.Array, *, train: bool = False) -> list[jax.Array]:
        """What each of the four blocks gives, ``[n, h, w, width]``."""
        if self.pooling == "max" and min(x.shape[1:3]) < _MIN_SIZE_POOLED:
            raise ValueError(
                f"x: wanted images of at least {_MIN_SIZE_POOLED}×{_MIN_SIZE_POOLED} for "
                f'pooling="max", got {x.shape[1]}×{x.shape[2]}; use pooling="stride"'
            )
        outputs = []
        for layer in range(1, 5):
            x = getattr(self, f"conv{layer}")(x)
            x = nnx.relu(getattr(self, f"bn{layer}")(x, use_running_average=not train))
            if self.pooling == "max":
                x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            outputs.append(x)
        return outputs

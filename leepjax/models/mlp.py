"""Fully connected network: the smallest source model, and a linear one with ``depth=0``."""

import jax
from flax import nnx


class MLP(nnx.Module):
    """``depth`` hidden layers of ``width`` ReLU units over the flattened image; linear head.

    ``inputs`` is the number of values in one image, ``h * w * channels``. There is no
    normalisation, so ``train`` changes nothing.

    Raises:
      ValueError: (when called) an image with another number of values.
    """

    def __init__(
        self, num_classes: int, *, inputs: int, width: int = 256, depth: int = 2, rngs: nnx.Rngs
    ):
        self.inputs = inputs
        self.depth = depth
        size = inputs
        for layer in range(1, depth + 1):
            setattr(self, f"hidden{layer}", nnx.Linear(size, width, rngs=rngs))
            size = width
        self.head = nnx.Linear(size, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, width]`` and logits ``[n, num_classes]`` of ``[n, h, w, channels]``."""
        del train
        x = x.reshape(x.shape[0], -1)
        if x.shape[1] != self.inputs:
            raise ValueError(f"x: wanted {self.inputs} values an image, got {x.shape[1]}")
        for layer in range(1, self.depth + 1):
            x = nnx.relu(getattr(self, f"hidden{layer}")(x))
        return x, self.head(x)

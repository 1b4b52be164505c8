"""Images on a device, a row of bytes each."""

import dataclasses
from functools import partial

import jax
import numpy as np


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class Pixels:
    """The images of a bank, to be drawn by index inside a program.

    A TPU would lay bytes ``[n, h, w, channels]`` out anew, all of them, in every step that draws a
    batch; rows of bytes it takes as they are.

    Attributes:
      rows: ``[n, h * w * channels]`` uint8.
      shape: ``(h, w, channels)``.

    Example:
      >>> import numpy as np
      >>> pixels = Pixels.of(np.zeros((100, 28, 28, 1), np.uint8))
      >>> pixels[np.array([[3, 5], [7, 7]])].shape
      (2, 2, 28, 28, 1)
    """

    rows: jax.Array | np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, images: jax.Array | np.ndarray) -> "Pixels":
        """Those of images ``[n, h, w, channels]``."""
        return cls(images.reshape(len(images), -1), images.shape[1:])

    def __getitem__(self, index: jax.Array | np.ndarray):
        """The images at ``index [...]``: ``[..., h, w, channels]``."""
        return self.rows[index].reshape(*index.shape, *self.shape)

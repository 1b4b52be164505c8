"""From the bytes of a bank to what a network was trained on."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Pure function from uint8 images to a network's input; static, so it runs inside jitted code.

    Attributes:
      size: height and width of the result in pixels. Smaller images are zero-padded on all sides;
        larger ones are first shrunk, keeping their aspect, until the longer side fits.
      channels: grey images are repeated to it; colour is averaged where it is 1.
      mean: per channel, subtracted from values in ``[0, 1]``; padded pixels count as 0 before it.
      std: per channel, what is then divided by.

    Raises:
      ValueError: size or channels below 1, or mean and std that are not one value per channel.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        for name in ("size", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: wanted at least 1, got {getattr(self, name)}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"{name}: wanted {self.channels} values, one per channel, "
                    f"got {getattr(self, name)}"
                )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Float32 ``[n, size, size, channels]`` from uint8 ``[n, h, w, c]``.

        Raises:
          ValueError: images of another rank or dtype, or whose channels cannot become
            ``channels``.
        """
        if images.ndim != 4 or images.dtype != jnp.uint8:
            raise ValueError(
                "images: wanted uint8 [n, h, w, channels], "
                f"got {images.dtype} {list(images.shape)}; scale to 0..255 and cast"
            )
        x = _to_size(_to_channels(images / jnp.float32(255), self.channels), self.size)
        mean, std = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.std, x.dtype)
        return (x - mean) / std


def _to_channels(x: jax.Array, channels: int) -> jax.Array:
    if x.shape[-1] == channels:
        return x
    if channels == 1:
        return x.mean(axis=-1, keepdims=True)
    if x.shape[-1] == 1:
        return jnp.repeat(x, channels, axis=-1)
    raise ValueError(f"images: wanted 1 or {channels} channels, got {x.shape[-1]}")


def _to_size(x: jax.Array, size: int) -> jax.Array:
    n, h, w, c = x.shape
    longer = max(h, w)
    if longer > size:
        h, w = (max(1, round(side * size / longer)) for side in (h, w))
        x = jax.image.resize(x, (n, h, w, c), "linear", antialias=True)
    pads = [((size - side) // 2, size - side - (size - side) // 2) for side in (h, w)]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))

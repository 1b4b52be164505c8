"""Random flips and crops of a batch, inside jitted code."""

import jax
import jax.numpy as jnp


def augment(key: jax.Array, images: jax.Array, *, flip: bool, crop: int) -> jax.Array:
    """Each image of ``[n, h, w, c]`` mirrored left to right or not, and moved within zero padding.

    Args:
      key: typed JAX key.
      images: any dtype; zero is black.
      flip: mirror each with probability one half.
      crop: move each by up to so many pixels up or down, and left or right.
    """
    flip_key, crop_key = jax.random.split(key)
    n, h, w, c = images.shape
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (n, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if crop:
        padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        corners = jax.random.randint(crop_key, (n, 2), 0, 2 * crop + 1)

        def cut(image, corner):
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (h, w, c))

        images = jax.vmap(cut)(padded, corners)
    return images

"""Vision transformers.

A. Dosovitskiy et al.: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale,
ICLR 2021. Dropout is left out: networks come here trained.
"""

import jax
import jax.numpy as jnp
from flax import nnx


def layer_norm(width: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Normalisation of each token, its variance computed the exact way."""
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """Self-attention, then two dense layers around GELU; each normalises first and is added."""

    def __init__(
        self, width: int, heads: int, hidden: int, epsilon: float, bias: bool, *, rngs: nnx.Rngs
    ):
        self.heads = heads
        self.norm1 = layer_norm(width, epsilon, rngs)
        self.qkv = nnx.Linear(width, 3 * width, use_bias=bias, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        self.norm2 = layer_norm(width, epsilon, rngs)
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, tokens, width]``, before and after."""
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        mixed = jax.nn.dot_product_attention(*jnp.unstack(qkv, axis=2))
        x = x + self.proj(mixed.reshape(x.shape))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    """Patches as tokens, one more for the class, positions added; blocks; normalisation; head.

    Raises:
      ValueError: a size that patches do not divide, or a width that heads do not; (when called)
        images of another size than the positions are for.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        epsilon: float = 1e-6,
        bias: bool = True,
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        if size % patch or width % heads:
            raise ValueError(
                f"size, width: wanted multiples of patch and heads, got {size} for patches of "
                f"{patch} and {width} for {heads} heads"
            )
        self.size, self.depth = size, depth
        self.patch = nnx.Conv(
            channels, width, kernel_size=(patch, patch), strides=patch, padding="VALID", rngs=rngs
        )
        self.cls_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.position = nnx.Param(jnp.zeros((1, (size // patch) ** 2 + 1, width)))
        for i in range(depth):
            setattr(self, f"block{i}", Block(width, heads, hidden, epsilon, bias, rngs=rngs))
        self.norm = layer_norm(width, epsilon, rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, width]``, the normalised class token, and logits ``[n, num_classes]``.

        ``x`` is ``[n, size, size, channels]``; ``train`` changes nothing.
        """
        del train
        if x.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"x: wanted images of {self.size}×{self.size}, which the positions are for, got "
                f"{x.shape[1]}×{x.shape[2]}"
            )
        x = self.patch(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        token = jnp.broadcast_to(self.cls_token[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.position[...]
        for i in range(self.depth):
            x = getattr(self, f"block{i}")(x)
        features = self.norm(x[:, 0])
        return features, self.head(features)

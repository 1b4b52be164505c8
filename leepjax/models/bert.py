"""The BERT family: encoders of texts, every layer's states, pooled by the mask of tokens.

J. Devlin, M. Chang, K. Lee, K. Toutanova: BERT, NAACL 2019. RoBERTa (Y. Liu et al., 2019),
DistilBERT (V. Sanh, L. Debut, J. Chaumond, T. Wolf, 2019), ELECTRA (K. Clark, M. Luong, Q. Le,
C. Manning, ICLR 2020) and MiniLM (W. Wang et al., NeurIPS 2020) are the same network. Dropout is
left out: networks come here trained.
"""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from leepjax.models.vit import layer_norm

Pooling = Literal["mean", "cls", "first", "last"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
ACTIVATIONS = {
    "gelu": partial(nnx.gelu, approximate=False),
    "gelu_new": nnx.gelu,
    "gelu_pytorch_tanh": nnx.gelu,
    "relu": nnx.relu,
    "silu": nnx.silu,
    "tanh": nnx.tanh,
}


def pool(states: jax.Array, present: jax.Array, pooling: str) -> jax.Array:
    """``[n, d]``: the states of a text's tokens as one vector.

    Args:
      states: ``[n, length, d]``.
      present: ``[n, length]`` bool, where there is a token; padding may be on either side.
      pooling: ``"mean"`` of the tokens; the ``"first"`` of them, which is ``"cls"`` in this family;
        or the ``"last"``.
    """
    if pooling == "mean":
        weights = present / jnp.maximum(present.sum(1, keepdims=True), 1)
        return jnp.einsum("nld,nl->nd", states, weights, precision="highest")
    last = present.shape[1] - 1 - present[:, ::-1].argmax(1)
    at = last if pooling == "last" else present.argmax(1)
    return jnp.take_along_axis(states, at[:, None, None], axis=1)[:, 0]


class Block(nnx.Module):
    """Self-attention, then two dense layers; each is added, then normalised."""

    def __init__(
        self, width: int, heads: int, hidden: int, epsilon: float, act: str, *, rngs: nnx.Rngs
    ):
        self.heads, self.act = heads, act
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        self.norm1 = layer_norm(width, epsilon, rngs)
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)
        self.norm2 = layer_norm(width, epsilon, rngs)

    def __call__(self, x: jax.Array, present: jax.Array) -> jax.Array:
        """``[n, length, width]``, before and after; no token attends to padding."""
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads)
        mask = present[:, None, None, :]
        mixed = jax.nn.dot_product_attention(*jnp.unstack(qkv, axis=2), mask=mask)
        x = self.norm1(x + self.proj(mixed.reshape(x.shape)))
        return self.norm2(x + self.fc2(ACTIVATIONS[self.act](self.fc1(x))))


class Bert(nnx.Module):
    """Words, positions and types added and normalised; blocks; pooling; head.

    Args:
      num_classes: number of logits.
      vocabulary: number of tokens.
      positions: number of positions, of which the first text token has ``offset``.
      types: number of the kinds of tokens (first text, second text); 0: none.
      width: of the states.
      embedding: width of words and positions, which are projected where it is another.
      depth: number of blocks.
      heads: of attention.
      hidden: width between the two dense layers of a block.
      epsilon: of normalisation.
      act: a name in ``ACTIVATIONS``.
      offset: of positions.
      pooling: from tokens to features; None: as the library's classifier has it, a dense layer
        with ``head_act`` on the first token.
      head_act: a name in ``ACTIVATIONS``.

    Raises:
      ValueError: a width that heads do not divide.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        vocabulary: int,
        positions: int,
        types: int,
        width: int,
        embedding: int,
        depth: int,
        heads: int,
        hidden: int,
        epsilon: float,
        act: str,
        offset: int,
        pooling: str | None,
        head_act: str,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"width: wanted a multiple of {heads} heads, got {width}")
        self.depth, self.types, self.offset = depth, types, offset
        self.pooling, self.head_act = pooling, head_act
        self.words = nnx.Embed(vocabulary, embedding, rngs=rngs)
        self.positions = nnx.Embed(positions, embedding, rngs=rngs)
        if types:
            self.kinds = nnx.Embed(types, embedding, rngs=rngs)
        self.norm = layer_norm(embedding, epsilon, rngs)
        self.projected = embedding != width
        if self.projected:
            self.project = nnx.Linear(embedding, width, rngs=rngs)
        for i in range(depth):
            setattr(self, f"block{i}", Block(width, heads, hidden, epsilon, act, rngs=rngs))
        if pooling is None:
            self.dense = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def states(self, x: jax.Array) -> list[jax.Array]:
        """``[n, length, width]`` of the embeddings and after each block.

        ``x`` is ``[n, length, 3]`` int32: the token, its type, and 1, or 0 where there is padding.
        """
        present = x[..., 2] > 0
        # Counted over tokens alone, so that padding on the left moves no position.
        at = jnp.maximum(jnp.cumsum(x[..., 2], axis=1) - 1, 0) + self.offset
        state = self.words(x[..., 0]) + self.positions(at)
        if self.types:
            state = state + self.kinds(jnp.minimum(x[..., 1], self.types - 1))
        state = self.norm(state)
        states = [self.project(state) if self.projected else state]
        for i in range(self.depth):
            states.append(getattr(self, f"block{i}")(states[-1], present))
        return states

    def layers(self, x: jax.Array) -> list[jax.Array]:
        """``[n, width]`` of the embeddings and after each block: the states, pooled."""
        pooling = self.pooling or "first"
        return [pool(state, x[..., 2] > 0, pooling) for state in self.states(x)]

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Features ``[n, width]`` and logits ``[n, num_classes]``; ``train`` changes nothing."""
        del train
        features = pool(self.states(x)[-1], x[..., 2] > 0, self.pooling or "first")
        if self.pooling is None:
            features = ACTIVATIONS[self.head_act](self.dense(features))
        return features, self.head(features)

"""A tiny network and a tiny bank that the tests of meta-learners share."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from leepjax.data import Bank, Dataset
from leepjax.meta import Episodes, Meta
from leepjax.models import Preprocess, make_source
from leepjax.models.batch_norm import BatchNorm

SIZE, WAYS = 12, 3
NAMES = tuple("abcdefgh")


def normal(key, shape, dtype, *_, **__):
    """An initialiser by NumPy: JAX's compile a program for every shape."""
    return jnp.asarray(np.random.default_rng(np.prod(shape)).normal(0, 0.3, shape), dtype)


class Small(nnx.Module):
    """Two of Conv4's layers, the third among them, whose channels CAVIA scales."""

    def __init__(self, width, rngs):
        options = {"kernel_init": normal, "rngs": rngs}
        for name, inputs in (("1", 1), ("3", width)):
            conv = nnx.Conv(inputs, width, (3, 3), 2, padding=1, use_bias=False, **options)
            setattr(self, "conv" + name, conv)
            setattr(self, "bn" + name, BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs))
        self.head = nnx.Linear(width, len(NAMES), **options)

    def __call__(self, x, *, train=False):
        for conv, bn in ((self.conv1, self.bn1), (self.conv3, self.bn3)):
            x = nnx.relu(bn(conv(x), use_running_average=not train))
        features = x.mean((1, 2))
        return features, self.head(features)


@cache
def source(width=4, network=Small):
    module = network(width=width, rngs=nnx.Rngs(0))
    return make_source(module, Preprocess(SIZE, 1, (0.5,), (0.5,)), NAMES)


def bank(per_class=8, seed=0, groups=2):
    """Classes that can be told apart: a pattern of their own, and noise."""
    patterns = np.random.default_rng(9).random((len(NAMES), SIZE, SIZE, 1))
    labels = np.repeat(np.arange(len(NAMES), dtype=np.int32), per_class)
    noise = np.random.default_rng(seed).random((len(labels), SIZE, SIZE, 1))
    images = np.round(255 * (0.7 * patterns[labels] + 0.3 * noise)).astype(np.uint8)
    names = tuple(f"group {g}" for g in range(groups))
    return Bank(images, labels, (labels % groups).astype(np.int32), NAMES, names)


def dataset():
    return Dataset(bank(), bank(seed=1))


def some_episodes(number=2, shots=3, queries=2, seed=0):
    rng = np.random.default_rng(seed)

    def part(each):
        images = rng.integers(0, 256, (number, each * WAYS, SIZE, SIZE, 1), dtype=np.uint8)
        return jnp.asarray(images), jnp.tile(jnp.arange(WAYS), (number, each))

    return Episodes(*part(shots), *part(queries), jnp.tile(jnp.arange(WAYS), (number, 1)))


def double(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)


def double_source(width=4):
    single = source(width)
    return dataclasses.replace(single, params=double(single.params), rest=double(single.rest))


def moved(meta, seed=0, size=0.05):
    """Parameters a little off where they start, all of them."""
    rng = np.random.default_rng(seed)
    step = lambda a: a + size * jnp.asarray(rng.standard_normal(a.shape), a.dtype)  # noqa: E731
    return Meta(jax.tree.map(step, meta.params), meta.fixed)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

"""Features of a task in its own units, for heads that are fitted to them.

Origin and length come from the task's support, so that whatever scale meta-training lets features
grow to, an inner rate or a penalty means the same.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Units(NamedTuple):
    """Origin ``[d]`` and length ``[]`` in which a task's features are measured."""

    mean: Any
    length: Any


def task_units(x: jax.Array) -> Units:
    """The support's mean, and the root mean square distance from it."""
    mean = x.mean(0)
    return Units(mean, jnp.sqrt(jnp.sum((x - mean) ** 2, 1).mean() + 1e-6))


def in_units(units: Units, x: jax.Array) -> jax.Array:
    """``(x - mean) / length``, whose norm is about 1."""
    return (x - units.mean) / units.length

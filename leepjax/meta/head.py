"""What learners of features share: features in a task's own units, a head fitted to them.

They embed images by the network once, outside any loop, and adapt a head alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Units(NamedTuple):
    """Origin ``[d]`` and length ``[]`` in which a task's features are measured."""

    mean: Any
    length: Any


def task_units(x: jax.Array) -> Units:
    """The support's mean, and the root mean square distance from it.

    In these units features have a norm of about 1, so that an inner rate that is stable stays so.
    """
    mean = x.mean(0)
    return Units(mean, jnp.sqrt(jnp.sum((x - mean) ** 2, 1).mean() + 1e-6))


def in_units(units: Units, x: jax.Array) -> jax.Array:
    """``(x - mean) / length``."""
    return (x - units.mean) / units.length

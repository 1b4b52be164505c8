"""What needs the samples of one class at a time: sorted by class, each takes its own rows.

So the Gram matrices of all classes cost n d^2 operations, not c times as many, and need not all be
in memory. Derivatives are those of the plain expressions, over masked rows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.metrics._sums import over_mesh

LARGE = 2**17  # elements; below, masks cost less than sorting
BLOCK = 256  # rows of one class at once


class Sorted(NamedTuple):
    """Samples by class: those of class c are ``order[bounds[c] : bounds[c + 1]]``."""

    order: jax.Array  # [n]
    bounds: jax.Array  # [c + 1]


def sort_by_class(labels: jax.Array, weights: jax.Array, num_classes: int) -> Sorted:
    """The samples of positive weight by class; the others come last."""
    keys = jnp.where(weights > 0, labels, num_classes)
    counts = jnp.bincount(keys, length=num_classes)
    bounds = jnp.concatenate([jnp.zeros(1, counts.dtype), jnp.cumsum(counts)])
    return Sorted(jnp.argsort(keys), bounds)


def take_rows(
    by_class: Sorted,
    start: jax.Array,
    end: jax.Array,
    size: int,
    g: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """``size`` rows from ``start`` on, of weight zero from ``end`` on: ``(g, weights)``."""
    rows = start + jnp.arange(size)
    index = by_class.order[jnp.minimum(rows, len(by_class.order) - 1)]
    return g[index], jnp.where(rows < end, weights[index], 0)


def gram_of_class(by_class: Sorted, c: jax.Array, g: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum of w g g^T ``[d, d]`` over the samples of class c, by blocks of rows."""
    start, end = by_class.bounds[c], by_class.bounds[c + 1]

    def add(i, gram):
        x, w = take_rows(by_class, start + i * BLOCK, end, BLOCK, g, weights)
        return gram + jnp.matmul((w[:, None] * x).T, x, precision="highest")

    zeros = jnp.zeros((g.shape[1], g.shape[1]), g.dtype)
    return jax.lax.fori_loop(0, -(-(end - start) // BLOCK), add, zeros)


def map_class_grams(
    fn: Callable[[Any, jax.Array], Any],
    g: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    per_class: Any,
) -> Any:
    """``fn(per_class[c], gram of class c)`` for each class, stacked."""
    classes = np.arange(jax.tree.leaves(per_class)[0].shape[0])  # no tracer to close over

    def masked(psum, g, labels, weights, per_class):
        @jax.checkpoint
        def of_class(c):
            mine = jnp.where(labels == c[0], weights, 0)
            return fn(c[1], psum(jnp.matmul((mine[:, None] * g).T, g, precision="highest")))

        return jax.lax.map(of_class, (classes, per_class))

    def sorted_rows(psum, g, labels, weights, per_class):
        by_class = sort_by_class(labels, weights, len(classes))
        return jax.lax.map(
            lambda c: fn(c[1], psum(gram_of_class(by_class, c[0], g, weights))),
            (classes, per_class),
        )

    if g.size < LARGE:
        return over_mesh(masked, (g, labels, weights), per_class)
    return derive_from(
        lambda *args: over_mesh(sorted_rows, args[:3], args[3]),
        partial(masked, lambda x: x),
    )(g, labels, weights, per_class)


def derive_from(fast: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """``fast``, differentiated as ``plain``, which is the same function written simply.

    Under ``vmap`` it runs one element after the other: loops whose length and branches depend on
    the data would otherwise do all that any element needs, for each.
    """
    derived = jax.custom_jvp(jax.custom_batching.sequential_vmap(fast))
    derived.defjvp(
        lambda primals, tangents: (derived(*primals), jax.jvp(plain, primals, tangents)[1])
    )
    return derived

"""Sums over samples, the one operation that touches all the data.

Every statistic that adds over samples goes through :func:`sum_over_samples`. Where the arrays are
large and the backend is a CPU it takes blocks of rows that stay in cache: a block's intermediate
arrays then cost nothing, while those of all rows are written to fresh memory, which takes ten times
as long as reading them. A TPU takes blocks where several products read the same rows: once into its
fast memory, and the program of a block compiles in a fraction of the time. Over a mesh each device
sums its own rows, and ``psum`` adds the parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from leepjax.metrics.platform import target

# Bytes of a block of rows: in the cache that is a core's own, with room for what is made of them.
BLOCK = 2**18
LARGE = 2**20  # elements; below, all rows at once
TPU_ROWS = 1024  # of a block on a TPU; products of 2,048 rows take twice as long to compile

_layout: ContextVar[NamedSharding | None] = ContextVar("layout", default=None)


def sum_over_samples(
    fn: Callable[..., Any],
    rows: tuple[jax.Array | None, ...],
    *shared: Any,
    at_once: int | None = None,
    weights: int | None = None,
) -> Any:
    """``fn(*rows, *shared)``, for an ``fn`` that adds: of all rows = the sum over parts of them.

    ``rows`` are arrays ``[n, ...]`` or None, ``shared`` pytrees of arrays that all rows need;
    ``at_once`` is how many rows a CPU takes, by default what its cache holds. ``rows[weights]`` is
    a weight; a sample whose weight is zero adds nothing. Where it is told, a TPU takes blocks too.
    The derivative is that of the plain expression, not of the loop over blocks.
    """

    def plain(rows, shared):
        return fn(*rows, *shared)

    @jax.custom_jvp
    def total(rows, shared):
        if target() == "tpu" and weights is not None:
            return _by_resident_blocks(plain, rows, shared, weights)
        return _by_blocks(plain, rows, shared, at_once)

    total.defjvp(lambda primals, tangents: (total(*primals), jax.jvp(plain, primals, tangents)[1]))
    return over_mesh(
        lambda psum, *args: psum(total(args[: len(rows)], args[len(rows) :])), rows, *shared
    )


def over_mesh(fn: Callable[..., Any], rows: tuple[jax.Array | None, ...], *shared: Any) -> Any:
    """``fn(psum, *rows, *shared)`` on each device's rows; ``psum`` adds what all devices have.

    On one device ``psum`` is the identity. The result must be the same on all of them.
    """
    layout = _layout.get()
    if layout is None:
        return fn(lambda x: x, *rows, *shared)
    axes = layout.spec[0]
    return jax.shard_map(
        partial(fn, lambda x: jax.lax.psum(x, axes)),
        mesh=layout.mesh,
        in_specs=(P(axes),) * len(rows) + (P(),) * len(shared),
        out_specs=P(),
        check_vma=False,
    )(*rows, *shared)


def is_spread() -> bool:
    """Whether rows are spread over several devices."""
    return _layout.get() is not None


def _by_blocks(plain, rows, shared, length):
    arrays = jax.tree.leaves(rows)
    n, size = len(arrays[0]), sum(x.size for x in arrays)
    length = length or max(1, BLOCK // sum(x.nbytes // n for x in arrays))
    if target() != "cpu" or size < LARGE or n <= length:
        return plain(rows, shared)

    def add_block(i, total):
        return jax.tree.map(jnp.add, total, plain(_slice(rows, i * length, length), shared))

    tail = jax.tree.map(lambda x: x[n - n % length :], rows)  # of no rows, it sums to zeros
    return jax.lax.fori_loop(0, n // length, add_block, plain(tail, shared))


def _by_resident_blocks(plain, rows, shared, weights):
    """On a TPU: the barrier keeps each product from reading its rows from the main memory."""
    n = len(rows[weights])
    if n <= TPU_ROWS:
        return plain(rows, shared)

    def block(i):
        start = jnp.minimum(i * TPU_ROWS, n - TPU_ROWS)
        some = list(jax.lax.optimization_barrier(_slice(rows, start, TPU_ROWS)))
        # The last block begins before its rows: those of the block before count once.
        fresh = start + jnp.arange(TPU_ROWS) >= i * TPU_ROWS
        some[weights] = jnp.where(fresh, some[weights], 0)
        return plain(tuple(some), shared)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(block, 0))
    return jax.lax.fori_loop(
        0, -(-n // TPU_ROWS), lambda i, total: jax.tree.map(jnp.add, total, block(i)), zeros
    )


def _slice(rows, start, length):
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, length), rows)


def by_layout(
    arrays: Mapping[str, jax.Array],
) -> tuple[dict[str, jax.Array], NamedSharding | None]:
    """The arrays, and how they are spread over several devices by their first axis, if they are.

    Meshes with explicit axes, of which JAX checks every operation, become automatic ones; nothing
    moves.
    """
    layout, placed = None, {}
    for name, x in arrays.items():
        sharding = None if isinstance(x, Tracer) else x.sharding
        if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
            mesh = Mesh(np.asarray(sharding.mesh.devices), sharding.mesh.axis_names)
            x = jax.device_put(x, NamedSharding(mesh, sharding.spec))
            if len(sharding.spec) > 0 and sharding.spec[0] is not None:
                layout = NamedSharding(mesh, P(sharding.spec[0]))
        placed[name] = x
    return placed, layout


@contextmanager
def spread(layout: NamedSharding | None) -> Iterator[None]:
    """While tracing inside, rows are spread over devices like this."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)

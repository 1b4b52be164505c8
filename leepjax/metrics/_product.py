"""Matrix products in the precision of their arrays."""

import jax
import jax.numpy as jnp

from leepjax.metrics._sums import TPU_ROWS, is_spread
from leepjax.metrics.platform import target

LONG = 4 * TPU_ROWS  # samples


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a @ b``, not rounded to bfloat16 first.

    Where samples are the rows of ``a``, or what is summed over, a TPU takes blocks of them: the
    program of all at once compiles for up to 18 s, that of a block for one or two. Its derivative
    is that of the plain product.
    """
    blocks = target() == "tpu" and not is_spread() and a.ndim == b.ndim == 2
    if blocks and a.shape[0] >= LONG:
        return _derived(_by_rows)(a, b)
    if blocks and a.shape[1] >= LONG:
        return _derived(_by_terms)(a, b)
    return _plain(a, b)


def _plain(a, b):
    return jnp.matmul(a, b, precision="highest")


def _derived(blocks):
    derived = jax.custom_jvp(blocks)
    derived.defjvp(lambda args, tangents: (derived(*args), jax.jvp(_plain, args, tangents)[1]))
    return derived


def _by_rows(a, b):
    n = len(a)

    def write(i, out):
        start = jnp.minimum(i * TPU_ROWS, n - TPU_ROWS)  # the last block may repeat some rows
        rows = _plain(jax.lax.dynamic_slice_in_dim(a, start, TPU_ROWS), b)
        return jax.lax.dynamic_update_slice_in_dim(out, rows, start, 0)

    out = jnp.zeros((n, b.shape[1]), jnp.result_type(a, b))
    return jax.lax.fori_loop(0, -(-n // TPU_ROWS), write, out)


def _by_terms(a, b):
    n, rest = a.shape[1], a.shape[1] % TPU_ROWS

    def add(i, total):
        left = jax.lax.dynamic_slice_in_dim(a, i * TPU_ROWS, TPU_ROWS, 1)
        return total + _plain(left, jax.lax.dynamic_slice_in_dim(b, i * TPU_ROWS, TPU_ROWS))

    last = _plain(a[:, n - rest :], b[n - rest :])
    return jax.lax.fori_loop(0, n // TPU_ROWS, add, last)

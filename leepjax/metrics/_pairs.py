"""Running sums that lose nothing: each array beside the part that rounding took from it.

In float32 a sum of a billion samples swallows most of a batch of a thousand. So a running sum is a
pair ``(sum, rest)`` of pytrees: what an addition rounds off is computed exactly and kept in the
rest. ``sum`` is then the total to the last digit that float32 has, whatever the number of batches
and the order in which they, or the parts of a data set, are added. Pairs also add leaf by leaf, as
``psum`` does it, which rounds once for each device; the next :func:`add_pairs` puts them in order.

XLA keeps the order of floating-point additions; a test holds it to that under ``jit``.

Source: O. Møller, "Quasi double-precision in floating point addition", BIT 1965 (two-sum);
D. Knuth, "The Art of Computer Programming", volume 2, section 4.2.2.
"""

from typing import Any

import jax
import jax.numpy as jnp


def no_rest(sums: Any) -> Any:
    """The rest of sums that nothing was rounded off yet."""
    return jax.tree.map(jnp.zeros_like, sums)


def add_pairs(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """``(sum, rest)`` of both pairs; a rest of None is zero, as of one batch."""
    sums = a[0], b[0]
    rests = (no_rest(s) if rest is None else rest for s, rest in (a, b))
    pairs = jax.tree.map(_add, *sums, *rests)
    leaves, treedef = jax.tree.flatten(pairs, is_leaf=lambda x: type(x) is tuple)
    return tuple(treedef.unflatten(part) for part in zip(*leaves, strict=True))


def _add(a: jax.Array, b: jax.Array, rest_a: jax.Array, rest_b: jax.Array) -> tuple[Any, Any]:
    total = a + b
    of_b = total - a
    lost = (a - (total - of_b)) + (b - of_b)
    rest = rest_a + rest_b + lost
    rounded = total + rest  # |rest| is far below |total|, so that what this loses is plain to see
    return rounded, rest - (rounded - total)

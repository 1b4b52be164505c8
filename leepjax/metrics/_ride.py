"""The check of probabilities that rides along with a kernel's own pass over them.

A TPU reads an array of probabilities in as long as LEEP takes for one of its two passes, so a pass
that only checks them would make it three. Its compiler does not merge it with the product that a
pass is; one reduction of several operands it does. Others check in a pass of their own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp

from leepjax.metrics._checks import improper
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import target

_offered: ContextVar["Ride | None"] = ContextVar("offered", default=None)


class Ride:
    """Probabilities ``[n, s]`` as they were given, to be checked once.

    Attributes:
      broken: how many samples broke a rule; None as long as no kernel took them along.
    """

    def __init__(self, probs: jax.Array, where: jax.Array | None):
        self.rows, self.broken = (probs, where), None


@contextmanager
def offer(arrays: Mapping[str, jax.Array]) -> Iterator[Ride | None]:
    """While tracing inside, kernels may take the check along."""
    there = "probs" in arrays and target() == "tpu"
    ride = Ride(arrays["probs"], arrays.get("where")) if there else None
    token = _offered.set(ride)
    try:
        yield ride
    finally:
        _offered.reset(token)


def sum_of_rows(fn, value, rows, *shared):
    """The sum over samples of ``value(row sums of fn(*rows, *shared), *rows)``.

    ``fn`` makes ``[n, s]`` terms; where a check of probabilities of that shape is offered, their
    rows are summed in the same pass.
    """
    ride = _offered.get()
    if ride is None or ride.broken is not None or ride.rows[0].shape != rows[0].shape:

        def plain(*args):
            return value(fn(*args).sum(1), *args[: len(rows)])

        return sum_over_samples(plain, rows, *shared)

    def together(raw, where, *args):
        sums, total, least = _reduced(fn(*args), raw)
        broken = improper(total, least, raw.dtype)
        broken = broken if where is None else broken & where
        return value(sums, *args[: len(rows)]), broken.astype(jnp.float32).sum()

    found, ride.broken = sum_over_samples(together, (*ride.rows, *rows), *shared)
    return found


@jax.custom_jvp
def _reduced(terms, raw):
    """Row sums of both, and the least of ``raw``'s rows: one reduction of three operands."""
    raw = raw.astype(terms.dtype)  # of at least single precision; a reduction has one dtype
    zero, infinity = jnp.zeros((), raw.dtype), jnp.array(jnp.inf, raw.dtype)
    return jax.lax.reduce((terms, raw, raw), (zero, zero, infinity), _both, (1,))


def _both(a, b):
    return a[0] + b[0], a[1] + b[1], jnp.minimum(a[2], b[2])


@_reduced.defjvp
def _reduced_jvp(primals, tangents):
    sums, total, least = _reduced(*primals)
    # Which samples break a rule has no derivative.
    return (sums, total, least), (tangents[0].sum(1), jnp.zeros_like(total), jnp.zeros_like(least))

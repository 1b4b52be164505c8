"""The inner loop: a few steps of gradient descent on a task's support, differentiable throughout.

Steps are one `scan`, each computed again, with its probe, when the meta-gradient passes back
through it (`jax.checkpoint`): memory grows by the parameters of a step, not by its activations.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def descend(
    loss: Callable[[Any], jax.Array],
    start: Any,
    rates: Any,
    steps: int,
    *,
    second_order: Any = True,
    probe: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any]:
    """Gradient descent, ``x <- x - rate * gradient``, so many times.

    Args:
      loss: of the parameters, on the support.
      start: pytree of arrays.
      rates: a pytree like ``start``, or a prefix of it, of arrays ``[steps, ...]`` or ``[1, ...]``
        whose rows broadcast against the leaves: the rates of each step, or of all.
      steps: how many.
      second_order: whether the meta-gradient sees that the inner gradient depends on where it is
        taken; False: it takes it for a constant. May be traced.
      probe: evaluated after every step.

    Returns:
      The parameters after the last step, and what ``probe`` gave, ``[steps, ...]``.
    """

    exact = jax.grad(loss)

    def held(x: Any) -> Any:  # not differentiated again, and so cheaper
        return jax.lax.stop_gradient(exact(x))

    if isinstance(second_order, bool):
        gradient = exact if second_order else held
    else:
        gradient = partial(jax.lax.cond, second_order, exact, held)

    @jax.checkpoint
    def step(x: Any, i: jax.Array) -> tuple[Any, Any]:
        full = jax.tree.broadcast(rates, x)
        x = jax.tree.map(lambda a, rate, g: a - rate[i % len(rate)] * g, x, full, gradient(x))
        return x, None if probe is None else probe(x)

    return jax.lax.scan(step, start, jnp.arange(steps))


def check_steps(steps: int) -> None:
    """Check a number of inner steps.

    Raises:
      ValueError: it is not an int >= 1.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: wanted an int >= 1 of inner steps, got {steps!r}")


def check_rate(rate: float) -> None:
    """Check an inner learning rate.

    Raises:
      ValueError: it is not a finite number > 0.
    """
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate: wanted a finite inner learning rate > 0, got {rate}")

"""The one training loop: a pure step, and a scan of it.

A step passes on a ``State`` and reports an ``Info``. Everything else repeats this step. `fit` does
so in one scan. Source training and fine-tuning also do so from Python, one dispatch a step, on
CPUs, where XLA slows convolutions inside a loop down. `vmap` over any of them trains many models.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from leepjax._extras import require

require("networks")

import optax  # noqa: E402

__all__ = ["Info", "Loss", "State", "fit", "init", "step"]

# On a CPU jaxlib 0.7.2 writes donated parameters while they are still read. An MLP of 28 x 28
# pixels trains, but ends as another network. 0.10.2 does not; versions in between were not tried.
DONATES = jax.__version_info__ >= (0, 10)


class State(NamedTuple):
    """The state between two steps: parameters, other arrays of a model, optimiser state."""

    params: Any
    rest: Any
    optimiser: Any


class Info(NamedTuple):
    """The report of one step: the loss of its batch, and the share of correct labels, ``[]``."""

    loss: Any
    accuracy: Any


Loss = Callable[[Any, Any, Any], tuple[jax.Array, tuple[Any, jax.Array]]]
"""``loss(params, rest, batch) -> (loss, (rest, accuracy))``"""


def init(params: Any, rest: Any, optimiser: optax.GradientTransformation) -> State:
    """The state before the first step."""
    return State(params, rest, optimiser.init(params))


def step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    state: State,
    batch: Any,
    live: jax.Array | None = None,
) -> tuple[State, Info]:
    """One update by the gradient of ``loss`` on ``batch``; if not ``live`` the state stays."""
    grad_fn = jax.value_and_grad(loss, has_aux=True)
    (value, (rest, accuracy)), grads = grad_fn(state.params, state.rest, batch)
    updates, moments = optimiser.update(grads, state.optimiser, state.params)
    new = State(optax.apply_updates(state.params, updates), rest, moments)
    if live is not None:
        new = jax.tree.map(lambda a, b: jnp.where(live, a, b), new, state)
    return new, Info(value, accuracy)


def fit(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    state: State,
    batches: Any,
    live: jax.Array | None = None,
) -> tuple[State, Info]:
    """Take a step for each of the ``batches``, a pytree of arrays ``[steps, ...]``.

    Args:
      loss: ``loss(params, rest, batch) -> (loss, (rest, accuracy))``.
      optimiser: of optax; its numbers may be traced, so that a sweep is a ``vmap``.
      state: from :func:`init`.
      batches: the batches of the steps, in order.
      live: ``[steps]`` which steps count; the state stays as it is in the others. None: all.

    Returns:
      The last state, and an ``Info`` of arrays ``[steps]``.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from leepjax.fit import fit, init
      >>> def loss(params, rest, batch):
      ...     x, y = batch
      ...     error = x @ params - y
      ...     return jnp.mean(error**2), (rest, jnp.mean(jnp.abs(error) < 0.1))
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> batches = jnp.stack([x] * 50), jnp.stack([jnp.array([2.0, -1.0])] * 50)
      >>> optimiser = optax.sgd(0.3)
      >>> state, info = fit(loss, optimiser, init(jnp.zeros(2), (), optimiser), batches)
      >>> state.params.round(2).tolist(), info.loss.shape, float(info.accuracy[-1])
      ([2.0, -1.0], (50,), 1.0)
    """

    def body(state, xs):
        return step(loss, optimiser, state, *xs)

    return jax.lax.scan(body, state, (batches, live))

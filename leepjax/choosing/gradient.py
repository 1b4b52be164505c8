"""Parameters of source predictions chosen by the gradient of a score.

Let theta_m be the softmax of source m over its own s_m classes. These are probabilities, and LEEP
is defined for them as for those of a single source:

    temperature_probs    softmax(l / T)                    T = 1 changes nothing
    class_weight_probs   softmax(l + b), b of each class   b = 0 changes nothing
    mixture_probs        (w_1 theta_1, ..., w_M theta_M)   of the disjoint union of the classes

P(y | z) of a class z of source m does not depend on w, because the weight cancels. So LEEP of the
mixture is the mean logarithm of sum_m w_m p_m(y_i | x_i). It is concave in w, so a gradient finds
its maximum.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from leepjax._extras import require

require("networks")

import optax  # noqa: E402


def maximise(
    objective: Callable[[Any], jax.Array], start: Any, *, steps: int = 150, rate: float = 0.1
) -> Any:
    """The best parameters that Adam visits while it maximises an objective, the start included.

    Args:
      objective: a differentiable function of the parameters, such as LEEP of
        :func:`temperature_probs`; a scalar, larger is better. NaN is never the best.
      start: parameters, any pytree of float arrays.
      steps: of Adam.
      rate: its learning rate.

    Returns:
      Parameters like ``start``, whose objective is at least that of the start. Works under ``jit``
      and ``vmap``: one program chooses for many tasks.

    >>> import jax.numpy as jnp
    >>> print(maximise(lambda x: -((x - 2) ** 2), jnp.zeros(())).round(2))
    2.0

    Source: Kingma, Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """
    optimiser = optax.adam(rate)

    def body(carry, _):
        params, moments, best, highest = carry
        value, grads = jax.value_and_grad(objective)(params)
        best = jax.tree.map(lambda a, b: jnp.where(value > highest, a, b), params, best)
        descent = jax.tree.map(jnp.negative, grads)
        updates, moments = optimiser.update(descent, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, moments, best, jnp.fmax(value, highest)), None

    begin = (start, optimiser.init(start), start, jnp.array(-jnp.inf))
    return jax.lax.scan(body, begin, length=steps + 1)[0][2]


def temperature_probs(log_temperature: jax.Array, logits: jax.Array) -> jax.Array:
    """Probabilities ``[n, s]`` of logits ``[n, s]`` at a temperature; its logarithm is a scalar."""
    return jax.nn.softmax(logits * jnp.exp(-log_temperature), axis=1)


def class_weight_probs(log_weights: jax.Array, logits: jax.Array) -> jax.Array:
    """Probabilities ``[n, s]`` of logits ``[n, s]`` with ``[s]`` logarithms of class weights."""
    return jax.nn.softmax(logits + log_weights, axis=1)


def mixture_probs(log_weights: jax.Array, logits: Sequence[jax.Array]) -> jax.Array:
    """Probabilities ``[n, s_1 + ... + s_M]`` of a mixture of M sources.

    Args:
      log_weights: ``[M]``; the weights are their softmax.
      logits: ``[n, s_m]`` of each source.

    >>> import jax.numpy as jnp
    >>> print(mixture_probs(jnp.zeros(2), [jnp.zeros((1, 2)), jnp.zeros((1, 1))]))
    [[0.25 0.25 0.5 ]]
    """
    weights = jax.nn.softmax(log_weights)
    parts = [w * jax.nn.softmax(x, axis=1) for w, x in zip(weights, logits, strict=True)]
    return jnp.concatenate(parts, axis=1)

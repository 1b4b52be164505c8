"""Softmax regression of many tasks at once, solved to a certificate by batched L-BFGS.

Objective of a task, over its n samples with features x_i (a constant 1 appended for the bias):

    f(W, b) = -1/n sum_i log softmax(W x_i + b)[y_i] + l2/2 ||W||^2

Why not a library's L-BFGS under ``vmap``: along a search direction P the logits are Z + a ZP, so
with ZP at hand a line-search step costs one softmax and no pass over the features. An iteration is
then two batched matmuls, one for ZP and one for the gradient; each reads the features in the layout
that XLA's CPU backend runs at memory bandwidth (``[t, d, n]`` and ``[t, n, d]``, both kept), five
to ten times faster than the other way round. Finished lanes stand still while the rest go on.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

MEMORY = 8  # pairs (step, change of gradient) that L-BFGS remembers
CURVATURE = 0.3  # a line search ends at |slope| <= CURVATURE * |slope at 0| ...
LINE_STEPS = 10  # ... or after so many Newton steps


class Heads(NamedTuple):
    """Linear classifiers of t tasks: logits = features @ kernel + bias.

    Attributes:
      kernel: ``[t, d, c]``.
      bias: ``[t, c]``.
    """

    kernel: jax.Array
    bias: jax.Array


class Certificate(NamedTuple):
    """What says that a head is the optimum.

    Attributes:
      objective: ``[t]`` value of f.
      grad_norm: ``[t]`` Euclidean norm of its gradient. f is l2-strongly convex in W, so at the
        best bias it exceeds its minimum by at most grad_norm^2 / (2 l2). In b its curvature is the
        mean of p (1 - p), which is small where classes lie far apart: there the bound is exceeded,
        in the tests by a gap of at most 5e-6 at grad_norm 1e-5.
      iterations: ``[t]`` iterations until the lane stood still.
    """

    objective: jax.Array
    grad_norm: jax.Array
    iterations: jax.Array


class _State(NamedTuple):
    params: jax.Array  # [t, c, d + 1], bias last
    logits: jax.Array  # [t, c, n]
    grad: jax.Array  # [t, c, d + 1]
    steps: jax.Array  # [MEMORY, t, c, d + 1], ring buffers written at iteration % MEMORY
    changes: jax.Array  # the same shape
    rho: jax.Array  # [MEMORY, t], 1 / <step, change>; 0 where the pair is void
    iteration: jax.Array
    iterations: jax.Array  # [t]


@partial(jax.jit, static_argnames=("num_classes", "max_iterations"))
def softmax_regression(
    features: jax.Array,
    labels: jax.Array,
    where: jax.Array,
    *,
    num_classes: int,
    l2: float | jax.Array = 1e-3,
    tolerance: float | jax.Array = 1e-5,
    max_iterations: int = 1000,
) -> tuple[Heads, Certificate]:
    """Heads at the optimum of every task, for features used as they are.

    Args:
      features: ``[t, n, d]`` floats; standardise them first.
      labels: ``[t, n]`` integers in ``0..num_classes-1``.
      where: ``[t, n]`` bool, False where padded; at least one True in each task.
      num_classes: number of classes of every task.
      l2: penalty on the squared norm of the kernel; the bias is free. An array leaf.
      tolerance: a lane is done when the norm of its gradient is below.
      max_iterations: when lanes that are not done are given back as they are.
    """
    t, n, d = features.shape
    features = jnp.where(where[..., None], features, 0)
    rows = jnp.concatenate([features, jnp.ones((t, n, 1), features.dtype)], 2)  # [t, n, d + 1]
    columns = jnp.swapaxes(rows, 1, 2)  # [t, d + 1, n]
    share = (where / where.sum(1, keepdims=True)).astype(rows.dtype)[:, None]  # [t, 1, n]
    target = (labels[:, None, :] == jnp.arange(num_classes)[:, None]).astype(rows.dtype)
    penalty = l2 * (jnp.arange(d + 1) < d).astype(rows.dtype)  # not on the bias

    def logits_of(params):
        return jnp.einsum("tcd,tdn->tcn", params, columns, precision="highest")

    def grad_at(params, logits):
        residual = (jax.nn.softmax(logits, 1) - target) * share
        return jnp.einsum("tcn,tnd->tcd", residual, rows, precision="highest") + penalty * params

    def live(state):
        return _norm(state.grad) > tolerance

    def step(state: _State) -> _State:
        direction = _lbfgs_direction(state)
        along = logits_of(direction)
        moved = live(state)
        length = _line_search(state, direction, along, target, share, penalty)
        length = jnp.where(moved, length, 0)[:, None, None]
        params = state.params + length * direction
        logits = state.logits + length * along
        grad = grad_at(params, logits)
        change, stride = grad - state.grad, length * direction
        curvature = jnp.sum(stride * change, (1, 2))
        valid = moved & (curvature > 0)
        slot = state.iteration % MEMORY
        return _State(
            params,
            logits,
            grad,
            state.steps.at[slot].set(stride),
            state.changes.at[slot].set(change),
            state.rho.at[slot].set(jnp.where(valid, 1 / jnp.where(valid, curvature, 1), 0)),
            state.iteration + 1,
            state.iterations + moved,
        )

    params = jnp.zeros((t, num_classes, d + 1), rows.dtype)
    logits = jnp.zeros((t, num_classes, n), rows.dtype)
    memory = jnp.zeros((MEMORY, *params.shape), rows.dtype)
    start = _State(
        params=params,
        logits=logits,
        grad=grad_at(params, logits),
        steps=memory,
        changes=memory,
        rho=jnp.zeros((MEMORY, t), rows.dtype),
        iteration=jnp.int32(0),
        iterations=jnp.zeros(t, jnp.int32),
    )
    end = jax.lax.while_loop(lambda s: live(s).any() & (s.iteration < max_iterations), step, start)
    # The loop moves logits along with the parameters; the certificate starts from the parameters.
    logits = logits_of(end.params)
    loss = -jnp.sum(share * target * jax.nn.log_softmax(logits, 1), (1, 2))
    objective = loss + jnp.sum(penalty * end.params**2, (1, 2)) / 2
    grad_norm = _norm(grad_at(end.params, logits))
    kernel = jnp.swapaxes(end.params[..., :d], 1, 2)
    return Heads(kernel, end.params[..., d]), Certificate(objective, grad_norm, end.iterations)


def _norm(x):
    return jnp.sqrt(jnp.sum(x * x, (1, 2)))


def _dot(x, y):
    return jnp.sum(x * y, (1, 2), keepdims=True)


def _lbfgs_direction(state: _State) -> jax.Array:
    """Two-loop recursion (Nocedal 1980), newest pair first; a void pair (rho = 0) does nothing."""
    slots = [(state.iteration - 1 - i) % MEMORY for i in range(MEMORY)]
    pairs = [(state.steps[j], state.changes[j], state.rho[j][:, None, None]) for j in slots]
    q, alphas = state.grad, []
    for stride, change, rho in pairs:
        alphas.append(rho * _dot(stride, q))
        q = q - alphas[-1] * change
    _, change, rho = pairs[0]
    q = q * jnp.where(rho > 0, 1 / jnp.where(rho > 0, rho * _dot(change, change), 1), 1)
    for (stride, change, rho), alpha in zip(reversed(pairs), reversed(alphas), strict=True):
        q = q + (alpha - rho * _dot(change, q)) * stride
    return -q


def _line_search(state, direction, along, target, share, penalty):
    """Step lengths ``[t]``: Newton's method on the slope of the convex function of one variable,

    slope(a) = sum_n share * (E_a[along] - along[y]) + <penalty * (params + a direction), direction>

    with E_a, Var_a over softmax(logits + a along), kept inside the bracket where the slope changes
    sign.
    """
    at_zero = jnp.sum(penalty * state.params * direction, (1, 2))
    quadratic = jnp.sum(penalty * direction**2, (1, 2))
    of_target = jnp.sum(share * target * along, (1, 2))

    def slope_and_curvature(a):
        p = jax.nn.softmax(state.logits + a[:, None, None] * along, 1)
        mean = jnp.sum(p * along, 1, keepdims=True)
        variance = jnp.sum(p * (along - mean) ** 2, 1, keepdims=True)
        slope = jnp.sum(share * mean, (1, 2)) - of_target + at_zero + a * quadratic
        return slope, jnp.sum(share * variance, (1, 2)) + quadratic

    goal = CURVATURE * jnp.abs(jnp.sum(state.grad * direction, (1, 2)))

    def newton(carry):
        a, low, high, slope, curvature, steps = carry
        low, high = jnp.where(slope < 0, a, low), jnp.where(slope < 0, high, a)
        proposal = a - slope / jnp.where(curvature > 0, curvature, 1)
        fallback = jnp.where(jnp.isinf(high), 4 * a, (low + high) / 2)
        inside = (proposal > low) & (proposal < high) & (proposal < 16 * a)
        a = jnp.where(jnp.abs(slope) <= goal, a, jnp.where(inside, proposal, fallback))
        return (a, low, high, *slope_and_curvature(a), steps + 1)

    def unfinished(carry):
        return (jnp.abs(carry[3]) > goal).any() & (carry[5] < LINE_STEPS)

    one = jnp.ones_like(goal)
    start = (one, 0 * one, jnp.inf * one, *slope_and_curvature(one), jnp.int32(0))
    return jax.lax.while_loop(unfinished, newton, start)[0]

"""Softmax regression of many tasks at once, solved to a certificate by batched L-BFGS.

Objective of a task, over its n samples with features x_i:

    f(W, b) = -1/n sum_i log softmax(W x_i + b)[y_i] + l2/2 ||W||^2

Why not a library's L-BFGS under ``vmap``: along a search direction P the logits are Z + a ZP, so
with ZP at hand a line-search step costs one softmax and no pass over the features. An iteration is
then two batched products with the features, one for ZP and one for the gradient; each reads them in
the layout that XLA's CPU backend runs near memory bandwidth (``[t, d, n]`` and ``[t, n, d]``, both
kept), several times faster than the other way round. Tasks go in blocks whose features
stay in the cache; a finished task stays as it is while the rest of its block goes on.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from leepjax.metrics.platform import target

BLOCK_BYTES = 5 * 2**18  # features of a block of tasks on a CPU, twice that with both layouts
MEMORY = 6  # pairs (step, change of gradient) that L-BFGS remembers
CURVATURE = 0.3  # a line search ends at |slope| <= CURVATURE * |slope at 0| ...
LINE_STEPS = 2  # ... or after so many Newton steps


class Heads(NamedTuple):
    """Linear classifiers of t tasks: logits = features @ kernel + bias.

    Attributes:
      kernel: ``[t, d, c]``.
      bias: ``[t, c]``.
    """

    kernel: Any
    bias: Any


class Certificate(NamedTuple):
    """How far from the optimum a head can be.

    Attributes:
      objective: ``[t]`` value of f.
      gap: ``[t]`` by how much f may exceed its minimum. f is l2-strongly convex in W, so with the
        best bias by |grad_W|^2 / (2 l2) at most; the bias adds its Newton decrement, an estimate
        that is good near the minimum.
      iterations: ``[t]`` iterations until the task stood still.
    """

    objective: jax.Array
    gap: jax.Array
    iterations: jax.Array


class _State(NamedTuple):
    params: jax.Array  # [t, c, d + 1], bias last
    logits: jax.Array  # [t, c, n]
    grad: jax.Array  # [t, c, d + 1]
    gap: jax.Array  # [t]
    pairs: jax.Array  # [t, 2, MEMORY, c (d + 1)], steps and changes of gradient, a ring buffer
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
    tolerance: float | jax.Array = 5e-6,
    max_iterations: int = 1000,
) -> tuple[Heads, Certificate]:
    """Heads at the optimum of every task, for features used as they are.

    Args:
      features: ``[t, n, d]`` floats; standardise them first.
      labels: ``[t, n]`` integers in ``0..num_classes-1``.
      where: ``[t, n]`` bool, False where padded; at least one True in each task.
      num_classes: number of classes of every task.
      l2: penalty on the squared norm of the kernel; the bias is free. An array leaf.
      tolerance: a task is done when its gap (see ``Certificate``) is no larger.
      max_iterations: when tasks that are not done are given back as they are.
    """
    t = features.shape[0]
    block = t
    if target() == "cpu":
        block = max(1, min(t, BLOCK_BYTES // (features[0].size * features.dtype.itemsize)))
    fill = -t % block
    blocks = [
        jnp.pad(x, [(0, fill)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:])
        for x in (features, labels, where)
    ]
    solve = partial(
        _solve, num_classes=num_classes, l2=l2, tolerance=tolerance, max_iterations=max_iterations
    )
    solved = jax.lax.map(lambda block: solve(*block), blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:t], solved)


def _solve(features, labels, where, *, num_classes, l2, tolerance, max_iterations):
    """One block of tasks."""
    t, n, d = features.shape
    fill = -n % 16  # rows that count for nothing, for whole vectors in every product
    where, labels = (jnp.pad(x, ((0, 0), (0, fill))) for x in (where, labels))
    rows = jnp.pad(features, ((0, 0), (0, fill), (0, 0)))
    rows = jnp.where(where[..., None], rows, 0)  # [t, n, d]
    columns = jnp.swapaxes(rows, 1, 2)  # [t, d, n]
    share = where / jnp.maximum(where.sum(1, keepdims=True), 1)
    share = share.astype(rows.dtype)[:, None]  # [t, 1, n]
    target = (labels[:, None, :] == jnp.arange(num_classes)[:, None]).astype(rows.dtype)
    penalty = l2 * (jnp.arange(d + 1) < d).astype(rows.dtype)  # not on the bias

    def logits_of(params):
        logits = jnp.einsum("tcd,tdn->tcn", params[..., :d], columns, precision="highest")
        return logits + params[..., d:]

    def grad_and_gap(params, p):
        residual = (p - target) * share
        grad_w = jnp.einsum("tcn,tnd->tcd", residual, rows, precision="highest")
        grad_b = residual.sum(2, keepdims=True)
        grad = jnp.concatenate([grad_w, grad_b], 2) + penalty * params
        return grad, _gap(grad[..., :d], grad_b[..., 0], p, share, l2)

    def step(state: _State) -> _State:
        live = state.gap > tolerance
        direction = _lbfgs_direction(state)
        along = logits_of(direction)
        length, p = _line_search(state, direction, along, live, target, share, penalty)
        stride = length * direction
        params = state.params + stride
        grad, gap = grad_and_gap(params, p)
        new = jnp.stack([stride, grad - state.grad], 1).reshape(t, 2, 1, -1)
        valid = jnp.sum(new[:, 0] * new[:, 1], (1, 2)) > 0
        new = jnp.where(valid[:, None, None, None], new, 0)
        slot = state.iteration % MEMORY
        pairs = jax.lax.dynamic_update_slice(state.pairs, new, (0, 0, slot, 0))
        logits = state.logits + length * along
        return _State(
            params, logits, grad, gap, pairs, state.iteration + 1, state.iterations + live
        )

    params = jnp.zeros((t, num_classes, d + 1), rows.dtype)
    logits = jnp.zeros_like(target)
    grad, gap = grad_and_gap(params, jnp.full_like(target, 1 / num_classes))
    start = _State(
        params=params,
        logits=logits,
        grad=grad,
        gap=gap,
        pairs=jnp.zeros((t, 2, MEMORY, num_classes * (d + 1)), rows.dtype),
        iteration=jnp.int32(0),
        iterations=jnp.zeros(t, jnp.int32),
    )
    end = jax.lax.while_loop(
        lambda s: (s.gap > tolerance).any() & (s.iteration < max_iterations), step, start
    )
    # The loop moves logits along with the parameters; the certificate starts from the parameters.
    logits = logits_of(end.params)
    _, gap = grad_and_gap(end.params, jax.nn.softmax(logits, 1))
    loss = -jnp.sum(share * target * jax.nn.log_softmax(logits, 1), (1, 2))
    objective = loss + jnp.sum(penalty * end.params**2, (1, 2)) / 2
    heads = Heads(jnp.swapaxes(end.params[..., :d], 1, 2), end.params[..., d])
    return heads, Certificate(objective, gap, end.iterations)


def certify(heads, features, labels, where, l2, iterations) -> Certificate:
    """The certificate of any heads, arguments and features as for :func:`softmax_regression`."""
    share = (where / where.sum(1, keepdims=True))[:, None]
    features = jnp.where(where[..., None], features, 0)
    logits = jnp.einsum("tnd,tdc->tcn", features, heads.kernel, precision="highest")
    logits = logits + heads.bias[..., None]
    p, target = jax.nn.softmax(logits, 1), jax.nn.one_hot(labels, logits.shape[1], axis=1)
    residual = (p - target) * share
    grad_w = jnp.einsum("tcn,tnd->tdc", residual, features, precision="highest")
    gap = _gap(grad_w + l2 * heads.kernel, residual.sum(2), p, share, l2)
    loss = -jnp.sum(share * target * jax.nn.log_softmax(logits, 1), (1, 2))
    return Certificate(loss + l2 / 2 * jnp.sum(heads.kernel**2, (1, 2)), gap, iterations)


def _gap(grad_w, grad_b, p, share, l2):
    """|grad_W|^2 / (2 l2) + grad_b' H^+ grad_b / 2, with H = sum share (diag p - p p').

    H is the Hessian of the bias. Its null vector is 1, to which grad_b is orthogonal, so adding
    1 1' / c makes it invertible and changes nothing.
    """
    c = p.shape[1]
    mass = jnp.sum(share * p, 2)
    h = mass[:, :, None] * jnp.eye(c) - jnp.einsum(
        "tcn,ten->tce", share * p, p, precision="highest"
    )
    h = h + (1 / c + 1e-7 * jnp.eye(c))
    newton = jnp.linalg.solve(h, grad_b[..., None])[..., 0]
    return jnp.sum(grad_w**2, (1, 2)) / (2 * l2) + jnp.sum(grad_b * newton, 1) / 2


def _reciprocal(x):
    """1/x where x > 0, else 0."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _dot(x, y):
    return jnp.sum(x * y, (1, 2), keepdims=True)


def _lbfgs_direction(state: _State) -> jax.Array:
    """-H grad with H in the compact form (Byrd, Nocedal, Schnabel 1994), oldest pair first:

    H = g I + S R^-T (D + g Y'Y) R^-1 S' - g Y R^-1 S' - g S R^-T Y',

    where R is the upper triangle of S'Y, D its diagonal and g = s'y / y'y of the newest pair. All
    inner products are one batched matmul. A void pair is zero, with 1 on R's diagonal.
    """
    t = state.grad.shape[0]
    grad = state.grad.reshape(t, -1)
    pairs = state.pairs.reshape(t, 2 * MEMORY, -1)
    right = jnp.concatenate([state.pairs[:, 1], grad[:, None]], 1)
    products = jnp.einsum("tip,tjp->tij", pairs, right, precision="highest")
    age = (state.iteration + jnp.arange(MEMORY)) % MEMORY  # slots, oldest first
    order = jnp.concatenate([age, MEMORY + age])
    products = products[:, order][:, :, jnp.append(age, MEMORY)]
    upper = jnp.triu(products[:, :MEMORY, :MEMORY])
    squares = products[:, MEMORY:, :MEMORY]
    along_steps, along_changes = products[:, :MEMORY, MEMORY:], products[:, MEMORY:, MEMORY:]
    diagonal = jnp.diagonal(upper, axis1=1, axis2=2)[..., None]
    upper = upper + jnp.eye(MEMORY, dtype=grad.dtype) * (diagonal == 0)
    scale = diagonal[:, -1:] * _reciprocal(squares[:, -1:, -1:])
    scale = jnp.where(scale > 0, scale, 1)
    solve = partial(jax.lax.linalg.triangular_solve, upper, left_side=True)
    a = solve(along_steps)
    b = diagonal * a + scale * (jnp.matmul(squares, a, precision="highest") - along_changes)
    weights = jnp.concatenate([solve(b, transpose_a=True), -scale * a], 1)[:, jnp.argsort(order)]
    combined = jnp.einsum("tij,tip->tp", weights, pairs, precision="highest")
    return -(scale[..., 0] * grad + combined).reshape(state.grad.shape)


def _line_search(state, direction, along, live, target, share, penalty):
    """Step lengths ``[t, 1, 1]``, 0 where not live, and the softmax ``[t, c, n]`` after the step.

    Newton's method on the slope of the convex function of one variable,

    slope(a) = sum_n share * (E_a[along] - along[y]) + <penalty * (params + a direction), direction>

    with E_a, Var_a over softmax(logits + a along), kept inside the bracket where the slope changes
    sign. ``a`` starts at 1, and a task that has arrived keeps its ``a``.
    """
    at_zero = _dot(penalty * state.params, direction)
    quadratic = _dot(penalty * direction, direction)
    of_target = _dot(share * target, along)
    goal = CURVATURE * jnp.abs(_dot(state.grad, direction))

    def at(a):
        p = jax.nn.softmax(state.logits + a * along, 1)
        mean = jnp.sum(p * along, 1, keepdims=True)
        variance = jnp.sum(p * (along - mean) ** 2, 1, keepdims=True)
        slope = _dot(share, mean) - of_target + at_zero + a * quadratic
        return p, slope, _dot(share, variance) + quadratic

    def unfinished(carry):
        _, _, _, slope, _, _, steps = carry
        return (jnp.abs(slope) > goal).any() & (steps < LINE_STEPS)

    def newton(carry):
        a, low, high, slope, curvature, _, steps = carry
        low, high = jnp.where(slope < 0, a, low), jnp.where(slope < 0, high, a)
        proposal = a - slope * _reciprocal(curvature)
        fallback = jnp.where(jnp.isinf(high), 4 * a, (low + high) / 2)
        inside = (proposal > low) & (proposal < high) & (proposal < 16 * a)
        a = jnp.where(jnp.abs(slope) <= goal, a, jnp.where(inside, proposal, fallback))
        p, slope, curvature = at(a)
        return a, low, high, slope, curvature, p, steps + 1

    a = live.astype(goal.dtype)[:, None, None]
    p, slope, curvature = at(a)
    slope = jnp.where(a > 0, slope, 0)  # a task that is done arrives at once, at 0
    start = (a, 0 * a, jnp.full_like(a, jnp.inf), slope, curvature, p, jnp.int32(0))
    a, _, _, _, _, p, _ = jax.lax.while_loop(unfinished, newton, start)
    return a, p

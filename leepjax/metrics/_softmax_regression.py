"""Softmax regression with a quadratic penalty, solved to rounding: for PACTran-Gaussian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from leepjax.metrics.platform import product

NEWTON_STEPS, CG_STEPS, LINE_STEPS = 40, 200, 20
FORCING = 0.25  # Newton's equation is solved to this part of the gradient, or better near the end


class _Problem(NamedTuple):
    x: jax.Array  # [n, r] centred features in their eigenbasis
    right: jax.Array  # [n, c] bool, one-hot labels
    share: jax.Array  # [n, 1] of the mean over samples: 1/n, 0 where masked
    present: jax.Array  # [c]
    penalty: jax.Array  # of |W|^2 / 2
    variances: jax.Array  # [r] of x


class _State(NamedTuple):
    w: jax.Array  # [r, c]
    b: jax.Array  # [c]
    scores: jax.Array  # [n, c]
    steps: jax.Array
    objective: jax.Array
    decrease: jax.Array  # that the last step promised
    done: jax.Array


def _posterior(problem, scores):
    """``p [n, c]``, ``1 - p_y [n]`` and ``-log p_y [n]`` of the right class y.

    Near separation 1 - p_y is all that counts, and is lost when taken from p_y: from the others.
    """
    own = jnp.sum(jnp.where(problem.right, scores, 0), 1, keepdims=True)
    ahead = jnp.where(problem.right | ~problem.present[None], -jnp.inf, scores - own)
    top = jnp.maximum(ahead.max(1, keepdims=True), 0)
    odds, one = jnp.exp(ahead - top), jnp.exp(-top)
    others = odds.sum(1, keepdims=True)
    p = jnp.where(problem.right, one, odds) / (one + others)
    loss = top + jnp.log1p(others + jnp.expm1(-top))
    return p, (others / (one + others))[:, 0], loss[:, 0]


def fit(x, right, share, present, penalty):
    """The minimum of mean cross-entropy + penalty |W|^2 / 2, biases free.

    Newton's method from W = 0 and the class frequencies, with conjugate gradients for its equation
    and a line search along each step. Without Python branches on values, and under ``vmap``.

    Args:
      x: ``[n, r]`` features in their eigenbasis (uncorrelated), centred; 0 where masked.
      right: ``[n, c]`` bool, one-hot labels.
      share: ``[n, 1]`` of the mean over samples: 1/n, 0 where masked.
      present: ``[c]`` bool; other classes have probability zero.
      penalty: a scalar > 0.

    Returns:
      The least objective, ``p [n, c]`` there, and ``1 - p_y [n]`` of the right class y.
    """
    problem = _Problem(x, right, share, present, penalty, product(share.T, jnp.square(x))[0])
    tolerance = float(jnp.finfo(share.dtype).eps) ** 1.25

    def objective(w, scores):
        loss = _posterior(problem, scores)[2]
        return jnp.sum(share[:, 0] * loss) + penalty * jnp.sum(jnp.square(w)) / 2

    def step(state):
        p, wrong, _ = _posterior(problem, state.scores)
        slope = share * jnp.where(problem.right, -wrong[:, None], p)
        gradient = product(problem.x.T, slope) + penalty * state.w, slope.sum(0)
        w, b = _newton_direction(problem, p, gradient, state.objective)
        scores = product(problem.x, w) + b[None]
        decrease = -_dot(gradient, (w, b))
        t = _line_search(problem, state, w, scores, decrease)
        w, b = state.w + t * w, state.b + t * b
        scores = product(problem.x, w) + b[None]
        new = objective(w, scores)
        # Newton's steps shrink fast; where they no longer do, what is left is rounding.
        stalled = (decrease < 1e-4 * new) & (decrease > 0.25 * state.decrease)
        worse = ~(new <= state.objective * (1 + 1e-5))
        done = (decrease <= tolerance * new) | stalled | worse
        taken = _State(w, b, scores, state.steps + 1, new, decrease, done)
        return jax.tree.map(lambda a, b: jnp.where(worse, a, b), state._replace(done=done), taken)

    frequency = jnp.sum(jnp.where(right, share, 0), 0)
    b = jnp.log(jnp.where(present, frequency, 1))
    w = jnp.zeros((problem.x.shape[1], len(b)), b.dtype)
    scores = jnp.broadcast_to(b[None], problem.right.shape)
    first = _State(
        w,
        b,
        scores,
        jnp.array(0),
        objective(w, scores),
        jnp.array(jnp.inf, b.dtype),
        jnp.array(False),
    )
    last = jax.lax.while_loop(lambda s: ~s.done & (s.steps < NEWTON_STEPS), step, first)
    p, wrong, _ = _posterior(problem, last.scores)
    return last.objective, p, wrong


def _dot(a, b):
    return jnp.sum(a[0] * b[0]) + jnp.sum(a[1] * b[1])


def _newton_direction(problem, p, gradient, objective):
    """Solve Hessian (w, b) = -gradient by preconditioned conjugate gradients, roughly."""
    share, penalty = problem.share, problem.penalty

    def hessian(v):
        scores = product(problem.x, v[0]) + v[1][None]
        # About the right class's: then near separation all terms that cancel are small.
        scores = scores - jnp.sum(jnp.where(problem.right, scores, 0), 1, keepdims=True)
        curved = share * p * (scores - jnp.sum(p * scores, 1, keepdims=True))
        # Equal biases change nothing; a curvature of their own keeps rounding from moving them.
        biases = curved.sum(0) + jnp.where(problem.present, v[1].mean(), 0)
        return product(problem.x.T, curved) + penalty * v[0], biases

    # The diagonal, as if p were independent of x: x is in its eigenbasis.
    curvature = jnp.sum(share * p * (1 - p), 0)
    curvature = jnp.where(curvature > 0, curvature, 1)
    scale = 1 / (problem.variances[:, None] * curvature[None] + penalty), 1 / curvature

    def precondition(v):
        return scale[0] * v[0], scale[1] * v[1]

    def advance(state):
        solution, residual, direction, size, count = state
        image = hessian(direction)
        bend = _dot(direction, image)
        step = size / jnp.where(bend > 0, bend, jnp.inf)
        solution = jax.tree.map(lambda x, y: x + step * y, solution, direction)
        residual = jax.tree.map(lambda x, y: x - step * y, residual, image)
        better = precondition(residual)
        new = _dot(residual, better)
        ratio = new / jnp.where(size > 0, size, 1)
        direction = jax.tree.map(lambda x, y: x + ratio * y, better, direction)
        return solution, residual, direction, jnp.where(bend > 0, new, 0), count + 1

    residual = jax.tree.map(jnp.negative, gradient)
    direction = precondition(residual)
    size = _dot(residual, direction)
    goal = size * jnp.clip(size / jnp.where(objective > 0, objective, 1), 1e-4, FORCING**2)
    zero = jax.tree.map(jnp.zeros_like, gradient)
    state = zero, residual, direction, size, jnp.array(0)
    return jax.lax.while_loop(lambda s: (s[3] > goal) & (s[4] < CG_STEPS), advance, state)[0]


def _line_search(problem, state, w, scores, decrease):
    """Where the slope along the step is a tenth of that at its start: no product with x needed."""
    share, penalty = problem.share, problem.penalty
    own = jnp.sum(jnp.where(problem.right, scores, 0), 1, keepdims=True)
    moved = scores - own
    along, square = jnp.sum(state.w * w), jnp.sum(jnp.square(w))

    def slope(t):
        p = _posterior(problem, state.scores + t * scores)[0]
        mean = jnp.sum(p * moved, 1, keepdims=True)
        first = jnp.sum(share * mean) + penalty * (along + t * square)
        second = jnp.sum(share * p * jnp.square(moved - mean)) + penalty * square
        return first, second

    def narrow(search):
        t, low, high, count, _ = search
        first, second = slope(t)
        low, high = jnp.where(first < 0, t, low), jnp.where(first < 0, high, t)
        newton = t - first / jnp.where(second > 0, second, 1)
        middle = jnp.where(high < jnp.inf, (low + high) / 2, 2 * t)
        better = jnp.where((newton > low) & (newton < high), newton, middle)
        found = jnp.abs(first) <= 0.1 * decrease
        return jnp.where(found, t, better), low, high, count + 1, found

    one = jnp.ones((), scores.dtype)
    search = one, 0 * one, jnp.inf * one, jnp.array(0), jnp.array(False)
    return jax.lax.while_loop(lambda s: ~s[4] & (s[3] < LINE_STEPS), narrow, search)[0]

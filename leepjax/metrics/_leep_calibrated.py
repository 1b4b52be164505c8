"""LEEP at the temperature that suits it best: what is left when calibration no longer counts."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._leep import _leep, conditional_of
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import row_of_class, sum_by_class

LOWEST, HIGHEST = 0.05, 20.0
GRID = 25  # temperatures, a factor of 1.28 apart; an odd number, so that T = 1 is among them
STEPS = 8  # of the root search between two of them


def leep_calibrated(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""LEEP maximised over the temperature of the source model; larger is better, in nats.

    .. math:: \max_{0.05 \le T \le 20} \mathrm{LEEP}\left( \mathrm{softmax}(\ell / T), y \right)

    LEEP reads calibration: rescaling the logits changes no decision of the source model and yet
    moves LEEP by half a nat. This score does not move, as long as the best T stays inside the
    interval, so it compares sources that were trained with different label smoothing or for
    different lengths. -H(Y) <= LEEP <= LEEP calibrated <= 0. Logits that are constant in each row
    give -H(Y), one class present gives 0.

    Args:
      logits: ``[n, s]`` source-class logits of the target samples; a constant added to a row
        changes nothing.
      labels: ``[n]`` integer target labels in ``0..num_classes-1``.
      num_classes: number of target classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights: an integer weight equals repetition.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``logits`` and
      ``weights`` (at the best temperature, which counts as constant: the envelope theorem). It
      takes some 50 times as long as LEEP.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> print(f"{leep_calibrated(logits, labels, num_classes=2):.4f}")
      -0.4274
      >>> print(f"{leep_calibrated(10 * logits, labels, num_classes=2):.4f}")
      -0.4274

    Source: LEEP of Nguyen, Hassner, Seeger, Archambeau, ICML 2020, with the temperature scaling of
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    return evaluate(
        _leep_calibrated,
        logits=logits,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def leep_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """The temperature in [0.05, 20] at which LEEP is largest; see :func:`leep_calibrated`.

    Above 1 the source model is too sure of itself for this target, below 1 too hesitant. Of equally
    good temperatures (logits constant in each row, one class present) it is the one nearest to 1.
    Arguments and errors as for :func:`leep_calibrated`. Not differentiable.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
      >>> print(f"{leep_temperature(logits, jnp.array([0, 0, 1, 1]), num_classes=2):.3f}")
      0.314
    """
    return evaluate(
        _leep_temperature,
        logits=logits,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def _leep_calibrated(logits, labels, weights, *, num_classes):
    temperature = _leep_temperature(logits, labels, weights, num_classes=num_classes)
    return _leep(_soften(logits, temperature), labels, weights, num_classes=num_classes)


def _leep_temperature(logits, labels, weights, *, num_classes):
    logits, weights = jax.lax.stop_gradient((logits, weights))
    rows, total = (logits, labels, weights), weights.sum()
    joint_of = partial(_joint, num_classes=num_classes)

    # Blocks of logits are softened where they are read: no array of all probabilities is kept, and
    # none of their tangents, as the slope is taken inside the sum.
    def value(u):
        conditional = conditional_of(sum_over_samples(joint_of, rows, (u,)))
        return sum_over_samples(_log_likelihood, rows, (u, conditional)) / total

    def value_and_slope(u):
        one = jnp.ones_like(u)
        joint = _sum_tangents(joint_of, rows, (u,), (one,))
        conditional, tangent = jax.jvp(conditional_of, joint[:1], joint[1:])
        sums = _sum_tangents(_log_likelihood, rows, (u, conditional), (one, tangent))
        return sums[0] / total, sums[1] / total

    # The profile may have several maxima, none of them narrower than the grid: it is a mean of
    # logarithms of softmaxes of l / exp(u), which vary with u on a scale of one.
    u = jnp.linspace(math.log(LOWEST), math.log(HIGHEST), GRID, dtype=logits.dtype)
    u = u[jnp.argsort(jnp.abs(u))]  # ties go to the first, that nearest to T = 1
    values = jax.lax.map(value, u)
    noise = 10 * jnp.finfo(logits.dtype).eps
    start = u[jnp.argmax(values >= values.max() - noise)]
    top, slope = value_and_slope(start)
    # Uphill from the best point the next one is no higher, so a maximum lies in between.
    step = jnp.sign(slope) * math.log(HIGHEST / LOWEST) / (GRID - 1)
    end = jnp.clip(start + step, math.log(LOWEST), math.log(HIGHEST))
    bracket = (start, top, slope, end, value_and_slope(end)[1])
    best = jax.lax.fori_loop(0, STEPS, lambda _, b: _narrow(value_and_slope, b), bracket)[0]
    return jnp.exp(jnp.where(jnp.abs(slope) > noise, best, start))


def _narrow(value_and_slope, bracket):
    """One step of regula falsi (Illinois variant) for the root of the slope between a and b."""
    a, top, slope_a, b, slope_b = bracket
    crossing = jnp.sign(slope_a) != jnp.sign(slope_b)
    span = jnp.where(crossing, slope_b - slope_a, 1)
    middle = jnp.where(crossing, (a * slope_b - b * slope_a) / span, (a + b) / 2)
    value, slope = value_and_slope(middle)
    # Without a crossing there is a minimum too, and the maximum is on the side of a.
    uphill = (jnp.sign(slope) == jnp.sign(slope_a)) & (crossing | (value >= top))
    # a holds the newest point. Where it replaces one of the same sign, halving b's slope keeps b
    # from staying for ever; else the old a becomes b, and encloses the root with it.
    moved = (middle, value, slope, b, slope_b / 2)
    turned = (middle, value, slope, a, slope_a)
    shrunk = (a, top, slope_a, middle, slope)
    inward = jax.tree.map(lambda x, y: jnp.where(crossing, x, y), turned, shrunk)
    return jax.tree.map(lambda x, y: jnp.where(uphill, x, y), moved, inward)


def _joint(logits, labels, weights, at, *, num_classes):
    probs = _soften(logits, jnp.exp(at[0]))
    return sum_by_class(weights[:, None] * probs, labels, num_classes)


def _log_likelihood(logits, labels, weights, at):
    u, conditional = at
    likelihood = jnp.sum(row_of_class(conditional, labels) * _soften(logits, jnp.exp(u)), 1)
    return jnp.sum(weights * jnp.log(jnp.where(weights > 0, likelihood, 1)))


def _sum_tangents(fn, rows, at, tangents):
    """Value and derivative of ``fn`` summed over samples, along ``tangents`` of ``at``."""

    def add_up(logits, labels, weights, at, tangents):
        return jax.jvp(lambda at: fn(logits, labels, weights, at), (at,), (tangents,))

    return sum_over_samples(add_up, rows, at, tangents)


def _soften(logits, temperature):
    # Clipped where even the highest temperature gives a probability of zero, so that dividing by
    # the lowest does not overflow.
    below = jnp.maximum(logits - logits.max(1, keepdims=True), -1e30)
    return jax.nn.softmax(below / temperature, axis=1)

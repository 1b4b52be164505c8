"""PED: SFDA after classes that overlap have pushed each other apart."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._moments import measure, spectrum_of
from leepjax.metrics._sfda import _sfda

EXIT = 0.5  # the motion ends where a step is no longer than this part of the first
LEAST_DEVIATION = 1e-3  # of a column of source features, as a part of the largest


def ped(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    source_features: ArrayLike | None = None,
    radius: float = 0.6,
    time_step: float = 0.1,
    num_steps: int = 6,
    where: ArrayLike | None = None,
    source_where: ArrayLike | None = None,
) -> jax.Array:
    r"""Potential energy decline: :func:`~leepjax.metrics.sfda` of moved features, in [0, 1].

    Larger is better. A class is a ball about its mean :math:`\mu_c` of radius
    :math:`r_c = \rho \sqrt{\mathrm{tr} S_c}`, for its covariance S_c (1/n_c) and
    :math:`\rho` = ``radius``. Balls that overlap repel each other like springs, as classes do while
    a network is fine-tuned. From rest, in a time step :math:`\tau` all samples of class a move by

    .. math:: \Delta_a = \sum_{b \ne a} \min(\tfrac12 \tau^2, 1)\, F_{ab}
              \frac{\mu_a - \mu_b}{\lVert \mu_a - \mu_b \rVert}, \qquad
              F_{ab} = \max(r_a + r_b - \lVert \mu_a - \mu_b \rVert, 0)

    up to ``num_steps`` times, until :math:`\sum_a \lVert \Delta_a \rVert_1` is at most half of
    what it was in the first step; then SFDA is taken of the moved features. Distances are those of
    features divided, column by column, by the standard deviation of ``source_features``, what the
    same network makes of its own pre-training data; without them, of the features as they are.

    Classes whose means coincide have no direction to be pushed in, and exert no force. One class,
    or no overlap, gives plain SFDA, whose limits and whose shrinkage apply. Absent classes change
    nothing.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      source_features: ``[m, d]`` floating-point features of source data. Deviations below 1e-3 of
        the largest count as that much.
      radius: of a class, in standard deviations; > 0. The authors use 0.3 or 0.6.
      time_step: > 0.
      num_steps: the most steps, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      source_where: ``[m]`` bool, the source samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.5]])
      >>> print(f"{ped(features, jnp.array([0, 0, 1, 1, 0]), num_classes=2, radius=2.0):.4f}")
      0.9454

    Source: Li, Hu, Ge, Shan, Duan, "Exploring Model Transferability through the Lens of Potential
    Energy", ICCV 2023.
    """
    if source_features is None:
        if source_where is not None:
            raise ValueError("source_where: wanted None without source_features, got an array")
        scale = jnp.ones(())
    else:
        try:
            scale = evaluate(_deviation, features=source_features, where=source_where)
        except ValueError as error:
            raise ValueError(f"source_{error}") from None
    return evaluate(
        _ped,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        given={"scale": scale},
        radius=check_number("radius", radius, positive=True),
        time_step=check_number("time_step", time_step, positive=True),
        num_steps=check_count("num_steps", num_steps),
    )


def _deviation(features, weights, some):
    """``[d]`` standard deviation of each column, relative to the largest."""
    included = (weights > 0)[:, None]
    g = jnp.where(included, features - features[some[0]][None], 0)
    size = jnp.abs(g).max()
    g = g / jnp.where(size > 0, size, 1)
    g = jnp.where(included, g - (g.sum(0) / weights.sum())[None], 0)
    deviation = jnp.sqrt(jnp.sum(g * g, 0) / weights.sum())
    largest = deviation.max()
    return jnp.where(largest > 0, jnp.maximum(deviation / largest, LEAST_DEVIATION), 1)


def _ped(
    features, labels, weights, moments, some, scale, *, num_classes, radius, time_step, num_steps
):
    if scale.shape not in ((), features.shape[1:]):
        wanted = f"as many columns as features, {features.shape[1]}"
        raise ValueError(f"source_features: wanted {wanted}, got {scale.shape[0]}")
    included, present = weights > 0, moments.counts > 0
    counts = jnp.where(present, moments.counts, 1)
    # In units that cancel: forces grow with the features.
    g = (features - moments.shift[None]) / moments.unit - moments.centre[None]
    g = jnp.where(included[:, None], g, 0)
    scale = jnp.broadcast_to(scale.astype(g.dtype), g.shape[1:])
    start = moments.class_sums / counts[:, None]
    residual = jnp.where(included[:, None], (g - start[labels]) / scale[None], 0)
    variance = jax.ops.segment_sum(jnp.sum(residual**2, 1), labels, num_classes) / counts
    radii = radius * jnp.sqrt(variance)
    start = start / scale[None]
    motion = min(time_step**2 / 2, 1.0)

    def step(_, state):
        means, longest, going = state

        def move(a):
            apart = means[a][None] - means
            distance = jnp.sqrt(jnp.sum(apart * apart, 1))
            overlap = jnp.maximum(radii[a] + radii - distance, 0)
            pushed = present & present[a] & (distance > 0)
            along = jnp.where(pushed, motion * overlap / jnp.where(pushed, distance, 1), 0)
            return jnp.matmul(along, apart, precision="highest")

        moved = jax.lax.map(move, jnp.arange(num_classes))
        length = jnp.sum(jnp.abs(moved))
        longest = jnp.where(longest < 0, length, longest)
        going = going & (length > EXIT * longest)
        return jnp.where(going, means + moved, means), longest, going

    initial = start, -jnp.ones((), start.dtype), jnp.ones((), bool)
    means, _, _ = jax.lax.fori_loop(0, num_steps, step, initial)
    g = moments.unit * (g + ((means - start) * scale[None])[labels])
    g = jnp.where(included[:, None], g, 0)
    moments = measure(g, labels, weights, some=some, num_classes=num_classes)
    return _sfda(g, labels, weights, moments, spectrum_of(moments), num_classes=num_classes)

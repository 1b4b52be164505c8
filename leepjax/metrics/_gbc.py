"""GBC: how much the classes overlap, each seen as a Gaussian."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_choice, check_count
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics.platform import product, row_of_class, sum_by_class

FLOOR = 1e-4  # of a variance, in the features' own unit squared
GAP = 1e-6  # eigenvalues closer than this part of the larger are not told apart


def gbc(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    covariance: str = "diagonal",
    num_components: int | None = 64,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Gaussian Bhattacharyya coefficient, -c(c - 1) <= GBC <= 0 for c classes present.

    Larger is better: 0 means that no two classes overlap, -c(c - 1) that all coincide.

    .. math:: \mathrm{GBC} = -\sum_{a \ne b} e^{-D(a, b)}, \qquad
              D(a, b) = \sum_j \left( \frac{(\mu_{aj} - \mu_{bj})^2}{8\,\bar v_j}
              + \frac12 \log \frac{\bar v_j}{\sqrt{v_{aj} v_{bj}}} \right), \qquad
              \bar v_j = \frac{v_{aj} + v_{bj}}2

    over ordered pairs of classes. The variances :math:`v_{cj}` (1/n_c) are floored at 1e-4, so the
    unit of the features matters: where they are as small as that, rescale them first. They are
    taken along the first ``num_components`` principal directions (as many as the rank, where that
    is less): D grows with the number of directions, and with hundreds of them the coefficients
    underflow. Absent classes change nothing; one class gives 0, constant features -c(c - 1).

    Principal directions whose eigenvalues coincide are arbitrary, and with ``"diagonal"`` so is
    then the value; the first of several equal eigenvalues beyond ``num_components`` likewise.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      covariance: ``"diagonal"``, or ``"spherical"``: one variance a class, the mean of the floored
        ones over directions. (Published code counts the logarithm of the latter once, not once a
        direction, and so is no Bhattacharyya distance.)
      num_components: number of principal directions, a Python int; ``None``: the features as given.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``features`` and
      ``weights``, through the principal directions too; those whose eigenvalues coincide (to 1e-6)
      are held constant.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{gbc(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -0.0012

    Source: Pándy, Agostinelli, Uijlings, Ferrari, Mensink, "Transferability Estimation using
    Bhattacharyya Class Separability", CVPR 2022.
    """
    check_choice("covariance", covariance, ("diagonal", "spherical"))
    if num_components is not None:
        num_components = check_count("num_components", num_components)
    return evaluate(
        _gbc_of_features if num_components is None else _gbc,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
        covariance=covariance,
        num_components=num_components,
    )


def _gbc(features, labels, weights, spectrum, *, num_classes, covariance, num_components):
    g, unit = centred(features, weights)
    k = min(num_components, features.shape[1])
    descending = spectrum.eigenvalues[::-1], spectrum.vectors[:, ::-1]
    z = principal_coordinates(g, weights, *descending, k)
    return _overlap(z, spectrum.kept[::-1][:k], unit, labels, weights, num_classes, covariance)


def _gbc_of_features(features, labels, weights, *, num_classes, covariance, num_components):
    g, unit = centred(features, weights)
    every = jnp.ones(features.shape[1], bool)
    return _overlap(g, every, unit, labels, weights, num_classes, covariance)


def centred(features, weights):
    """Centred features in units of the largest, and that unit."""
    included = weights > 0
    # About a sample first, so that a large common offset leaves no rounding behind.
    g = jnp.where(included[:, None], features - features[jnp.argmax(included)][None], 0)
    unit = jax.lax.stop_gradient(jnp.abs(g).max())
    unit = jnp.where(unit > 0, unit, 1)
    g = g / unit
    mean = product(weights, g) / weights.sum()
    return jnp.where(included[:, None], g - mean[None], 0), unit


def _overlap(z, kept, unit, labels, weights, num_classes, covariance):
    """GBC of coordinates ``z [n, k]`` in units of ``unit``, counting the directions ``kept``."""
    z = jnp.where(kept[None], z, 0)
    counts = sum_by_class(weights, labels, num_classes)
    present = counts > 0
    divisor = jnp.where(present, counts, 1)[:, None]
    means = sum_by_class(weights[:, None] * z, labels, num_classes) / divisor
    square = jnp.square(z - row_of_class(means, labels))
    variances = sum_by_class(weights[:, None] * square, labels, num_classes) / divisor
    # The floor in this unit; far outside the bounds nothing but the range of float32 is at stake.
    floor = jnp.clip(jnp.square(FLOOR**0.5 / unit), 1e-30, 1e30)
    variances = jnp.maximum(variances, floor)
    if covariance == "spherical":
        number = jnp.maximum(kept.sum(), 1)
        mean = jnp.where(kept[None], variances, 0).sum(1, keepdims=True) / number
        variances = jnp.broadcast_to(jnp.maximum(mean, floor), variances.shape)
    logs = jnp.log(variances)

    @jax.checkpoint  # the gradient needs no [c, c, k] either
    def row(a):
        mean_variance = (variances[a][None] + variances) / 2
        apart = jnp.square(means[a][None] - means) / (8 * mean_variance)
        unlike = (jnp.log(mean_variance) - (logs[a][None] + logs) / 2) / 2
        distance = jnp.where(kept[None], apart + unlike, 0).sum(1)
        other = present & present[a] & (jnp.arange(num_classes) != a)
        return jnp.sum(jnp.where(other, -jnp.exp(-jnp.maximum(distance, 0)), 0))

    return jax.lax.map(row, jnp.arange(num_classes)).sum()


def principal_coordinates(g, weights, eigenvalues, vectors, k):
    """Coordinates ``[n, k]`` of centred ``g`` along its first k principal directions.

    ``eigenvalues [d]``, in any unit, and ``vectors [d, d]`` are in descending order, as an
    eigensolver in this precision leaves them: good to the rounding of the *largest* eigenvalue. For
    small eigenvalues, or close ones among thousands, two Newton steps make the first k directions
    good to the rounding of the data. The second carries the gradient: to first order it is the
    whole dependence of the directions on the data, without the division by zero that the derivative
    of an eigensolver has where eigenvalues coincide.
    """
    identity = jnp.eye(vectors.shape[0], dtype=g.dtype)
    eigenvalues, vectors = jax.lax.stop_gradient((eigenvalues, vectors))
    fixed, fixed_weights = jax.lax.stop_gradient((g, weights))
    turn = _rotation(fixed, fixed_weights, eigenvalues, vectors, k)[1]
    # The other directions give way: a rotation is antisymmetric to first order.
    step = jnp.zeros_like(identity).at[:, :k].set(turn).at[:k, k:].set(-turn[k:].T)
    vectors = product(vectors, identity + step)
    defect = 3 * identity - product(vectors.T, vectors)
    vectors = product(vectors, defect / 2)  # orthonormal again
    z, turn = _rotation(g, weights, eigenvalues, vectors, k)
    return z + product(g, product(vectors, turn))


def _rotation(g, weights, eigenvalues, vectors, k):
    """Coordinates ``z [n, k]`` along the first k vectors, and R ``[d, k]`` that turns these right.

    Those of ``vectors (1 + R)`` are nearly uncorrelated with the coordinates along all the others.
    """
    z = product(g, vectors[:, :k])
    along = product(g.T, weights[:, None] * z)  # no [n, d] beside g
    gram = product(vectors.T, along)
    power = jax.lax.stop_gradient(product(weights, jnp.square(z)))
    unit = power[0] / jnp.where(eigenvalues[0] > 0, eigenvalues[0], 1)
    every = jnp.concatenate([power, eigenvalues[k:] * unit])
    gap = power[None] - every[:, None]
    apart = jnp.abs(gap) > GAP * jnp.maximum(power[None], every[:, None])
    small = apart & (4 * jnp.abs(gram) < jnp.abs(gap))
    return z, jnp.where(small, gram / jnp.where(small, gap, 1), 0)

"""LogME: how probable the labels are under a Bayesian linear model of the features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._kernel import Kernel
from leepjax.metrics._moments import RTOL, Moments, Spectrum
from leepjax.metrics._of_moments import evaluate_moments

LOWEST, HIGHEST = 1e-6, 1e9  # bounds of t, in mean non-zero eigenvalues of the scatter
GRID, ZOOMS, ZOOM = 121, 9, 9  # eight points a decade; then each zoom narrows fourfold


def logme(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Log maximum evidence of the labels given the features, per sample; larger is better.

    .. math:: \frac{1}{c} \sum_y \max_{\alpha, \beta}
        \frac{1}{n} \log p(\mathbb{1}_y \mid f, \alpha, \beta)

    over the classes present: the one-hot column of a class is a Gaussian of precision beta about
    :math:`f w`, the weights w have a Gaussian prior of precision alpha, and f has no constant
    column. For t = alpha / beta the best beta is known, and

    .. math:: \frac{1}{n} \log p = -\frac{1}{2} \Big[ \frac{1}{n} \log\det(I + f^\top f / t)
        + \log \frac{2 \pi\, q(t)}{n} + 1 \Big], \qquad
        q(t) = y^\top (I + f f^\top / t)^{-1} y

    which is maximised over t by a search of the whole range, 1e-6 to 1e9 times the mean non-zero
    eigenvalue of the scatter of f: it may have two maxima, and is unbounded as t goes to 0 where
    features fit a class exactly. Widely used code iterates alpha and beta a few times instead, and
    drops a term for d > n: there pure noise outranks informative features.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent ones are left out of the mean.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar, of any sign; NaN for invalid values under ``jit`` or ``vmap``. Differentiable. In
      float32 the residual of a class that features fit to within 1e-4 of its variance is rounding,
      and so is the score then; float64 (``jax_enable_x64``) restores it.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{logme(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -0.6490

    Source: You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer
    Learning", ICML 2021.
    """
    return evaluate(
        _logme,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


def logme_from_moments(moments: Moments) -> jax.Array:
    """:func:`logme` of ``leepjax.metrics.moments`` alone."""
    return evaluate_moments(_logme, moments)


def logme_regression(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """LogME of real targets: the mean over target columns of their log evidence per sample.

    As :func:`logme` with the columns of ``targets`` in the place of one-hot classes, so multi-label
    targets are columns of 0 and 1. Unlike for classes the unit of the targets matters: the evidence
    is a density, and twice the target is log 2 less. A column that is zero throughout is left out;
    one column at least must not be.

    Args:
      features: ``[n, d]`` floating-point features.
      targets: ``[n]`` or ``[n, t]`` floating-point targets.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar, larger is better; NaN for invalid values under ``jit`` or ``vmap``. Differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{logme_regression(features, jnp.array([0.1, 0.2, 1.5, 1.8])):.4f}")
      -0.1737

    Source: as for :func:`logme`.
    """
    return evaluate(
        _logme_regression, features=features, targets=targets, where=where, weights=weights
    )


def logme_regression_from_moments(moments: Moments) -> jax.Array:
    """:func:`logme_regression` of ``leepjax.metrics.moments`` with targets alone."""
    return evaluate_moments(_logme_regression, moments)


def _logme(moments, spectrum):
    p = moments.counts / moments.total
    ys = _Columns(p, moments.counts * (1 - p), moments.class_sums)
    present = moments.counts > 0
    evidence = _max_evidence(ys, present, moments, spectrum)
    return jnp.sum(jnp.where(present, evidence, 0)) / jnp.sum(present)


class _Columns(NamedTuple):
    """What the evidence needs of k target columns y: all that moments know of them."""

    mean: jax.Array  # [k]
    variation: jax.Array  # [k] the sum of squares about the mean
    products: jax.Array  # [k, d] sums of (y - mean) g


def _regression(moments, spectrum):
    targets, n = moments.targets, moments.total
    centre = targets.sums / n
    variation = jnp.maximum(targets.squares - n * centre**2, 0)
    products = targets.products - n * centre[:, None] * moments.centre[None]
    ys = _Columns(targets.shift + centre, variation, products)
    present = variation + ys.mean**2 > 0
    evidence = _max_evidence(ys, present, moments, spectrum)
    return jnp.sum(jnp.where(present, evidence, 0)) / jnp.sum(present)


_logme_regression = Kernel(
    _regression,
    undefined="targets: wanted a column that is not zero throughout, got none",
    targets=True,
)


def _max_evidence(ys: _Columns, present, moments: Moments, spectrum: Spectrum):
    r"""``[k]`` the log evidence per sample of each column, at its best t.

    With f = f0 + 1 m^T, f0 centred, of scatter A = V diag(sigma) V^T, and in that basis
    s = f0^T y, m: for D = 1 / (t + sigma), beta = sum s m D, gamma = sum m^2 D

        q(t) = r + t sum s^2 D / sigma + n (mean(y) - beta)^2 / (1 + n gamma)
        log det(I + f^T f / t) = sum log1p(sigma / t) + log1p(n gamma)

    by the formulas of Sherman, Morrison and of Woodbury; r = |y - mean(y)|^2 - sum s^2 / sigma is
    the residual of least squares. No term is negative, so nothing cancels, and a common offset of
    the features, however large, is in m alone.
    """
    n, constant = moments.total, jax.lax.stop_gradient
    sigma = constant(n) * spectrum.eigenvalues
    s = jnp.matmul(ys.products, spectrum.vectors, precision="highest")
    s = jnp.where(spectrum.kept[None], s, s - constant(s))
    m = jnp.matmul(moments.mean, spectrum.vectors, precision="highest")[None]

    def evidence(quadratic, beta, gamma, logdet):
        q = quadratic + n * (ys.mean[:, None] - beta) ** 2 / (1 + n * gamma)
        q = jnp.maximum(q, jnp.finfo(q.dtype).tiny)
        return -0.5 * ((logdet + jnp.log1p(n * gamma)) / n + jnp.log(2 * jnp.pi * q / n) + 1)

    inverse = jnp.where(spectrum.kept, 1 / jnp.where(spectrum.kept, sigma, 1), 0)
    explained = constant(s * s * inverse[None])
    residual = constant(ys.variation) - explained.sum(1)
    # With as many dimensions as degrees of freedom every column is fitted exactly.
    rank = jnp.sum(spectrum.kept)
    exact = (rank >= moments.rank_bound) | (residual <= RTOL * ys.variation)
    residual = jnp.where(exact, 0, residual)[:, None]

    def at(t):
        """The evidence at t ``[k, z]``, or ``[1, z]`` for all columns."""
        d = 1 / (t[:, :, None] + sigma[None, None])
        return evidence(
            residual + t * _sum_over_d(explained, d),
            _sum_over_d(s * m, d),
            _sum_over_d(m * m, d),
            jnp.sum(jnp.log1p(sigma[None, None] / t[:, :, None]), 2),
        )

    # t's bounds follow the features; between them the evidence does not depend on t to first order.
    scatter = jnp.sum(sigma) + jnp.trace(moments.scatter) - constant(jnp.trace(moments.scatter))
    offset = n * jnp.sum(moments.mean**2)
    scale = jnp.where(rank > 0, scatter / jnp.maximum(rank, 1), offset)
    scale = jnp.where(scale > 0, scale, 1)
    t = scale * constant(_best_ratio(lambda ratio: at(scale * ratio), scale, ys.mean.shape[0]))

    # What turns with the eigenvectors enters to first order, as (A + E)^-1 = A^-1 - A^-1 E A^-1, so
    # that eigenvalues may coincide.
    d = 1 / (t + sigma[None])
    sd, md = s * d, m * d
    e = n * spectrum.perturbation + jnp.diag((n - constant(n)) * spectrum.eigenvalues)
    e_sd, e_md = (jnp.matmul(x, e, precision="highest") for x in (sd, md))
    moving = ys.variation - jnp.sum(s * sd - sd * e_sd, 1)
    quadratic = constant(residual + t * jnp.sum(explained * d, 1, keepdims=True))
    return evidence(
        quadratic + (moving - constant(moving))[:, None],
        jnp.sum(s * md - md * e_sd, 1, keepdims=True),
        jnp.sum(m * md - md * e_md, 1, keepdims=True),
        jnp.sum(jnp.log1p(sigma[None] / t) + jnp.diag(e)[None] * d, 1, keepdims=True),
    )[:, 0]


def _sum_over_d(weights, d):
    """Sums ``[k, z]`` of weights ``[k, d]`` times d ``[k, z, d]``; either may be shared, k = 1."""
    if d.shape[0] == 1:
        return jnp.matmul(weights, d[0].T, precision="highest")
    return jnp.sum(weights[:, None] * d, 2)


def _best_ratio(at, scale, k):
    """``[k, 1]`` each column's best t / scale: a grid over the whole range, then zooms into it."""
    grid = jnp.linspace(jnp.log(LOWEST), jnp.log(HIGHEST), GRID, dtype=scale.dtype)
    width = grid[1] - grid[0]
    start = grid[jnp.argmax(at(jnp.exp(grid)[None]), 1)][:, None]

    def zoom(i, best):
        around = width * (2 / (ZOOM - 1)) ** i * jnp.linspace(-1, 1, ZOOM, dtype=scale.dtype)
        log_ratio = jnp.clip(best + around[None], grid[0], grid[-1])
        values = at(jnp.exp(log_ratio))
        return jnp.take_along_axis(log_ratio, jnp.argmax(values, 1)[:, None], 1)

    return jnp.exp(jax.lax.fori_loop(0, ZOOMS, zoom, jnp.broadcast_to(start, (k, 1))))

"""TransRate: bits that classes save in coding the features."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._by_class import (
    LARGE,
    derive_from,
    gram_of_class,
    map_class_grams,
    sort_by_class,
    take_rows,
)
from leepjax.metrics._checks import check_choice
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._moments import RTOL, Moments
from leepjax.metrics._of_moments import evaluate_moments
from leepjax.metrics._sums import is_spread
from leepjax.metrics.platform import eigh

SIZES = (64, 128, 256, 512, 1024, 2048)  # rows of a class, padded: few programs, little waste
CLASS_WEIGHTS = ("uniform", "proportional")
SURE = 1e-4  # pivots above this part of the largest are far above their rounding
EPSILON = 1e-4  # the squared distortion of the code


def transrate(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    class_weights: str = "uniform",
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""TransRate, in nats; larger is better.

    .. math:: R(f) - \sum_c w_c R(f_c), \qquad
        R(Z) = \tfrac{1}{2} \log\det\Big( I + \frac{Z^\top Z}{n_Z\, \epsilon} \Big),
        \quad \epsilon = 10^{-4}

    with f centred once, by the mean of all samples: the rate that codes the features to a
    distortion of epsilon, less the rate when the class is known. ``class_weights`` w are
    ``"uniform"``, one over the number of classes present, as the authors' code has it, or
    ``"proportional"``, the class frequencies; on skewed classes they are far apart. Epsilon is
    absolute, so the unit of the features matters. One class, or features that do not vary, give 0.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      class_weights: ``"uniform"`` or ``"proportional"``.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar, >= 0 where proportional; NaN for invalid values under ``jit`` or ``vmap``.
      Differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{transrate(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      0.0265

    Source: Huang, Huang, Rong, Yang, Wei, "Frustratingly Easy Transferability Estimation", ICML
    2022.
    """
    check_choice("class_weights", class_weights, CLASS_WEIGHTS)
    return evaluate(
        _transrate,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
        class_weights=class_weights,
    )


def transrate_from_moments(moments: Moments, *, class_weights: str = "uniform") -> jax.Array:
    """:func:`transrate` of ``leepjax.metrics.moments`` by class alone."""
    check_choice("class_weights", class_weights, CLASS_WEIGHTS)
    if isinstance(moments, Moments) and moments.gram.ndim != 3:
        raise ValueError("moments: wanted Gram matrices by class, of moments.init(by_class=True)")
    return evaluate_moments(_transrate_of_moments, moments, class_weights=class_weights)


def _transrate_of_moments(moments, *, class_weights):
    unit, m = moments.unit, moments.centre

    def of_class(gram, sums, count):
        centred = gram - jnp.outer(sums, m) - jnp.outer(m, sums) + count * jnp.outer(m, m)
        return _rate(unit**2 * centred, count)

    # One class after the other: each takes a factorisation, and d x d arrays of its own.
    rates = jax.lax.map(lambda c: of_class(*c), (moments.gram, moments.sums, moments.counts))
    every = _rate(moments.unit**2 * moments.scatter, moments.total)
    return _gain(moments, every, rates, class_weights)


def _transrate(features, labels, weights, moments, *, num_classes, class_weights):
    g = features - (moments.unit * moments.mean)[None]
    rates = _class_rates(g, labels, weights, moments.counts)
    if len(g) < g.shape[1]:
        every = _rate(_gram((_root(weights)[:, None] * g).T), moments.total)
    else:
        every = _rate(moments.unit**2 * moments.scatter, moments.total)
    return _gain(moments, every, rates, class_weights)


def _class_rates(g, labels, weights, counts):
    """``[c]`` the rate of each class: of its rows where they are fewer than dimensions.

    I + Z^T Z / a and I + Z Z^T / a have one determinant. The smaller is the cheaper, and is without
    the other's d - n_c eigenvalues of 1, which float32 loses beside large ones.
    """
    (n, d), num_classes = g.shape, len(counts)
    if is_spread():
        return map_class_grams(lambda count, gram: _rate(gram, count), g, labels, weights, counts)

    def masked(g, labels, weights, counts):
        @jax.checkpoint
        def of_class(c):
            z = _root(jnp.where(labels == c, weights, 0))[:, None] * g
            return _rate(_gram(z) if n >= d else _gram(z.T), counts[c])

        return jax.lax.map(of_class, jnp.arange(num_classes))

    def gathered(g, labels, weights, counts):
        by_class = sort_by_class(labels, weights, num_classes)
        sizes = [size for size in SIZES if size < d]

        def of_class(c):
            start, end = by_class.bounds[c], by_class.bounds[c + 1]

            def of_rows(size):
                x, w = take_rows(by_class, start, end, size, g, weights)
                return _rate(_gram((_root(w)[:, None] * x).T), counts[c])

            ways: list[Callable[[], jax.Array]] = [partial(of_rows, size) for size in sizes]
            ways.append(lambda: _rate(gram_of_class(by_class, c, g, weights), counts[c]))
            fitting = jnp.searchsorted(jnp.array(sizes, end.dtype), end - start)
            return jax.lax.switch(fitting, ways)

        return jax.lax.map(of_class, jnp.arange(num_classes))

    if g.size < LARGE:
        return masked(g, labels, weights, counts)
    return derive_from(gathered, masked)(g, labels, weights, counts)


def _root(weights):
    positive = weights > 0  # the root has no derivative at 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, weights, 1)), 0)


def _gram(z):
    return jnp.matmul(z.T, z, precision="highest")


def _gain(moments, every, rates, class_weights):
    present = moments.counts > 0
    share = moments.counts if class_weights == "proportional" else present
    return every - jnp.sum(share * rates) / jnp.sum(share)


def _rate(gram, count):
    """Half of log det(I + G / a), of the eigenvalues that count by the rank rule."""
    return derive_from(_by_factor, _by_spectrum)(gram, count)


def _by_factor(gram, count):
    """By a Cholesky factor, a tenth of the time, where its pivots show that rounding is small.

    Where G / a is large and of low rank they do not: in float32 it may not even be positive.
    """
    a = jnp.where(count > 0, count, 1) * EPSILON
    factor = jnp.linalg.cholesky(jnp.eye(len(gram), dtype=gram.dtype) + gram / a)
    pivots = jnp.square(jnp.diagonal(factor))  # NaN where it broke
    least = jnp.min(jnp.where(jnp.diagonal(gram) > 0, pivots, jnp.inf))  # padding has exactly 1
    return jax.lax.cond(
        least > SURE * pivots.max(),
        lambda: jnp.sum(jnp.log(pivots)) / 2,
        lambda: _by_spectrum(gram, count),
    )


def _by_spectrum(gram, count):
    """By eigenvalues, without those that are rounding.

    The gradient is (a I + G)^-1 / 2 with the eigenvectors held constant, so eigenvalues may
    coincide.
    """
    a = jnp.where(count > 0, count, 1) * EPSILON
    constant = jax.lax.stop_gradient(gram)
    eigenvalues, vectors = eigh(constant)
    eigenvalues = jnp.where(eigenvalues > RTOL * eigenvalues[-1], eigenvalues, 0)
    scaled = vectors / (jax.lax.stop_gradient(a) + eigenvalues)[None]
    inverse = jnp.matmul(scaled, vectors.T, precision="highest")
    return (jnp.sum(jnp.log1p(eigenvalues / a)) + jnp.sum(inverse * (gram - constant))) / 2

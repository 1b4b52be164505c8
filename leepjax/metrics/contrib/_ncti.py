"""NCTI: how near features are to the neural collapse that fine-tuning ends in; its three parts."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._by_class import BLOCK, sort_by_class, take_rows
from leepjax.metrics._checks import check_count
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._gbc import centred, principal_coordinates
from leepjax.metrics.platform import eigh, sum_by_class

LEADING = 32  # principal variances that say how much to shrink
LEAST_SHRINKAGE = 1e-6
LEAST_SPREAD = 1e-6  # within classes, as a part of the total
SIZES = (16, 64, 256, 1024)  # rows of a class, padded: few programs, little waste


class NCTI(NamedTuple):
    """The parts of NCTI, scalars; of each, larger is better."""

    geometry: jax.Array
    centres: jax.Array
    compactness: jax.Array


def ncti(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_components: int = 64,
    where: ArrayLike | None = None,
) -> NCTI:
    r"""The three parts of NCTI: ``(geometry, centres, compactness)``; of each, larger is better.

    To rank a pool of models, scale each part to [0, 1] by its least and largest value in the pool,
    and add the three; no such value belongs to one model, so it is left to the ranking.

    z are the first ``num_components`` principal coordinates of the features (as many as the rank,
    where that is less, k), in which a linear discriminant is fitted,

    .. math:: p(c \mid z) \propto \tfrac{n_c}n
              \exp\left( -\tfrac12 (z - \mu_c)^\top S^{-1} (z - \mu_c) \right), \qquad
              S = (1 - s) S_w + s\,\tfrac{\mathrm{tr} S_w}{k} I, \qquad
              s = \max(e^{-\sum_{j \le 32} \lambda_j}, 10^{-6})

    with the within-class covariance :math:`S_w` (1/n) and the principal variances
    :math:`\lambda_j` (1/(n - 1)). With :math:`\lVert \cdot \rVert_*` the sum of singular values,

    * geometry :math:`= \lVert Z V \rVert_*`, for the centred z in rows and the c - 1 discriminant
      directions V (k, where that is less), orthonormal in S: of features of one size largest where
      class means are equally far apart (after the simplex-encoded-label interpolation, SELI).
      Between :math:`(c - 1) \sqrt n` and infinity where nothing is shrunk; grows with
      :math:`\sqrt n`.
    * centres :math:`= \tfrac1n \sum_i p(y_i \mid z_i)`, in [0, 1]: the nearest class mean is the
      right one.
    * compactness :math:`= -\log \sum_c \lVert P_c \rVert_*`, for the posteriors :math:`P_c`
      ``[n_c, c]`` of the samples of class c: within a class they vary little.

    s makes all depend on the unit of the features where they are small (sum of variances below
    about 14). One class gives (0, 1, -log(n)/2), constant features 0 for geometry and the class
    shares for posteriors. The mean diagonal of S_w counts as at least 1e-6 of that of the total
    covariance: it bounds geometry where classes have collapsed. Where class means coincide, the
    directions that are left are arbitrary, which matters only where s is not small. Absent classes
    change nothing.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      num_components: number of principal directions, a Python int.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      Three scalars; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.5]])
      >>> parts = ncti(features, jnp.array([0, 0, 1, 1, 0]), num_classes=2)
      >>> print(" ".join(f"{part:.4f}" for part in parts))
      6.6554 0.9998 -1.1463

    Source: Wang, Luo, Zheng, Huang, Baktashmotlagh, "How Far Pre-trained Models Are from Neural
    Collapse on the Target Dataset Informs their Transferability", ICCV 2023. Its code needs 64
    directions, subtracts the third part, and where s is not small shrinks the covariance between
    classes too, which mixes other directions into V.
    """
    return evaluate(
        _ncti,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        num_components=check_count("num_components", num_components),
    )


def ncti_geometry(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_components: int = 64,
    where: ArrayLike | None = None,
) -> jax.Array:
    """``geometry`` of :func:`ncti`, which see for all else: a scalar, larger is better."""
    parts = ncti(
        features, labels, num_classes=num_classes, num_components=num_components, where=where
    )
    return parts.geometry


def ncti_centres(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_components: int = 64,
    where: ArrayLike | None = None,
) -> jax.Array:
    """``centres`` of :func:`ncti`, which see for all else: a scalar, larger is better."""
    parts = ncti(
        features, labels, num_classes=num_classes, num_components=num_components, where=where
    )
    return parts.centres


def ncti_compactness(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_components: int = 64,
    where: ArrayLike | None = None,
) -> jax.Array:
    """``compactness`` of :func:`ncti`, which see for all else: a scalar, larger is better."""
    parts = ncti(
        features, labels, num_classes=num_classes, num_components=num_components, where=where
    )
    return parts.compactness


def _ncti(features, labels, weights, spectrum, *, num_classes, num_components):
    included = weights > 0
    n, counts = weights.sum(), sum_by_class(weights, labels, num_classes)
    present = counts > 0
    g, unit = centred(features, weights)
    k = min(num_components, features.shape[1])
    kept = spectrum.kept[::-1][:k]
    descending = spectrum.eigenvalues[::-1], spectrum.vectors[:, ::-1]
    z = principal_coordinates(g, weights, *descending, k)
    z = jnp.where(included[:, None] & kept[None], z, 0)

    means = sum_by_class(z, labels, num_classes) / jnp.where(present, counts, 1)[:, None]
    residual = jnp.where(included[:, None], z - means[labels], 0)
    power = jnp.sum(z * z, 0)
    residual, means = _whitened(residual, means, power, kept, n, unit)

    posterior = _posterior(residual, means, labels, counts)
    posterior = jnp.where(included[:, None], posterior, 0)
    centres = jnp.take_along_axis(posterior, labels[:, None], 1).sum() / n
    by_class = sort_by_class(labels, weights, num_classes)
    norms = jax.lax.map(lambda c: _nuclear_norm(posterior, by_class, c), jnp.arange(num_classes))

    # The discriminant directions are those in which whitened class means vary.
    _, _, directions = jnp.linalg.svd(jnp.sqrt(counts)[:, None] * means, full_matrices=False)
    number = jnp.minimum(present.sum() - 1, kept.sum())
    directions = jnp.where((jnp.arange(len(directions)) < number)[:, None], directions, 0)
    low = _product(jnp.where(included[:, None], residual + means[labels], 0), directions.T)
    everything = sort_by_class(jnp.zeros_like(labels), weights, 1)
    return NCTI(
        _nuclear_norm(low, everything, 0), jnp.minimum(centres, 1), -jnp.log(jnp.sum(norms))
    )


def _whitened(residual, means, power, kept, n, unit):
    """``residual [n, k]`` and ``means [c, k]`` in coordinates where S is the identity."""
    rank = jnp.maximum(kept.sum(), 1)
    variance = jnp.sum(power[:LEADING]) / jnp.maximum(n - 1, 1)
    s = jnp.maximum(jnp.exp(-variance * unit * unit), LEAST_SHRINKAGE)
    covariance = _product(residual.T, residual) / n
    diagonal = jnp.maximum(jnp.trace(covariance), LEAST_SPREAD * jnp.sum(power) / n) / rank
    diagonal = jnp.where(diagonal > 0, diagonal, 1)
    # For any T, S^-1 = T K^-1 T' with K = T'ST. T need only be a rough root of S^-1: K is near the
    # identity, and mends what eigh loses of small eigenvalues beside large ones.
    eigenvalues, basis = eigh(covariance)
    scale = jax.lax.rsqrt((1 - s) * jnp.maximum(eigenvalues, 0) + s * diagonal)
    t = basis * scale[None]
    residual, means = _product(residual, t), _product(means, t)
    near = (1 - s) * _product(residual.T, residual) / n + jnp.diag(s * diagonal * scale**2)
    solve = partial(jax.scipy.linalg.solve_triangular, jnp.linalg.cholesky(near), lower=True)
    return solve(residual.T).T, solve(means.T).T


def _posterior(residual, means, labels, counts):
    """``[n, c]`` of samples at ``residual`` from their class mean, in whitened coordinates."""
    # With r = z - mu_y, the exponents of class c and of the right class y differ by
    # -r.(mu_y - mu_c) - |mu_y - mu_c|^2 / 2: no large squares cancel.
    along = _product(residual, means.T)
    apart = jax.lax.map(lambda mean: jnp.sum(jnp.square(mean[None] - means), 1), means)
    exponents = along - jnp.take_along_axis(along, labels[:, None], 1) - apart[labels] / 2
    present = counts > 0
    log_share = jnp.log(jnp.where(present, counts, 1) / counts.sum())
    return jax.nn.softmax(jnp.where(present[None], exponents + log_share[None], -jnp.inf), axis=1)


def _nuclear_norm(x, by_class, c):
    """The sum of singular values of the rows of ``x [n, k]`` in class c.

    Not through eigenvalues of the Gram matrix: in float32 their rounding moves small singular
    values by as much as 3e-4 of the largest, and of confident posteriors, where nearly all are
    small, the sum by 3e-3. The triangular factor of a QR decomposition has the same singular
    values, to rounding, and is had by blocks of rows.
    """
    k, ones = x.shape[1], jnp.ones(x.shape[:1], x.dtype)
    start, end = by_class.bounds[c], by_class.bounds[c + 1]

    def rows(first, size):
        block, counted = take_rows(by_class, first, end, size, x, ones)
        return jnp.where(counted[:, None] > 0, block, 0)

    def add(i, factor):
        block = jnp.concatenate([factor, rows(start + i * BLOCK, BLOCK)])
        return jnp.linalg.qr(block, mode="r")

    def factor():
        zeros = jnp.zeros((k, k), x.dtype)
        return jax.lax.fori_loop(0, -(-(end - start) // BLOCK), add, zeros)

    def of(matrix):
        return jnp.linalg.svd(matrix, compute_uv=False).sum()

    def of_rows(size):
        return of(rows(start, size))

    sizes = [size for size in SIZES if size < k]
    ways = [*(partial(of_rows, size) for size in sizes), lambda: of(factor())]
    return jax.lax.switch(jnp.searchsorted(jnp.array(sizes, end.dtype), end - start), ways)


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")

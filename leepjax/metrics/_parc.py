"""PARC: do features tell pairs of images apart the way labels do?"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_key
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._gbc import principal_coordinates
from leepjax.metrics._kernel import Kernel
from leepjax.metrics.platform import eigh

RTOL = 1e-6  # principal directions with less than this part of the largest variance are left out


def parc(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_samples: int = 500,
    num_components: int | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Pairwise annotation representation comparison, in [-100, 100]; larger is better.

    .. math:: \mathrm{PARC} = 100\, \rho_{\mathrm{Spearman}}\left(
              \{1 - \mathrm{corr}(f_i, f_j)\}_{i<j},\ \{1 - \mathrm{corr}(y_i, y_j)\}_{i<j} \right)

    over the pairs of at most ``num_samples`` images drawn without replacement (all, where there are
    no more). Features are standardised by column over these images; corr is over columns, and of
    one-hot labels it has two values, so that only *same class or not* counts. Tied distances share
    their mean rank, and count as tied when closer than four units in the last place of 1. In
    single precision two distances may be as close as that by chance, which moves the score of 30
    images by about 0.002, and of more images by less.

    Constant features give 0, and so does a single feature, which has no correlation over columns;
    an image whose standardised features are all equal is at distance 1 from all. Where all pairs
    sampled are of one kind (one class, or no class twice) there is no value. The number of classes
    that are absent changes nothing.

    Args:
      key: a JAX random key; it matters only where there are more than ``num_samples`` samples.
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      num_samples: number of images to compare, a Python int; cost and memory go with its square.
      num_components: reduce the sampled features to so many principal components first, as the
        authors' code does with 32 (to the rank where that is less). Correlations over standardised
        components depend on the sign of each, which nothing in the data decides: here the loading
        largest in size is positive. ``None``, the default: the features as given.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values, and where there is no value, under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 5.0], [3.0, 3.0, 1.0], [2.0, 5.0, 0.0]])
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> print(f"{parc(jax.random.key(0), features, labels, num_classes=2):.4f}")
      82.8079

    Source: Bolya, Mittapalli, Hoffman, "Scalable Diverse Model Selection for Accessible Transfer
    Learning", NeurIPS 2021.
    """
    if num_components is not None:
        num_components = check_count("num_components", num_components)
    return evaluate(
        _parc,
        given={"key": check_key(key)},
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        num_samples=check_count("num_samples", num_samples),
        num_components=num_components,
    )


def _formula(key, features, labels, weights, *, num_classes, num_samples, num_components):
    index, valid = _draw(key, weights > 0, min(num_samples, features.shape[0]))
    x, kept = _centred(features[index], valid), jnp.ones(features.shape[1], bool)
    if num_components is not None:
        x, kept = _components(x, valid, num_components)
    x = _standardised(x, valid)
    # Correlation over columns; rounding of the mean must not pass for a difference of columns.
    mean = x.sum(1, keepdims=True) / jnp.maximum(kept.sum(), 1)
    centred = jnp.where(kept[None] & valid[:, None], x - mean, 0)
    size, full = jnp.linalg.norm(centred, axis=1), jnp.linalg.norm(x, axis=1)
    eps = jnp.finfo(x.dtype).eps
    varies = size > 64 * eps * full
    unit = jnp.where(varies[:, None], centred / jnp.where(varies, size, 1)[:, None], 0)
    correlation = jnp.matmul(unit, unit.T, precision="highest")
    # A pair is counted twice, which moves all ranks alike: Spearman's correlation stays.
    pair = valid[:, None] & valid[None] & ~jnp.eye(valid.shape[0], dtype=bool)
    ranks = _ranks(jnp.round(-correlation / (4 * eps)), pair)
    differ = (labels[index][:, None] != labels[index][None]).astype(x.dtype)
    number = jnp.maximum(pair.sum(), 1).astype(x.dtype)
    # Ranks, ties or not, have mean (number + 1) / 2.
    a = jnp.where(pair, (ranks - (number + 1) / 2) / number, 0)
    b = jnp.where(pair, differ - _total(jnp.where(pair, differ, 0)) / number, 0)
    scale = jnp.sqrt(_total(a * a)) * jnp.sqrt(_total(b * b))
    value = jnp.where(scale > 0, _total(a * b) / jnp.where(scale > 0, scale, 1), 0)
    both = (pair & (differ > 0)).any() & (pair & (differ == 0)).any()
    return jnp.where(both, 100 * jnp.clip(value, -1, 1), jnp.nan)


def _draw(key, included, m):
    """``index [m]`` of samples drawn without replacement, and which of them are included."""
    # By position among the included, so that masked rows between them change nothing.
    position = jnp.cumsum(included) - 1
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(position)
    lot = jax.vmap(lambda k: jax.random.uniform(k, dtype=jnp.float32))(keys)  # also under x64
    index = jax.lax.top_k(jnp.where(included, lot, -1), m)[1]
    return index, included[index]


def _centred(x, valid):
    x = jnp.where(valid[:, None], x - x[jnp.argmax(valid)][None], 0)
    unit = jnp.abs(x).max()
    x = x / jnp.where(unit > 0, unit, 1)
    mean = x.sum(0) / jnp.maximum(valid.sum(), 1)
    return jnp.where(valid[:, None], x - mean[None], 0)


def _components(x, valid, num_components):
    """Principal components ``[m, k]`` of centred ``x [m, d]``, and which of them there are."""
    m, d = x.shape
    k = min(num_components, m)
    # By the Gram of the m samples, which are few: x'u, for an eigenvector u, is a direction times
    # its singular value.
    values, vectors = eigh(jnp.matmul(x, x.T, precision="highest"))
    ones = jnp.ones(d, x.dtype)
    loadings = principal_coordinates(x.T, ones, values[::-1], vectors[:, ::-1], k)
    power = jnp.square(loadings).sum(0)
    kept = (power > RTOL * power.max()) & (jnp.arange(k) < valid.sum() - 1)
    largest = jnp.take_along_axis(loadings, jnp.abs(loadings).argmax(0)[None], 0)
    loadings = loadings * jnp.where(kept, jnp.sign(largest[0]), 0)[None]
    return jnp.matmul(x, loadings, precision="highest"), kept


def _standardised(x, valid):
    x = _centred(x, valid)
    deviation = jnp.linalg.norm(x, axis=0) / jnp.sqrt(jnp.maximum(valid.sum(), 1))
    return x / jnp.where(deviation > 0, deviation, 1)[None]


def _ranks(values, pair):
    """Ranks from 1 of ``values [m, m]`` among those where ``pair``, ties sharing their mean."""
    values = jnp.where(pair, values, jnp.inf).ravel()
    ascending = jnp.sort(values)
    below, upto = (jnp.searchsorted(ascending, values, side=side) for side in ("left", "right"))
    return ((below + upto + 1) / 2).astype(values.dtype).reshape(pair.shape)


def _total(matrix):
    return matrix.sum(1).sum()  # by rows: a plain sum of so many loses digits


_parc = Kernel(
    _formula,
    undefined="labels: wanted two samples of one class and two of different classes among the "
    "sampled, got pairs of one kind only",
)

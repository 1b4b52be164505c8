"""LFC: how well similarity of features agrees with sameness of labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_choice
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._kernel import Kernel
from leepjax.metrics._moments import Moments, sum_of_squares
from leepjax.metrics._of_moments import evaluate_moments

CENTERINGS = ("scalar", "double")


def lfc(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    centering: str = "scalar",
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-feature correlation, -1 <= LFC <= 1; larger is better.

    .. math:: \mathrm{LFC} = \frac{\sum_{ij} K_{ij} L_{ij}}{\lVert K \rVert \lVert L \rVert}

    for :math:`K = f f^\top` and L = 1 where two samples share their class, -1 elsewhere, both n x n
    and centred: ``"scalar"``, each minus its mean; ``"double"``, each minus the means of its rows
    and columns, as in centred kernel alignment, which a common offset of the features leaves alone.
    Computed from moments; no n x n array. Features that do not vary about their mean (``"double"``)
    or whose products are all the same (``"scalar"``) give 0.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``, of at least two classes.
      num_classes: number of classes, a Python int.
      centering: ``"scalar"`` or ``"double"``.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong, or one class alone is present;
        it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> print(f"{lfc(features, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      0.4529

    Source: Deshpande, Achille, Ravichandran, Li, Zancato, Fowlkes, Bhotika, Soatto, Perona, "A
    Linearized Framework and a New Benchmark for Model Selection for Fine-tuning", 2021.
    """
    check_choice("centering", centering, CENTERINGS)
    return evaluate(
        _lfc,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
        centering=centering,
    )


def lfc_from_moments(moments: Moments, *, centering: str = "scalar") -> jax.Array:
    """:func:`lfc` of ``leepjax.metrics.moments`` alone."""
    check_choice("centering", centering, CENTERINGS)
    return evaluate_moments(_lfc, moments, centering=centering)


def _formula(moments, *, centering):
    """With f = f0 + 1 m^T, f0 centred of scatter A, K is f0 f0^T plus (f0 m) 1^T plus its transpose
    plus a constant, mutually orthogonal: |K|^2 = |A|^2 + 2 n m^T A m without the constant. L is
    2 * same - 1; for the class sums s_c of f0, <f0 f0^T, same> = sum_c |s_c|^2 and
    <(f0 m) 1^T, same> = sum_c n_c m^T s_c.
    """
    n, p = moments.total, moments.counts / moments.total
    s, a = moments.class_sums, moments.scatter
    product, squares = sum_of_squares(s), sum_of_squares(a)
    # Shares of the other classes, not 1 - p, which cancels where one class is nearly all.
    others = 1 - jnp.eye(len(p), dtype=p.dtype)
    rest, p2 = jnp.matmul(others, p, precision="highest"), p * p
    if centering == "double":
        # |centred same|^2 / n^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2
        labels = jnp.sum(p2 * rest**2) + jnp.sum(p2 * jnp.matmul(others, p2, precision="highest"))
    else:
        m = moments.mean
        product += 2 * jnp.sum(p[:, None] * s * n * m[None])
        squares += 2 * n * jnp.sum(m * jnp.matmul(a, m, precision="highest"))
        labels = jnp.sum(p2) * jnp.sum(p * rest)
    one_class = jnp.sum(p > 0) < 2
    norm = (
        jnp.sqrt(jnp.where(squares > 0, squares, 1)) * n * jnp.sqrt(jnp.where(one_class, 1, labels))
    )
    return jnp.where(one_class, jnp.nan, jnp.where(squares > 0, product / norm, 0))


_lfc = Kernel(_formula, undefined="labels: wanted at least two classes, got one")

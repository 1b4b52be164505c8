"""EMMS: how well a linear map finds the embeddings of the labels."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._kernel import Kernel

GAP = 1e-6  # of the score to its optimum over mixtures
STEPS = 2000


def emms(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    label_embeddings: ArrayLike | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the least squared error of regressing a mixture of label embeddings, in [-1, 0].

    Larger is better; 0 where the labels are a linear function of the features.

    .. math:: -\min_{t \in \Delta,\; W} \frac1{n p}
              \Big\lVert X W - \sum_k t_k Z_k \Big\rVert_F^2

    for centred features X ``[n, d]`` and k embeddings of each sample's label, :math:`Z_k`
    ``[n, p]``, each column standardised over the samples (1/n); t are weights >= 0 of sum one.
    Columns that do not vary are left out, and p counts those that vary in any embedding. One-hot
    labels, the default, leave nothing to mix: the score is then the mean over classes of
    :math:`R^2`, less 1. Embeddings are typically those of the class names by several language
    models; for a text of its own for each sample, make each sample a class.

    With the best W the loss is :math:`t^\top Q t` for the products Q ``[k, k]`` of residuals, and
    convex; t is found by alternating the best W with a projected gradient step, until within 1e-6
    of the minimum (or 2,000 steps). W has no part in directions in which features do not vary (the
    rank rule: eigenvalues of their covariance above 1e-6 of the largest, at most n - 1), so with
    n <= d in general position the score is 0 *whatever the features*, and -1 where features are
    constant. Absent classes change nothing.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``, of at least two classes.
      num_classes: number of classes, a Python int.
      label_embeddings: ``[k, num_classes, p]`` floating point; default the identity (k = 1).
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``features`` and
      ``weights``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong, or the embeddings are the same
        for all samples; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0], [1.0, 2.5]])
      >>> print(f"{emms(features, jnp.array([0, 0, 1, 1, 0]), num_classes=2):.4f}")
      -0.1116

    Source: Meng, Shao, Peng, Jiang, Zhang, Qiao, Luo, "Foundation Model is Efficient Multimodal
    Multitask Model Selector", NeurIPS 2023. Its code stops after one step, and multiplies by p
    where it means to divide: on one-hot labels ours times p^2.
    """
    c = check_count("num_classes", num_classes)
    return evaluate(
        _emms,
        features=features,
        labels=labels,
        num_classes=c,
        where=where,
        weights=weights,
        given={
            "embeddings": jnp.eye(c)[None]
            if label_embeddings is None
            else _check_embeddings(label_embeddings, c)
        },
    )


def _check_embeddings(embeddings: ArrayLike, num_classes: int) -> jax.Array:
    name = "label_embeddings"
    x = jnp.asarray(embeddings)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name}: wanted floating-point numbers, got dtype {x.dtype}")
    if x.ndim != 3 or x.shape[1] != num_classes or 0 in x.shape:
        wanted = f"[embeddings, {num_classes} classes, columns]"
        raise ValueError(f"{name}: wanted shape {wanted}, got {list(x.shape)}")
    if not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(f"{name}: wanted finite numbers, got one that is not")
    return x.astype(jnp.promote_types(x.dtype, jnp.result_type(float)))


def _formula(moments, spectrum, embeddings):
    counts, total = moments.counts, moments.total
    share, present = counts / total, (counts > 0)[None, :, None]

    # About one class first, so that columns which do not vary are exactly zero.
    z = embeddings - embeddings[:, jnp.argmax(counts > 0)][:, None]
    z = jnp.where(present, z, jnp.where(jnp.isfinite(embeddings).all(), 0, jnp.nan))
    size = jnp.abs(z).max(1, keepdims=True)
    z = z / jnp.where(size == 0, 1, size)
    z = jnp.where(present, z - jnp.sum(share[None, :, None] * z, 1, keepdims=True), 0)
    variance = jnp.sum(share[None, :, None] * z * z, 1, keepdims=True)
    z = jnp.where(size == 0, 0, z * jax.lax.rsqrt(jnp.where(size == 0, 1, variance)))
    columns = jnp.any(size != 0, 0).sum()

    # As in h_score: T'CT is near the identity for a rough root T of C^-1, so that L^-1 T's of a
    # class sum s has the products s'C^-1 s, also where C is ill conditioned.
    kept = spectrum.kept
    t = (
        spectrum.vectors
        * jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, spectrum.eigenvalues, 1)), 0)[None]
    )
    covariance = moments.scatter / total
    c = _product(t.T, _product(covariance, t)) + jnp.diag(1 - kept.astype(t.dtype))
    means = _product(moments.class_sums / total, t).T
    means = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(c), means, lower=True)  # [d, c]
    explained = jnp.einsum("dc,kcp->kdp", means, z, precision="highest")
    q = jnp.einsum("kcp,lcp->kl", z * share[None, :, None], z, precision="highest")
    q = q - jnp.einsum("kdp,ldp->kl", explained, explained, precision="highest")
    q = q / jnp.where(columns > 0, columns, 1)

    mixture = _least_mixture(jax.lax.stop_gradient(q))  # the envelope theorem
    error = jnp.sum(mixture * _product(q, mixture))
    return jnp.where(columns > 0, -jnp.clip(error, 0, 1), jnp.nan)


def _least_mixture(q):
    """The t ``[k]`` >= 0 of sum one with the least t'Qt: accelerated projected gradient."""
    k = q.shape[0]
    bound = jnp.trace(q)
    bound = jnp.where(bound > 0, bound, 1)

    def gap(t):  # of t'Qt to its minimum, at most
        gradient = _product(q, t)
        return 2 * (jnp.sum(t * gradient) - gradient.min())

    def proceed(state):
        t, _, _, i = state
        return (gap(t) > GAP) & (i < STEPS)

    def step(state):
        t, ahead, momentum, i = state
        new = _to_simplex(ahead - _product(q, ahead) / bound)
        momentum = jnp.where(jnp.sum((ahead - new) * (new - t)) > 0, 1, momentum)  # restart
        after = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return new, new + (momentum - 1) / after * (new - t), after, i + 1

    start = jnp.full(k, 1 / k, q.dtype)
    return jax.lax.while_loop(proceed, step, (start, start, jnp.ones((), q.dtype), 0))[0]


def _to_simplex(x):
    """The nearest point that is >= 0 and of sum one: x less a constant, cut off at zero."""
    descending = jnp.sort(x)[::-1]
    excess = (jnp.cumsum(descending) - 1) / jnp.arange(1, x.shape[0] + 1)
    return jnp.maximum(x - excess[jnp.sum(descending > excess) - 1], 0)


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")


_emms = Kernel(
    _formula,
    undefined="labels: wanted samples whose label embeddings differ, got one class or one "
    "embedding",
)

"""Ridge regression on one-hot labels, each sample judged by the fit to all others, in closed form.

What is judged, and how, stands in :func:`leepjax.metrics.linear_probe`; ``predictive_r2`` reads the
same fit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from leepjax.metrics.platform import eigh, product, target

# Penalties, relative to the mean eigenvalue; from the largest, which wins a tie.
PENALTIES = tuple(10 ** (k / 2) for k in range(4, -9, -1))
TIE = 1e-5  # scores of two classes that differ by no more are equal


class LeftOut(NamedTuple):
    """What the samples are predicted as, each by the others.

    Attributes:
      error: sum of squared errors over samples and classes.
      accuracy: share of the samples whose own class scores highest.
    """

    error: jax.Array
    accuracy: jax.Array


def left_out(features, labels, weights, moments, spectrum, num_classes) -> LeftOut:
    """The fit whose squared error is least. Arguments as of a kernel."""
    included, n, present = weights > 0, moments.total, moments.counts > 0
    g = (features - moments.shift[None]) / moments.unit - moments.centre[None]
    left, eigenvalues, rank = _left_singular(g, included, spectrum, n)
    kept = jnp.arange(len(eigenvalues)) < rank
    one_hot = jnp.where(included[:, None], jax.nn.one_hot(labels, num_classes, dtype=g.dtype), 0)
    target = one_hot - (moments.counts / n)[None]
    target = jnp.where(included[:, None], target, 0)
    projected = product(left.T, target)  # [r, c]

    # With f_j = lambda / (lambda + eigenvalue j), residuals are (1 - U U')t + U diag(f) U't and
    # 1 - H_ii = (1 - 1/n - |u_i|^2) + sum_j f_j u_ij^2. The first terms vanish at rank n - 1, and
    # must not be what rounding leaves of them: where features fit all labels, both are small.
    spare = rank < n - 1
    outside = jnp.where(spare, target - product(left, projected), 0)
    square = jnp.square(left)
    free = jnp.where(spare, jnp.maximum(1 - 1 / n - square.sum(1), 0), 0)
    mean = eigenvalues.sum() / jnp.maximum(rank, 1)
    mean = jnp.where(mean > 0, mean, 1)

    def judged(relative):
        factor = jnp.where(kept, relative * mean / (relative * mean + eigenvalues), 0)
        residual = outside + product(left, factor[:, None] * projected)
        free_left = free + product(square, factor)
        residual = residual / jnp.where(free_left > 0, free_left, 1)[:, None]
        score = one_hot - residual
        own = jnp.take_along_axis(score, labels[:, None], 1)[:, 0]
        other = jnp.where(present[None] & (one_hot == 0), score, -jnp.inf).max(1)
        right = included & (own > other + TIE)
        return jnp.sum(jnp.square(residual)), jnp.sum(right) / n

    errors, accuracies = jax.lax.map(judged, jnp.asarray(PENALTIES, g.dtype))
    best = jnp.argmin(errors)
    return LeftOut(errors[best], accuracies[best])


def _left_singular(g, included, spectrum, n):
    """U ``[n, r]``, eigenvalues ``[r]`` descending, 0 past the rank, and the rank.

    The spectrum has small eigenvalues to rounding of the largest only. Twice then: scaled by it
    the features are nearly orthonormal, which a Cholesky factor mends; what is left to rotate is a
    triangular matrix with the singular values, not their squares.
    """
    d = g.shape[1]
    rest = max(0, d - g.shape[0])
    kept, vectors = spectrum.kept[rest:], spectrum.vectors[:, rest:]
    x = jnp.where(included[:, None] & kept[None], product(g, vectors), 0)
    size = jnp.sqrt(jnp.sum(jnp.square(x), 0))
    scaled = x / jnp.where(size > 0, size, 1)[None]
    gram = product(scaled.T, scaled)
    if target() == "tpu":  # where what follows compiles for minutes: by eigensolvers alone
        shares, p = eigh(gram)
        shares = jnp.sqrt(jnp.maximum(shares, 0))
        q = product(scaled, p / jnp.where(shares > 0, shares, jnp.inf)[None])  # orthonormal
        rest = shares[:, None] * p.T * size[None]  # x = q rest
        rotation = eigh(product(rest, rest.T))[1][:, ::-1]
        squares = jnp.sum(jnp.square(product(rotation.T, rest)), 1)
        return product(q, rotation), squares / n, kept.sum()
    gram = gram + jnp.diag(jnp.where(kept & (size > 0), 0.0, 1.0).astype(g.dtype))
    root = jnp.linalg.cholesky(gram)  # scaled = Q root', Q orthonormal
    p, singular, _ = jnp.linalg.svd(root.T * size[None])
    left = product(scaled, jax.scipy.linalg.solve_triangular(root, p, lower=True, trans=1))
    return left, jnp.square(singular) / n, kept.sum()

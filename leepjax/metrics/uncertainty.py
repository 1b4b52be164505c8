"""How far to trust a score: standard errors, covariances between sources, and its null.

``influence`` is exact calculus: one gradient with respect to sample weights says what each sample
does to the score, hence its standard error, and for two sources on the same samples how their
errors go together. Every score with weights has it. ``subsample`` serves the others, and
``permutation_null`` says what the score would be if labels had nothing to do with the model.

Example:
  >>> import jax.numpy as jnp
  >>> from leepjax.metrics import leep, uncertainty
  >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
  >>> of_leep = uncertainty.influence(leep, probs, jnp.array([0, 0, 1, 1]), num_classes=2)
  >>> print(f"{of_leep.score:.3f} +- {of_leep.standard_error:.3f}")
  -0.343 +- 0.071
"""

import inspect
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_key


class Influence(NamedTuple):
    """A score, and what each sample does to it.

    Attributes:
      score: a scalar.
      per_sample: ``[n]``; adding a copy of sample i changes the score by about ``per_sample[i]``;
        0 where masked. They sum to 0 with the weights.
      weights: ``[n]`` the weights, 0 where masked.
    """

    score: jax.Array
    per_sample: jax.Array
    weights: jax.Array

    @property
    def standard_error(self) -> jax.Array:
        """Of the score, by the infinitesimal jackknife."""
        return jnp.sqrt(covariance([self])[0, 0])


def influence(
    metric: Callable[..., jax.Array],
    *arrays: ArrayLike,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **options: Any,
) -> Influence:
    r"""A score and the influence of every sample on it.

    The infinitesimal jackknife: with :math:`U_i = \partial S / \partial w_i` the variance of the
    score is :math:`\sum_i w_i U_i^2`. It costs about three evaluations, where a bootstrap costs a
    thousand. A linear approximation: scores of covariances want many samples for each dimension,
    of each class for ``transrate`` and ``gbc``; at a quarter as many dimensions as samples it can
    be off by half.

    Args:
      metric: a metric that takes ``weights``, such as ``leep``.
      *arrays: its arrays.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights; default 1.
      **options: its other keywords, such as ``num_classes``.

    Raises:
      ValueError: the metric takes no weights, or what the metric itself raises.

    Source: Jaeckel, "The Infinitesimal Jackknife", Bell Laboratories, 1972; Efron, "The Jackknife,
    the Bootstrap and Other Resampling Plans", SIAM 1982.
    """
    _check_weights(metric)
    value = metric(*arrays, where=where, weights=weights, **options)
    n = np.shape(arrays[-1])[0]
    w = jnp.ones(n, value.dtype) if weights is None else jnp.asarray(weights, value.dtype)
    if where is not None:
        w = jnp.where(jnp.asarray(where), w, 0)
    gradient = jax.grad(lambda w: metric(*arrays, where=where, weights=w, **options))(w)
    # A score that depends on n itself is not constant in the weights' scale: that is no influence.
    gradient = jnp.where(w > 0, gradient, 0)
    gradient = gradient - jnp.sum(w * gradient) / jnp.sum(w)
    return Influence(value, jnp.where(w > 0, gradient, 0), w)


def covariance(influences: Sequence[Influence]) -> jax.Array:
    """``[m, m]`` covariances of m scores of the same samples, such as those of m sources.

    The standard error of the difference of scores a and b is
    ``sqrt(c[a, a] + c[b, b] - 2 * c[a, b])``: far smaller than from the two standard errors, as the
    same samples are hard for both.

    Raises:
      ValueError: the influences are not of the same number of samples.
    """
    if len({i.per_sample.shape for i in influences}) != 1:
        raise ValueError("influences: wanted one or more, of the same samples")
    u = jnp.stack([i.per_sample for i in influences])
    return jnp.matmul(u * influences[0].weights[None], u.T, precision="highest")


def subsample(
    key: jax.Array,
    metric: Callable[..., jax.Array],
    *arrays: ArrayLike,
    num_replicates: int = 200,
    where: ArrayLike | None = None,
    **options: Any,
) -> jax.Array:
    """``[num_replicates]`` scores of random halves of the samples.

    The delete-half jackknife: the standard deviation of the replicates estimates the standard error
    of the score of *all* samples. It takes the place of a bootstrap for metrics without weights,
    where copies of a sample would be each other's nearest neighbours.

    Args:
      key: a random key.
      metric: any metric.
      *arrays: its arrays, with a random metric's own key before them.
      num_replicates: number of halves.
      where: ``[n]`` bool, the samples to count; default all.
      **options: its other keywords, such as ``num_classes``.

    Raises:
      ValueError: a count is not positive, or what the metric itself raises.

    Source: Shao and Wu, "A General Theory for Jackknife Variance Estimation", Annals of Statistics,
    1989.
    """
    return _replicates(_half, key, num_replicates, metric, arrays, where, options)


def bootstrap(
    key: jax.Array,
    metric: Callable[..., jax.Array],
    *arrays: ArrayLike,
    num_replicates: int = 1000,
    where: ArrayLike | None = None,
    **options: Any,
) -> jax.Array:
    """``[num_replicates]`` scores of resampled data, for metrics that take ``weights``.

    A replicate counts each sample as often as n draws with replacement took it. See
    :func:`subsample` for the arguments, and for metrics without weights; and :func:`influence` for
    the standard error without replicates.

    Raises:
      ValueError: the metric takes no weights, a count is not positive, or what the metric raises.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics, 1979.
    """
    _check_weights(metric)
    if "weights" in options:
        raise ValueError("weights: wanted none, as the bootstrap draws its own; got some")
    return _replicates(_resampled, key, num_replicates, metric, arrays, where, options)


def permutation_null(
    key: jax.Array,
    metric: Callable[..., jax.Array],
    *arrays: ArrayLike,
    num_replicates: int = 200,
    where: ArrayLike | None = None,
    **options: Any,
) -> jax.Array:
    """``[num_replicates]`` scores with the labels shuffled among the samples.

    What the score would be if the labels had nothing to do with the model: it is far from its lower
    bound where there are many dimensions or source classes for the samples. The p-value of a score
    is ``(1 + sum(null >= score)) / (1 + num_replicates)``. See :func:`subsample` for the arguments.

    Raises:
      ValueError: the metric takes no labels, a count is not positive, or what the metric raises.
    """
    if "labels" not in inspect.signature(metric).parameters:
        raise ValueError(f"metric: wanted one that takes labels, got {metric.__name__}")
    return _replicates(_shuffled, key, num_replicates, metric, arrays, where, options)


def _half(key, included, labels):
    lot = jnp.where(included, jax.random.uniform(key, included.shape), 2)
    first = jnp.arange(len(included)) < included.sum() // 2
    return {"where": jnp.zeros_like(included).at[jnp.argsort(lot)].set(first)}


def _resampled(key, included, labels):
    cumulative = jnp.cumsum(included / included.sum())
    drawn = jnp.searchsorted(cumulative, jax.random.uniform(key, included.shape))
    # As many draws as samples count, of them alone.
    counted = jnp.arange(len(included)) < included.sum()
    drawn = jnp.minimum(drawn, len(included) - 1)
    weights = jnp.zeros(len(included)).at[drawn].add(counted.astype(float))
    return {"weights": jnp.where(included, weights, 0)}


def _shuffled(key, included, labels):
    slots = jnp.argsort(~included)  # those that count come first, in their order
    lot = jnp.where(included, jax.random.uniform(key, included.shape), 2)
    return {"labels": labels.at[slots].set(labels[jnp.argsort(lot)])}


def _replicates(draw, key, num_replicates, metric, arrays, where, options):
    """Scores of the arrays as ``draw`` changes them, with each of so many keys."""
    metric(*arrays, where=where, **options)  # raises what there is to raise
    keys = jax.random.split(check_key(key), check_count("num_replicates", num_replicates))
    arrays = tuple(x if isinstance(x, jax.Array) else np.asarray(x) for x in arrays)
    where = jnp.ones(len(arrays[-1]), bool) if where is None else jnp.asarray(where)
    static = {name: x for name, x in options.items() if isinstance(x, Hashable)}
    moving = {name: jnp.asarray(x) for name, x in options.items() if name not in static}
    return _map(draw, metric, tuple(sorted(static.items())), keys, arrays, where, moving)


@partial(jax.jit, static_argnames=("draw", "metric", "static"))
def _map(draw, metric, static, keys, arrays, where, moving):
    # At the top of the module, so that a second call finds its program compiled.
    *others, labels = arrays  # or what else comes last, which then stays

    def replicate(key):
        drawn = {"where": where, "labels": labels, **draw(key, where, labels)}
        return metric(*others, drawn.pop("labels"), **drawn, **dict(static), **moving)

    return jax.lax.map(replicate, keys)


def _check_weights(metric):
    if "weights" not in inspect.signature(metric).parameters:
        raise ValueError(
            f"metric: wanted one that takes weights, got {metric.__name__}; see subsample"
        )

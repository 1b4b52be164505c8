"""LEEP on samples that its predictor was not fitted on."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._leep import joint_of, weighted_logarithms
from leepjax.metrics._ride import sum_of_rows
from leepjax.metrics.platform import row_of_class


def cross_fitted_leep(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    smoothing: float | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Leave-one-out LEEP: the mean log-likelihood of samples that were not fitted on; <= 0.

    LEEP judges its predictor on the samples that it was fitted on, so with few samples for many
    source classes it is too high, and the more source classes a model has, the higher. Here each
    sample is judged by the predictor of all others, in closed form: with :math:`N_{yz}` the soft
    counts of target and source classes and :math:`\theta_{iz}` the sample's own share of them,

    .. math:: \frac1n \sum_i \log \sum_z
        \frac{N_{y_i z} - \theta_{iz} + a}{\sum_y N_{yz} - \theta_{iz} + c a} \, \theta_{iz}

    Larger is better. A class with one sample has the probability that smoothing gives it.

    Args:
      probs: ``[n, s]`` source-class probabilities, rows sum to 1.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent classes change nothing.
      smoothing: a, added to the counts of each of the c classes that are there (Laplace), so that
        nothing is impossible; default 1 / c, one sample spread over each source class.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights: of a sample with weight 3 two copies stay
        among the others; default 1.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``probs`` and
      ``weights``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> print(f"{cross_fitted_leep(probs, labels, num_classes=2):.4f}")
      -0.6149
    """
    if smoothing is not None:
        smoothing = check_number("smoothing", smoothing, positive=True)
    return evaluate(
        _cross_fitted_leep,
        probs=probs,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
        smoothing=smoothing,
    )


def _cross_fitted_leep(probs, labels, weights, *, num_classes, smoothing=None):
    joint = joint_of(probs, labels, weights, num_classes=num_classes)
    present = (joint.sum(1) > 0).sum()
    added = 1 / present if smoothing is None else smoothing
    mass = joint.sum(0)

    def terms(probs, labels, weights, known):
        joint, mass, added, present = known
        own = row_of_class(joint, labels) - probs
        own = jnp.maximum(own, 0) + added  # rounding alone can take it below 0
        every = jnp.maximum(mass[None] - probs, 0) + added * present
        return own / every * probs

    rows, known = (probs, labels, weights), (joint, mass, added, present)
    return sum_of_rows(terms, weighted_logarithms, rows, known) / weights.sum()

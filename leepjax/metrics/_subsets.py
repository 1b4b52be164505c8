"""Scores of many target tasks that are class subsets of one data set, from one pass over it."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._leep import joint_of
from leepjax.metrics._moments import Moments, centre_of, measure_about
from leepjax.metrics._nce import joint_counts, neg_conditional_entropy
from leepjax.metrics._neg_label_entropy import xlogx
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics._transrate import transrate_from_moments
from leepjax.metrics.platform import row_of_class, sum_by_class
from leepjax.metrics.streaming import FROM_MOMENTS

OF_MOMENTS = {**FROM_MOMENTS, "transrate": transrate_from_moments}
OF_PROBS = ("leep", "leep_gain", "nce")
OF_SUBSETS = (*OF_PROBS, "neg_label_entropy", *OF_MOMENTS)  # the metrics that have this form


def score_subsets(
    labels: ArrayLike,
    subsets: ArrayLike,
    *,
    num_classes: int,
    features: ArrayLike | None = None,
    probs: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""Scores of every task that is a subset of the classes, with all samples of those classes.

    Features are read once, into moments by class, of which a task's are a sum. LEEP is no sum over
    classes, as the frequency of a source class changes with the subset; but with the joint counts
    J of all classes and :math:`P_t(z) = \sum_{y \in S_t} J(y, z)`, the logarithm's argument for
    sample i in task t is :math:`\sum_z \theta_{iz} J(y_i, z) / P_t(z)`: one matrix product for all
    tasks.

    Args:
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      subsets: ``[t, c]`` bool, the classes of each task.
      num_classes: number of classes c, a Python int.
      features: ``[n, d]`` floating-point features; ``c d^2`` numbers are kept.
      probs: ``[n, s]`` source-class probabilities, rows sum to 1.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      ``{name: [t]}``, each equal to the metric of that name on the task's samples alone: with
      ``probs`` leep, leep_gain and nce; with ``features`` h_score, regularized_h_score, logme, lfc
      and transrate; always neg_label_entropy. NaN for a task without samples, and for lfc of one
      class.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.5, 0.5]])
      >>> subsets = jnp.array([[True, True, False], [True, True, True]])
      >>> labels = jnp.array([0, 0, 1, 1, 2])
      >>> scores = score_subsets(labels, subsets, num_classes=3, probs=probs)
      >>> print([round(float(x), 4) for x in scores["leep"]])
      [-0.3426, -0.7743]
    """
    subsets = jnp.asarray(subsets)
    if subsets.ndim != 2 or subsets.shape[1] != num_classes or subsets.dtype != bool:
        got = f"{subsets.dtype}{list(subsets.shape)}"
        raise ValueError(f"subsets: wanted booleans of shape [t, {num_classes}], got {got}")
    shared = {
        "labels": labels,
        "num_classes": num_classes,
        "where": where,
        "given": {"subsets": subsets},
    }
    scores = evaluate(_of_labels, **shared)
    if probs is not None:
        scores |= evaluate(_of_probs, probs=probs, **shared)
    if features is not None:
        scores |= evaluate(_of_features, features=features, **shared)
    return scores


def _of_labels(labels, weights, subsets, *, num_classes):
    counts = sum_by_class(weights, labels, num_classes)
    return {"neg_label_entropy": _null(counts, subsets)}


def _null(counts, subsets):
    p = subsets * counts[None]
    p = p / p.sum(1, keepdims=True)
    return xlogx(p).sum(1)


def _of_probs(probs, labels, weights, subsets, *, num_classes):
    joint = joint_of(probs, labels, weights, num_classes=num_classes)
    mass = jnp.matmul(subsets.astype(joint.dtype), joint, precision="highest")  # [t, s]
    inverse = jnp.where(mass > 0, 1 / jnp.where(mass > 0, mass, 1), 0)

    def add_up(probs, labels, weights, joint, inverse, subsets):
        mine = probs * row_of_class(joint, labels)
        likelihood = jnp.matmul(mine, inverse.T, precision="highest")  # [n, t]
        counted = (weights > 0)[:, None] & subsets.T[labels]
        return jnp.sum(weights[:, None] * jnp.log(jnp.where(counted, likelihood, 1)), 0)

    total = sum_over_samples(add_up, (probs, labels, weights), joint, inverse, subsets)
    counts = sum_by_class(weights, labels, num_classes)
    leep = total / (subsets * counts[None]).sum(1)
    hard = joint_counts(probs.argmax(1), labels, weights, probs.shape[1], num_classes)
    nce = jax.lax.map(lambda subset: neg_conditional_entropy(hard * subset[None]), subsets)
    return {"leep": leep, "leep_gain": jnp.maximum(leep - _null(counts, subsets), 0), "nce": nce}


def _of_features(features, labels, weights, subsets, some, *, num_classes):
    about = centre_of(features, weights, some)
    by_class = measure_about(
        about, features, labels, weights, num_classes=num_classes, by_class=True
    )

    def of_subset(subset):
        shift, unit, *sums, _, _ = by_class

        def keep(x):
            return x * subset.reshape(-1, *[1] * (x.ndim - 1))

        moments = Moments(shift, unit, *map(keep, sums))
        return {name: fn(moments) for name, fn in OF_MOMENTS.items()}

    return jax.lax.map(of_subset, subsets)

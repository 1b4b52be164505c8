"""Intervals of a correlation over rows that share clusters: the delete-one-cluster jackknife.

Tasks drawn from the same few classes are not independent. An interval that resamples tasks is then
far too narrow: 200 tasks of 5 of 10 classes have the evidence of ten classes. Another draw of the
target would have other classes, so classes are left out, one at a time with all tasks that contain
it:

    V = (g - 1)/g * sum_c (z_(-c) - mean)^2,    z = arctanh(r),    interval z +- t_{g-1} sqrt(V)

This is the right variance of a U-statistic over class sets (Arvesen 1969), whatever the overlap.
However, the noise of each single task enters once for every class that it contains. Instead of its
variance V_t (delete-one-task) the jackknife has (g - 1) k / (g - k) V_t, with k clusters in a task.
The excess is subtracted, in so far as tasks overlap little:

    V - (1 - k/g)^4 ((g - 1) k / (g - k) - 1) V_t,   at least V_t

The fourth power is the only number here that was chosen by simulation. Rows that share nothing are
clusters of their own. If rows are crossed, such as models by targets, the V of both clusterings are
added, and the V of single rows, which both contain, is subtracted; the result is at least the
larger of the two (Cameron, Gelbach and Miller, JBES 2011).

Student's t with g - 1 degrees of freedom takes the z_(-c) for normal. The weighted tau is decided
by the few rows at the top, so few of its z_(-c) are far from the mean. V then varies from sample to
sample like that of few clusters. With many rows it is smallest when the tau came out high. The
variance of a variance of g values with excess kurtosis K is V^2 (2/(g - 1) + K/g). That of f
degrees of freedom is V^2 2/f (Satterthwaite 1946). Hence, for the weighted tau,

    1/f = 1/(g - 1) + max(K, 0)/(2 g),    K unbiased, of the z_(-c)

Its mean over crossed parts of a table has the right coverage with g - 1. `experiments/coverage.py`
prints the coverage of these intervals and of the usual ones.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from leepjax.evaluation.correlation import Statistic, weighted_kendall

Membership = np.ndarray | tuple[np.ndarray, ...] | None


class Estimate(NamedTuple):
    """A statistic with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


class Spread(NamedTuple):
    """The joint variation of the Fisher z of several scores' correlations.

    Attributes:
      values: ``[s]`` the correlations.
      covariance: ``[s, s]`` of their arctanh; NaN if fewer than three clusters are informative.
      clusters: how many clusters count; if rows are crossed, of the clustering with the fewest.
      freedom: ``[s]`` degrees of freedom of the intervals: clusters - 1, of a weighted tau fewer.
      deleted: ``[s, g]`` the correlations with one cluster left out; NaN where undefined.
    """

    values: np.ndarray
    covariance: np.ndarray
    clusters: int
    freedom: np.ndarray
    deleted: np.ndarray


def cluster_membership(names: np.ndarray) -> np.ndarray:
    """Membership ``[n, g]`` of rows in the clusters that ``names [n]`` names, in sorted order."""
    return np.asarray(names)[:, None] == np.unique(names)


def jackknife(
    statistic: Statistic, x: np.ndarray, y: np.ndarray, membership: Membership = None
) -> tuple[Estimate, np.ndarray]:
    """Estimate with a clustered 95 % interval, and the delete-one-cluster values behind it.

    Args:
      statistic: one of this package's correlations, in [-1, 1].
      x: ``[n]`` score.
      y: ``[n]`` accuracy.
      membership: ``[n, g]`` bool, the clusters (target classes, groups, models) of each row;
        several such arrays if rows are crossed; None if rows are independent.

    Returns:
      The estimate, and ``[g]`` values with all rows of one cluster left out, NaN if that leaves
      nothing to correlate. Such clusters do not count towards g. The interval is undefined if fewer
      than three clusters are left, or if the correlation is 1 or -1.

    Raises:
      ValueError: the lengths of the arguments differ; it names the argument.
    """
    joint = spread(statistic, np.asarray(x, float)[None], y, membership)
    return interval(joint, 0), joint.deleted[0]


def spread(
    statistic: Statistic, scores: np.ndarray, y: np.ndarray, membership: Membership = None
) -> Spread:
    """Joint jackknife of several ``scores [s, n]``; other arguments as of :func:`jackknife`."""
    scores, y = np.asarray(scores, float), np.asarray(y, float)
    n = scores.shape[1]
    clusterings = membership if isinstance(membership, tuple) else (membership,)
    clusterings = [
        np.eye(n, dtype=bool) if clustering is None else np.asarray(clustering, bool)
        for clustering in clusterings
    ]
    for name, array in (("y", y), *(("membership", clustering) for clustering in clusterings)):
        if len(array) != n:
            raise ValueError(f"{name}: wanted {n} rows like x, got {len(array)}")
    values = _each(statistic, scores, y, np.ones((1, n)))[:, 0]
    top_heavy = getattr(statistic, "func", statistic) is weighted_kendall  # or a partial of it
    covariances, deleted, counts, freedom = [], [], [], []
    for clustering in clusterings:
        without = _each(statistic, scores, y, ~clustering.T)
        z = _fisher(without, n)
        counted = np.isfinite(z).all(0) & clustering.any(0)
        covariances.append(
            _of_clustering(statistic, scores, y, clustering[:, counted], z[:, counted])
        )
        counts.append(int(counted.sum()))
        freedom.append(_freedom(z[:, counted], top_heavy))
        deleted.append(without)
    covariance = covariances[0]
    if len(clusterings) > 1:
        common = _of_rows(statistic, scores, y)
        covariance = sum(covariances) - (len(clusterings) - 1) * common
        for one in covariances:
            covariance = _at_least(covariance, one)
    deleted = np.concatenate(deleted, 1)
    return Spread(values, covariance, min(counts), np.min(freedom, 0), deleted)


def interval(joint: Spread, i: int) -> Estimate:
    """The 95 % interval of score i."""
    value = float(joint.values[i])
    variance = joint.covariance[i, i]
    if not np.isfinite(variance) or not abs(value) < 1:
        return Estimate(value, np.nan, np.nan)
    half = student.ppf(0.975, joint.freedom[i]) * np.sqrt(variance)
    z = np.arctanh(value)
    return Estimate(value, float(np.tanh(z - half)), float(np.tanh(z + half)))


def _of_clustering(statistic, scores, y, member, z):
    """Covariance of ``z [s, g]`` from leaving out one cluster of ``member [n, g]`` at a time."""
    g = member.shape[1]
    if g < 3:
        return np.full((len(z), len(z)), np.nan)
    covariance = _covariance(z)
    k = member.sum(1).mean()
    if k > 1:
        single = _of_rows(statistic, scores, y)
        excess = (g - 1) * k / (g - k) - 1 if k < g else 0.0
        covariance = _at_least(covariance - (1 - k / g) ** 4 * excess * single, single)
    return covariance


def _of_rows(statistic, scores, y):
    """Covariance from leaving out one row at a time."""
    n = len(y)
    z = _fisher(_each(statistic, scores, y, ~np.eye(n, dtype=bool)), n)
    return _covariance(z[:, np.isfinite(z).all(0)])


def _freedom(z, top_heavy):
    """``[s]`` degrees of freedom of the variances of ``z [s, g]``."""
    g = z.shape[1]
    freedom = np.full(len(z), g - 1.0)
    if not top_heavy or g < 4:  # of fewer no kurtosis
        return freedom
    away = z - z.mean(1, keepdims=True)
    scale = away.std(1, keepdims=True)
    biased = ((away / np.where(scale > 0, scale, 1)) ** 4).mean(1) - 3
    kurtosis = (g - 1) / ((g - 2) * (g - 3)) * ((g + 1) * biased + 6)
    return 1 / (1 / freedom + np.maximum(kurtosis, 0) / (2 * g))


def _at_least(covariance, floor):
    """Where a score's variance is below its floor, the floor's variances and covariances."""
    short = np.diag(covariance) < np.diag(floor)
    return np.where(short[:, None] | short, floor, covariance)


def _each(statistic, scores, y, keep):
    return np.stack([statistic(x, y, keep) for x in scores])


def _fisher(r, n):
    """arctanh; 1 and -1, which ranks reach in few rows, half a step of Kendall's tau short."""
    return np.arctanh(
        np.where(np.abs(r) > 1 - 1e-12, np.sign(r) * (1 - 1 / max(n * (n - 1), 1)), r)
    )


def _covariance(replicates):
    """``[s, s]`` jackknife covariance of ``[s, g]`` delete-one values."""
    g = replicates.shape[1]
    if g < 2:
        return np.full((len(replicates), len(replicates)), np.nan)
    away = replicates - replicates.mean(1, keepdims=True)
    return (g - 1) / g * away @ away.T

"""Intervals of a correlation over tasks that share classes: the delete-one-cluster jackknife.

Tasks drawn from the same few classes are not independent, so an interval that resamples tasks is
far too narrow: 200 tasks of 5 of 10 classes hold ten classes' worth of evidence. What varies with
another draw of the target is the classes, so they are what is left out, one at a time with all
tasks that contain it:

    V = (g - 1)/g * sum_c (z_(-c) - mean)^2,    z = arctanh(r),    interval z +- t_{g-1} sqrt(V)

which is the right variance of a U-statistic over class sets (Arvesen 1969), whatever the overlap.
The noise of each single task, however, enters once for every class it contains: instead of its
variance V_t (delete-one-task) the jackknife has (g - 1) k / (g - k) V_t, with k clusters in a task.
The excess is taken off, in so far as tasks overlap little:

    V - (1 - k/g)^4 ((g - 1) k / (g - k) - 1) V_t,   at least V_t

The fourth power is the one number here that was chosen by simulation. `benchmarks/coverage.py`
prints the coverage of this interval beside the usual ones, from 10 classes to 1,000, and, where
classes nest in groups, of leaving out groups beside leaving out classes.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from leepjax.evaluation.correlation import Statistic


class Estimate(NamedTuple):
    """A statistic with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def jackknife(
    statistic: Statistic, x: np.ndarray, y: np.ndarray, membership: np.ndarray
) -> tuple[Estimate, np.ndarray]:
    """Estimate with a 95 % interval that clusters, and the delete-one-cluster values behind it.

    Args:
      statistic: one of this package's correlations, in [-1, 1].
      x: ``[t]`` score.
      y: ``[t]`` accuracy.
      membership: ``[t, g]`` bool, the clusters (target classes, groups, models) of each task.

    Returns:
      The estimate, and ``[g]`` values with all tasks of one cluster left out; NaN where that
      leaves nothing to correlate. Clusters of which that is true do not count towards g; with
      fewer than three left the interval is undefined.

    Raises:
      ValueError: the lengths of the arguments differ; it names the argument.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    membership = np.asarray(membership, bool)
    for name, array in (("y", y), ("membership", membership)):
        if len(array) != len(x):
            raise ValueError(f"{name}: wanted {len(x)} rows like x, got {len(array)}")
    tasks = len(x)
    value = statistic(x, y, np.ones((1, tasks), bool))[0]
    without = ~membership.T
    deleted = np.where(without.sum(1) >= 3, statistic(x, y, without), np.nan)
    z, z_deleted = _fisher(value), _fisher(deleted)
    counted = np.isfinite(z_deleted) & membership.any(0)
    g = int(counted.sum())
    if not np.isfinite(value) or g < 3:
        return Estimate(float(value), np.nan, np.nan), deleted
    variance = _variance(z_deleted[counted])
    k = membership[:, counted].sum(1).mean()
    if k > 1:
        single = _variance(_fisher(statistic(x, y, ~np.eye(tasks, dtype=bool))))
        excess = (g - 1) * k / (g - k) - 1 if k < g else 0.0
        variance = max(variance - (1 - k / g) ** 4 * excess * single, single)
    half = student.ppf(0.975, g - 1) * np.sqrt(variance)
    return Estimate(float(value), float(np.tanh(z - half)), float(np.tanh(z + half))), deleted


def _fisher(r):
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def _variance(replicates: np.ndarray) -> float:
    replicates = replicates[np.isfinite(replicates)]
    n = len(replicates)
    return float((n - 1) / n * np.sum((replicates - replicates.mean()) ** 2))

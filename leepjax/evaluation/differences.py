"""Is one score better than another on the same rows, and how many rows would show it."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from leepjax.evaluation.correlation import Statistic
from leepjax.evaluation.interval import Estimate, Membership, Spread, interval, spread


class Difference(NamedTuple):
    """A difference of two correlations with its 95 % interval and p-value; NaN where undefined."""

    value: float
    low: float
    high: float
    p: float


def difference(
    statistic: Statistic,
    x: np.ndarray,
    other: np.ndarray,
    y: np.ndarray,
    membership: Membership = None,
) -> Difference:
    """How much better one score correlates with accuracy than another on the same rows.

    Args:
      statistic: one of this package's correlations.
      x: ``[n]`` a score.
      other: ``[n]`` another.
      y: ``[n]`` accuracy.
      membership: the clusters, as of :func:`leepjax.evaluation.jackknife`.

    Returns:
      The correlation of x minus that of other, in [-2, 2]. Its interval comes from the two
      clustered intervals and their correlation (Zou, Toward using confidence intervals to compare
      correlations, Psychological Methods 2007). The two-sided p-value of equal correlations is
      that of Student's t for the difference of the two Fisher z. With g - 1 degrees of freedom it
      keeps its level even for the weighted tau (2 to 6 % when both are equally good). Interval and
      p may disagree when p is close to .05, for the weighted tau below it.

    Raises:
      ValueError: the lengths of the arguments differ; it names the argument.

    >>> accuracy = np.arange(8.0)
    >>> noisy, reverse = accuracy + [1, 0, 0, 2, 0, 0, 1, 0], -accuracy + [0, 0, 2, 0, 1, 0, 0, 1]
    >>> from leepjax.evaluation import pearson
    >>> found = difference(pearson, noisy, reverse, accuracy)
    >>> print("{:.2f} [{:.2f}, {:.2f}], p = {:.0e}".format(*found))
    1.91 [1.34, 1.97], p = 2e-03
    """
    if np.shape(other) != np.shape(x):
        raise ValueError(f"other: wanted shape {np.shape(x)} like x, got {np.shape(other)}")
    return difference_of(spread(statistic, np.stack([x, other]), y, membership), 0, 1)


def difference_of(joint: Spread, i: int, j: int) -> Difference:
    """:func:`difference` of scores i and j of a joint jackknife."""
    a, b = interval(joint, i), interval(joint, j)
    value = a.value - b.value
    variances, shared = np.diag(joint.covariance)[[i, j]], joint.covariance[i, j]
    if not np.isfinite([a.low, b.low]).all():
        return Difference(value, np.nan, np.nan, np.nan)
    error = np.sqrt(max(variances.sum() - 2 * shared, 0))
    z = abs(np.arctanh(a.value) - np.arctanh(b.value))
    # The same score up to a scale: the variances cancel, down to the root of their rounding.
    if z < 1e-9 and error <= 1e-6 * np.sqrt(variances.sum()):
        return Difference(0.0, 0.0, 0.0, 1.0)
    scale = np.sqrt(variances.prod())
    r = np.clip(shared / scale, -1, 1) if scale > 0 else 0.0

    def reach(first: float, second: float) -> float:
        return np.sqrt(max(first**2 + second**2 - 2 * r * first * second, 0))

    low = value - reach(a.value - a.low, b.high - b.value)
    high = value + reach(a.high - a.value, b.value - b.low)
    p = 2 * student.sf(z / error, joint.clusters - 1) if error > 0 else float(z == 0)
    return Difference(value, max(float(low), -2.0), min(float(high), 2.0), float(p))


def williams(r_x: float, r_other: float, r_scores: float, rows: int) -> tuple[float, float]:
    """Williams' test of two correlations with the same accuracy, of independent normal rows.

    Args:
      r_x: Pearson's r of a score with accuracy.
      r_other: of another score.
      r_scores: of the two scores with each other.
      rows: their number.

    Returns:
      Student's t, positive if r_x is the larger, and its two-sided p-value. NaN if the correlations
      are undefined, or if no three variables can have them. If rows share clusters the p-value is
      far too small: use :func:`difference`. Source: Williams, The comparison of regression
      variables, JRSS B 1959; recommended by Steiger, Psychological Bulletin 1980.

    Raises:
      ValueError: fewer than four rows.

    >>> print("t = {:.2f}, p = {:.2f}".format(*williams(0.4, 0.5, 0.1, rows=103)))
    t = -0.89, p = 0.37
    """
    if rows < 4:
        raise ValueError(f"rows: wanted at least 4, got {rows}")
    determinant = 1 - r_x**2 - r_other**2 - r_scores**2 + 2 * r_x * r_other * r_scores
    mean = (r_x + r_other) / 2
    variance = 2 * (rows - 1) / (rows - 3) * determinant + mean**2 * (1 - r_scores) ** 3
    if not variance > 0:
        return np.nan, np.nan
    t = (r_x - r_other) * np.sqrt((rows - 1) * (1 + r_scores) / variance)
    return float(t), float(2 * student.sf(abs(t), rows - 3))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjustment of ``p [m]`` for m comparisons; NaN values are skipped and not counted.

    A comparison is significant at 5 % among all if its adjusted value is below .05. Source: Holm,
    A simple sequentially rejective multiple test procedure, Scand. J. Statistics 1979.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, float)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def clusters_needed(estimate: Estimate | Difference, clusters: int) -> float:
    """Approximate number of clusters (models, tasks, classes) that show a correlation is not 0.

    Args:
      estimate: a correlation, or a difference of two, as estimated.
      clusters: the number of independent units that the estimate comes from.

    Returns:
      The number with which a true effect of this size would be significant at 5 % four times in
      five, if errors fall with the square root of the number. inf if the effect is 0, NaN if it is
      undefined. The number is rough if the effect was estimated from few clusters. For a weighted
      tau, whose interval is wider, it is rather too large.

    >>> clusters_needed(Estimate(0.4, 0.05, 0.66), clusters=30)
    44.0
    """
    if not np.isfinite(estimate).all() or clusters < 2:
        return np.nan
    if isinstance(estimate, Difference):
        errors = student.isf(estimate.p / 2, clusters - 1)
    else:
        z, low, high = np.arctanh(np.clip(estimate, -1 + 1e-12, 1 - 1e-12))
        errors = abs(z) / (high - low) * 2 * student.ppf(0.975, clusters - 1)
    wanted = norm.ppf(0.975) + norm.ppf(0.8)
    return float(max(np.ceil(clusters * (wanted / errors) ** 2), 3)) if errors > 0 else np.inf

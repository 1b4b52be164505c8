"""Correlations of a score with accuracy, for many replicates of a table's rows at once.

Every statistic takes ``counts [r, n]``: how often each of the n rows is in each of r replicates, 0
or 1 for subsets, any whole number for bootstrap samples. It returns r values. So all delete-one
values take one call with a matrix instead of a loop. All are Daniels' (1944) general coefficient

    sum_ij a_ij b_ij / sqrt(sum_ij a_ij^2  sum_ij b_ij^2)

with a_ij = x_i - x_j, differences of ranks, or signs. So replicates are matrix products, in float64
NumPy, which needs no compilation. A statistic is undefined, NaN, if the score or the accuracy does
not vary, or if there are fewer than three rows.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Literal

import numpy as np
from scipy.stats import kendalltau

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

_BLOCK = 2000  # replicates at a time, so that arrays [r, n] stay in the cache
RANK_BY = ("accuracy", "score", "both")
_RELATIVE = 1e-6  # scores are float32: variation below this, relative to the largest, is rounding


def _in_blocks(statistic: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    @wraps(statistic)
    def blocked(x, y, counts, **options):
        blocks = range(0, max(len(counts), 1), _BLOCK)
        return np.concatenate([statistic(x, y, counts[i : i + _BLOCK], **options) for i in blocks])

    return blocked


def pearson(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's r of ``x [n]`` and ``y [n]`` in each replicate ``counts [r, n]``."""
    counts = np.asarray(counts, float)
    size = np.maximum(counts.sum(1), 1)
    (x, floor_x), (y, floor_y) = _about_mean(x), _about_mean(y)
    # Centre on the mean of all rows first, so that little cancels below.
    products = np.stack([x, y, x * x, y * y, x * y], 1)
    mean_x, mean_y, xx, yy, xy = (counts @ products / size[:, None]).T
    xx, yy, xy = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    defined = (xx > floor_x) & (yy > floor_y)
    return _ratio(xy, xx, yy, counts, defined)


@_in_blocks
def spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's rho: Pearson's r of the ranks in each replicate, ties sharing their mean rank."""
    counts = np.asarray(counts, float)
    # 2 (rank - mean rank) of i: how many rows are below it less how many are above. Whole numbers,
    # which float32 holds exactly up to 2^24 rows.
    whole = counts.astype(np.float32)
    ranks_x, ranks_y = (whole @ _signs(v).T.astype(np.float32) for v in (x, y))
    weighted = counts * ranks_x
    xx, xy = _dot(weighted, ranks_x), _dot(weighted, ranks_y)
    return _ratio(xy, xx, _dot(counts * ranks_y, ranks_y), counts)


@_in_blocks
def kendall(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau-b, which corrects for ties in both variables."""
    counts = np.asarray(counts, float)
    return _concordance(x, y, counts, counts)


def kendall_of_rows(x: np.ndarray, y: np.ndarray) -> float:
    """:func:`kendall` of all rows, once: no pairs are held, so that thousands of rows are few."""
    constant = any(np.ptp(v) <= _RELATIVE * np.abs(v).max() for v in (x, y) if len(v))
    if len(x) < 3 or constant:
        return float("nan")
    return float(np.asarray(kendalltau(x, y))[0])


@_in_blocks
def weighted_kendall(
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    *,
    rank_by: Literal["accuracy", "score", "both"],
) -> np.ndarray:
    """Weighted Kendall's tau: a pair weighs 1/rank_i + 1/rank_j, rank 1 the best row.

    The choice of ranking decides the value, and sometimes its sign, so it has no default. Rows that
    tie in it are ranked by the other variable. Source: Vigna, A weighted correlation index for
    rankings with ties, WWW 2015. ``scipy.stats.weightedtau(accuracy, score)`` is ``"both"``, with
    ``rank=None`` ``"accuracy"``.

    Args:
      x: ``[n]`` score.
      y: ``[n]`` accuracy.
      counts: ``[r, n]`` replicates.
      rank_by: ``"accuracy"``, ``"score"``, or ``"both"``, the mean of the two values.

    Raises:
      ValueError: another ``rank_by``.
    """
    if rank_by not in RANK_BY:
        raise ValueError(f"rank_by: wanted one of {', '.join(RANK_BY)}, got {rank_by!r}")
    if rank_by == "both":
        both = [weighted_kendall(x, y, counts, rank_by=by) for by in ("accuracy", "score")]
        return (both[0] + both[1]) / 2
    counts = np.asarray(counts, float)
    first, second = (y, x) if rank_by == "accuracy" else (x, y)
    place = np.empty(len(x), int)
    place[np.lexsort((second, first))] = np.arange(len(x))[::-1]  # 0 is the best row
    above = counts @ (place[:, None] < place).astype(float)
    # The copies of a row have consecutive ranks: their weights are a piece of the harmonic series.
    harmonic = np.concatenate(
        [[0.0], np.cumsum(1 / np.arange(1, counts.sum(1).max(initial=0) + 1))]
    )
    weights = harmonic[(above + counts).astype(int)] - harmonic[above.astype(int)]
    return _concordance(x, y, counts, weights)


def partial_pearson(factor: np.ndarray) -> Statistic:
    """Pearson's r given a factor: ``x`` and ``y`` are centred within each level of the factor.

    With the class count as factor it is the partial correlation given the number of classes. With
    the group (script, alphabet) it is the group-centred correlation. ``factor [n]`` is any labels.
    """
    _, level = np.unique(factor, return_inverse=True)
    member = np.eye(level.max() + 1)[level]  # [n, levels]

    def statistic(x, y, counts):
        counts = np.asarray(counts, float)
        (x, floor_x), (y, floor_y) = _about_mean(x), _about_mean(y)
        size = np.maximum(counts @ member, 1)  # [r, levels]

        def within(a, b):  # sum of products about the means of levels
            of_means = (counts @ (a[:, None] * member)) * (counts @ (b[:, None] * member)) / size
            return counts @ (a * b) - of_means.sum(1)

        xx, yy, xy = within(x, x), within(y, y), within(x, y)
        total = np.maximum(counts.sum(1), 1)
        # Centring leaves rounding noise if a variable varies only between levels.
        return _ratio(xy, xx, yy, counts, (xx / total > floor_x) & (yy / total > floor_y))

    return statistic


def mean_over_groups(statistic: Statistic, groups: np.ndarray) -> Statistic:
    """The mean of a statistic over groups of rows, such as one for each target.

    ``groups [n]`` is any labels. Groups in which the statistic is undefined are left out.
    """
    parts = [np.flatnonzero(groups == name) for name in np.unique(groups)]

    def mean(x, y, counts):
        values = np.array([statistic(x[rows], y[rows], counts[:, rows]) for rows in parts])
        values = values.reshape(len(parts), len(counts))
        defined = np.isfinite(values)
        total = np.where(defined, values, 0).sum(0)
        return np.where(defined.any(0), total / np.maximum(defined.sum(0), 1), np.nan)

    return mean


def _about_mean(v: np.ndarray) -> tuple[np.ndarray, float]:
    """``v`` minus its mean, and the variance below which it counts as constant."""
    v = np.asarray(v, float)
    return v - (v.mean() if len(v) else 0), (_RELATIVE * np.abs(v).max(initial=0)) ** 2


def _signs(v: np.ndarray) -> np.ndarray:
    """``[n, n]``: 1 where row i is above row j, -1 below, 0 where they tie or nothing varies."""
    v = np.asarray(v, float)
    if not len(v) or np.ptp(v) <= _RELATIVE * np.abs(v).max():
        return np.zeros((len(v), len(v)))
    return np.sign(v[:, None] - v)


def _concordance(x, y, counts, weights):
    """Kendall's tau-b with a weight for each row: pair ij weighs weight_i + weight_j."""
    a, b = _signs(x), _signs(y)
    ab, aa, bb = (_dot(weights @ m, counts) for m in (a * b, np.abs(a), np.abs(b)))
    return _ratio(ab, aa, bb, counts)


def _ratio(xy, xx, yy, counts, defined=True):
    defined = defined & (xx > 0) & (yy > 0) & (np.count_nonzero(counts, 1) >= 3)
    scale = np.sqrt(np.where(defined, xx, 1)) * np.sqrt(np.where(defined, yy, 1))
    return np.where(defined, np.clip(xy / scale, -1, 1), np.nan)


def _dot(a, b):
    return np.einsum("rn,rn->r", a, b)


STATISTICS: dict[str, Statistic] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall,
    **{f"weighted_tau:{by}": partial(weighted_kendall, rank_by=by) for by in RANK_BY},
}

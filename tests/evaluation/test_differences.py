"""Two scores on the same rows: the difference, Williams' test, Holm's, and how many are needed."""

import numpy as np
import pytest
from scipy.stats import t as student

from leepjax.evaluation import (
    Difference,
    Estimate,
    cluster_membership,
    clusters_needed,
    difference,
    holm,
    jackknife,
    kendall,
    pearson,
    williams,
)
from leepjax.evaluation.correlation import STATISTICS
from leepjax.evaluation.differences import difference_of
from leepjax.evaluation.interval import Spread, interval, spread


def draw(rng, n, r=(0.6, 0.3, 0.5)):
    """Accuracy and two scores."""
    return rng.multivariate_normal(
        [0, 0, 0], [[1, r[0], r[1]], [r[0], 1, r[2]], [r[1], r[2], 1]], n
    ).T


@pytest.mark.parametrize("statistic", [pearson, kendall])
def test_equals_the_formula_over_loops(statistic):
    y, a, b = draw(np.random.default_rng(0), 60)
    cluster = np.arange(60) // 5
    found = difference(statistic, a, b, y, cluster_membership(cluster))
    one = np.ones((1, 60))
    r = [statistic(v, y, one)[0] for v in (a, b)]
    z = np.array(
        [
            [
                np.arctanh(statistic(v[cluster != c], y[cluster != c], np.ones((1, 55)))[0])
                for c in range(12)
            ]
            for v in (a, b)
        ]
    )
    covariance = 11**2 / 12 * np.cov(z)
    half = student.ppf(0.975, 11) * np.sqrt(np.diag(covariance))
    low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    shared = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    down, up = r[0] - low[0], high[1] - r[1]
    assert found.value == pytest.approx(r[0] - r[1], abs=1e-12)
    assert found.low == pytest.approx(
        r[0] - r[1] - np.sqrt(down**2 + up**2 - 2 * shared * down * up), abs=1e-12
    )
    down, up = r[1] - low[1], high[0] - r[0]
    assert found.high == pytest.approx(
        r[0] - r[1] + np.sqrt(down**2 + up**2 - 2 * shared * down * up), abs=1e-12
    )
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    t = abs(np.arctanh(r[0]) - np.arctanh(r[1])) / error
    assert found.p == pytest.approx(2 * student.sf(t, 11), abs=1e-12)


def test_the_other_way_round_is_the_negative():
    y, a, b = draw(np.random.default_rng(1), 30)
    one, other = difference(pearson, a, b, y), difference(pearson, b, a, y)
    np.testing.assert_allclose(one, (-other.value, -other.high, -other.low, other.p), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))  # a sum that rounds otherwise, every time
def test_a_score_is_no_better_than_itself(seed):
    y, a, _ = draw(np.random.default_rng(seed), 30)
    np.testing.assert_allclose(difference(pearson, a, 2 * a + 1, y), (0, 0, 0, 1), atol=1e-12)


def test_scores_that_vary_as_one_differ_for_sure_or_not_at_all():
    for other, p in ((0.5, 1.0), (0.3, 0.0)):
        joint = Spread(
            np.array([0.5, other]), np.full((2, 2), 0.01), 10, np.full(2, 9), np.empty((2, 0))
        )
        assert difference_of(joint, 0, 1).p == p


@pytest.mark.parametrize("clusters", [None, 10])
def test_coverage_at_thirty_rows(clusters):
    """Nominal 95 %; 500 repeats have a standard error of one point."""
    rng = np.random.default_rng(3)
    of = np.arange(30) % 10
    hits = single = 0
    for _ in range(500):
        own = draw(rng, 30)
        y, a, b = own if clusters is None else own + draw(rng, 10)[:, of]
        membership = None if clusters is None else cluster_membership(of)
        found = difference(pearson, a, b, y, membership)
        hits += found.low <= 0.3 <= found.high
        one, _ = jackknife(pearson, a, y, membership)
        single += one.low <= 0.6 <= one.high
    assert 0.93 <= hits / 500 <= 0.99
    assert 0.93 <= single / 500 <= 0.99


@pytest.mark.slow
def test_coverage_of_a_weighted_tau_decided_by_few_of_many_rows():
    """200 rows in 20 clusters; with g - 1 degrees of freedom it is .91 to .92.

    4,000 repeats have a standard error of a third of a point.
    """
    rng = np.random.default_rng(0)
    of, statistic = np.arange(200) % 20, STATISTICS["weighted_tau:accuracy"]
    intervals, values = [], []
    for _ in range(4000):
        y, a, b = draw(rng, 200) + draw(rng, 20)[:, of]
        found = spread(statistic, np.stack([a, b]), y, cluster_membership(of))
        values.append([*found.values, found.values[0] - found.values[1]])
        intervals.append(
            [interval(found, 0)[1:], interval(found, 1)[1:], difference_of(found, 0, 1)[1:3]]
        )
    low, high = np.moveaxis(intervals, 2, 0)
    truth = np.mean(values, 0)
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert (covered >= 0.93).all()
    assert (covered <= 0.985).all()
    error = np.sqrt(np.array([1, -1]) @ found.covariance @ [1, -1])
    t = abs(np.arctanh(found.values[0]) - np.arctanh(found.values[1])) / error
    assert difference_of(found, 0, 1).p == pytest.approx(2 * student.sf(t, 19), rel=1e-9)


def test_the_p_value_is_uniform_where_two_scores_are_equally_good():
    rng = np.random.default_rng(4)
    p = [
        difference(pearson, a, b, y).p
        for y, a, b in (draw(rng, 30, (0.5, 0.5, 0.7)) for _ in range(500))
    ]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.08


def test_undefined_where_one_of_the_two_is():
    y, a, _ = draw(np.random.default_rng(5), 30)
    assert np.isnan(difference(pearson, a, np.ones(30), y)).all()
    short = difference(pearson, a[:3], y[:3] ** 2, y[:3])
    assert np.isfinite(short.value)
    assert np.isnan(short[1:]).all()
    with pytest.raises(ValueError, match=r"other: wanted shape \(30,\) like x, got \(29,\)"):
        difference(pearson, a, a[1:], y)


def test_williams_has_its_size_where_rows_are_independent():
    rng = np.random.default_rng(6)
    p = []
    for _ in range(1000):
        y, a, b = draw(rng, 30, (0.5, 0.5, 0.7))
        r = np.corrcoef([y, a, b])
        p.append(williams(r[0, 1], r[0, 2], r[1, 2], 30)[1])
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07
    assert np.isnan(williams(1.0, 0.5, 0.5, 30)).all() or williams(1.0, 0.5, 0.5, 30)[0] > 0
    with pytest.raises(ValueError, match="rows: wanted at least 4, got 3"):
        williams(0.5, 0.4, 0.3, 3)


def test_holm_rejects_what_stepping_down_rejects():
    rng = np.random.default_rng(7)
    for _ in range(50):
        p = rng.random(8) ** 3
        rejected, ordered = set(), np.argsort(p)
        for step, i in enumerate(ordered):
            if p[i] > 0.05 / (8 - step):
                break
            rejected.add(int(i))
        adjusted = holm(np.append(p, np.nan))
        assert set(np.flatnonzero(adjusted <= 0.05)) == rejected
        assert np.isnan(adjusted[-1])


def test_needed_is_what_a_simulation_needs():
    """As many rows as it says give an interval without 0 about four times in five."""
    rng = np.random.default_rng(8)
    estimates = []
    for _ in range(200):
        y, a, _ = draw(rng, 200, (0.4, 0.3, 0.5))
        estimates.append(jackknife(pearson, a, y)[0])
    number = int(np.median([clusters_needed(e, 200) for e in estimates]))
    found = 0
    for _ in range(400):
        y, a, _ = draw(rng, number, (0.4, 0.3, 0.5))
        found += jackknife(pearson, a, y)[0].low > 0
    assert 0.7 <= found / 400 <= 0.9
    assert np.isnan(clusters_needed(Estimate(0.3, np.nan, np.nan), 10))
    assert clusters_needed(Estimate(0.0, -0.1, 0.1), 10) == np.inf
    assert clusters_needed(Difference(0.0, 0.0, 0.0, 1.0), 10) == np.inf

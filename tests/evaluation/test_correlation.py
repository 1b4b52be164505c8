"""Correlations against SciPy, on subsets and resamples, with ties; undefined where none is."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from leepjax.evaluation import (
    jackknife,
    kendall,
    mean_over_groups,
    partial_pearson,
    pearson,
    spearman,
    task_membership,
    weighted_kendall,
)
from leepjax.evaluation.correlation import STATISTICS

RNG = np.random.default_rng(0)
X = RNG.normal(size=40).round(1)  # rounded: ties
Y = (X + RNG.normal(size=40)).round(1)
SUBSETS = RNG.random((5, 40)) < 0.6
RESAMPLES = RNG.multinomial(40, np.full(40, 1 / 40), size=5)
SCIPY = {
    "pearson": scipy.stats.pearsonr,
    "spearman": scipy.stats.spearmanr,
    "kendall": scipy.stats.kendalltau,
    "weighted_tau:accuracy": lambda x, y: scipy.stats.weightedtau(y, x, rank=None),
    "weighted_tau:score": lambda x, y: scipy.stats.weightedtau(x, y, rank=None),
    "weighted_tau:both": scipy.stats.weightedtau,
}


@pytest.mark.parametrize("name", SCIPY)
@pytest.mark.parametrize("counts", [SUBSETS, RESAMPLES], ids=["subsets", "resamples"])
def test_equals_scipy_on_every_replicate(name, counts):
    rows = [np.repeat(np.arange(40), n) for n in counts.astype(int)]
    expected = [SCIPY[name](X[i], Y[i])[0] for i in rows]
    np.testing.assert_allclose(STATISTICS[name](X, Y, counts), expected, atol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS.values())
def test_many_replicates_are_what_each_is_alone(statistic):
    counts = RNG.multinomial(40, np.full(40, 1 / 40), size=4500)
    found = statistic(X, Y, counts)
    assert found.shape == (4500,)
    for i in (0, 1999, 2000, 4499):
        np.testing.assert_allclose(found[i], statistic(X, Y, counts[i : i + 1])[0], atol=1e-12)
    assert statistic(X, Y, counts[:0]).shape == (0,)


def test_a_large_common_offset_costs_no_digits():
    expected = scipy.stats.pearsonr(X, Y)[0]
    found = pearson(X - 1e6, 1e3 * Y, np.ones((1, 40)))
    assert np.isnan(found).all()  # a spread of 1e-6 of the largest: rounding, as far as known
    np.testing.assert_allclose(pearson(X - 1e4, Y, np.ones((1, 40))), expected, atol=1e-10)


def test_the_convention_of_the_weighted_tau_decides_its_sign():
    """Five models whose best is scored last, and four whose order is right below it."""
    score, accuracy = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 1, 2, 3, 4])
    every = np.ones((1, 5))

    def by_definition(rank):  # 1 the best
        total = weight = 0.0
        for i in range(5):
            for j in range(i):
                w = 1 / rank[i] + 1 / rank[j]
                total += w * np.sign((score[i] - score[j]) * (accuracy[i] - accuracy[j]))
                weight += w
        return total / weight

    by_accuracy = weighted_kendall(score, accuracy, every, rank_by="accuracy")[0]
    by_score = weighted_kendall(score, accuracy, every, rank_by="score")[0]
    assert by_accuracy == pytest.approx(by_definition(np.array([1, 5, 4, 3, 2])), abs=1e-12)
    assert by_score == pytest.approx(by_definition(np.array([5, 4, 3, 2, 1])), abs=1e-12)
    assert by_accuracy < 0 < by_score
    with pytest.raises(ValueError, match="rank_by: wanted one of accuracy, score, both, got 'x'"):
        weighted_kendall(score, accuracy, every, rank_by="x")  # pyright: ignore


@pytest.mark.parametrize("counts", [SUBSETS, RESAMPLES], ids=["subsets", "resamples"])
def test_partial_is_the_correlation_of_residuals_on_dummies(counts):
    factor = RNG.integers(0, 4, 40)
    x, y = X + factor, Y + 3 * factor
    for row in counts.astype(int):
        rows = np.repeat(np.arange(40), row)
        dummies = np.eye(4)[factor[rows]]
        residuals = [
            v[rows] - dummies @ np.linalg.lstsq(dummies, v[rows], rcond=None)[0] for v in (x, y)
        ]
        expected = np.corrcoef(*residuals)[0, 1]
        np.testing.assert_allclose(partial_pearson(factor)(x, y, row[None]), expected, atol=1e-12)
    everything = np.ones((1, 40), bool)  # the factor had inflated it
    assert pearson(x, y, everything) > partial_pearson(factor)(x, y, everything) + 0.1


@pytest.mark.parametrize("statistic", [*STATISTICS.values(), partial_pearson(np.arange(40) % 3)])
def test_undefined_where_nothing_varies_or_fewer_than_three_rows_do(statistic):
    everything = np.ones((1, 40), bool)
    flat = np.full(40, -1.6094)
    flat[::2] += 1e-8  # float32's rounding
    assert np.isnan(statistic(flat, Y, everything)).all()
    assert np.isnan(statistic(X, np.full(40, 0.7), everything)).all()
    assert np.isnan(statistic(X, Y, (np.arange(40) < 2)[None])).all()
    assert np.isnan(statistic(X, Y, np.zeros((1, 40)))).all()


@pytest.mark.parametrize("statistic", STATISTICS.values())
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_fewer_than_three_rows_are_undefined(statistic, rows):
    value = jackknife(statistic, X[:rows], Y[:rows])[0]
    assert np.isnan(value).all()
    mean = mean_over_groups(statistic, np.array(["a", "b"])[:rows])
    assert np.isnan(mean(X[:rows], Y[:rows], np.ones((1, rows)))).all()


def test_partial_is_undefined_where_a_score_is_a_function_of_the_factor():
    factor = np.arange(40) % 3
    score = -np.log(factor + 2).astype(np.float32)
    assert np.isnan(partial_pearson(factor)(score.astype(float), Y, np.ones((1, 40), bool))).all()


def test_averaged_is_the_mean_over_parts_that_are_defined():
    part = np.repeat(["a", "b", "c", "d"], 10)
    x = np.where(part == "d", 1.0, X)  # undefined in d
    counts = np.ones((2, 40))
    counts[1, part == "a"] = 0  # and in a as well
    taus = [scipy.stats.kendalltau(x[part == p], Y[part == p])[0] for p in "abc"]
    expected = np.mean(taus), np.mean(taus[1:])
    np.testing.assert_allclose(mean_over_groups(kendall, part)(x, Y, counts), expected, atol=1e-12)
    assert np.isnan(mean_over_groups(spearman, part)(np.ones(40), Y, counts)).all()


def test_tasks_are_clustered_by_their_groups_or_else_by_their_classes():
    classes, across = np.array([[0, 3], [3, 9], [1, -1]]), np.array([-1, -1, -1])

    def of(groups):
        return task_membership(SimpleNamespace(classes=classes, groups=groups))

    found = of(across)
    assert [list(np.flatnonzero(row)) for row in found] == [[0, 3], [3, 9], [1]]
    np.testing.assert_array_equal(of(across + 1), found)  # one group is none
    found = of(np.array([7, 2, 7]))
    np.testing.assert_array_equal(found, [[False, True], [True, False], [False, True]])

"""Correlations against SciPy, on subsets, with ties, undefined where nothing varies."""

import numpy as np
import pytest
import scipy.stats

from leepjax.evaluation import kendall, partial_pearson, pearson, spearman

RNG = np.random.default_rng(0)
X = RNG.normal(size=40).round(1)  # rounded: ties
Y = (X + RNG.normal(size=40)).round(1)
KEEP = RNG.random((5, 40)) < 0.6
SCIPY = {
    pearson: scipy.stats.pearsonr,
    spearman: scipy.stats.spearmanr,
    kendall: scipy.stats.kendalltau,
}


@pytest.mark.parametrize("statistic", SCIPY)
def test_equals_scipy_on_every_subset(statistic):
    expected = [SCIPY[statistic](X[keep], Y[keep])[0] for keep in KEEP]
    np.testing.assert_allclose(statistic(X, Y, KEEP), expected, atol=1e-12)


def test_partial_is_the_correlation_of_residuals_on_dummies():
    factor = RNG.integers(0, 4, 40)
    x, y = X + factor, Y + 3 * factor
    dummies = np.eye(4)[factor]
    residuals = [v - dummies @ np.linalg.lstsq(dummies, v, rcond=None)[0] for v in (x, y)]
    expected = np.corrcoef(*residuals)[0, 1]
    everything = np.ones((1, 40), bool)
    np.testing.assert_allclose(partial_pearson(factor)(x, y, everything), expected, atol=1e-12)
    assert pearson(x, y, everything) > expected + 0.1  # the factor had inflated it


@pytest.mark.parametrize("statistic", [*SCIPY, partial_pearson(np.arange(40) % 3)])
def test_undefined_where_nothing_varies(statistic):
    everything = np.ones((1, 40), bool)
    assert np.isnan(statistic(np.full(40, -1.6094), Y, everything)).all()
    assert np.isnan(statistic(X, np.full(40, 0.7), everything)).all()


def test_partial_is_undefined_where_a_score_is_a_function_of_the_factor():
    factor = np.arange(40) % 3
    score = -np.log(factor + 2).astype(np.float32)
    assert np.isnan(partial_pearson(factor)(score.astype(float), Y, np.ones((1, 40), bool))).all()

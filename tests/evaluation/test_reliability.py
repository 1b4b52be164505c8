"""Nulls over models, the noise ceiling and stability, against loops and simulations."""

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from leepjax.evaluation import noise_ceiling, stability, static_ranking


def test_static_ranking_never_looks_at_the_target():
    rng = np.random.default_rng(0)
    accuracy = rng.random((5, 7)).round(1)  # ties
    found = static_ranking(accuracy)
    for i in range(5):
        others = [rankdata(accuracy[j]) / 7 for j in range(5) if j != i]
        np.testing.assert_allclose(found[i], np.mean(others, 0), atol=1e-12)
        changed = accuracy.copy()
        changed[i] = rng.random(7)
        np.testing.assert_allclose(static_ranking(changed)[i], found[i], atol=1e-12)


def test_static_ranking_of_models_that_were_not_run_everywhere():
    accuracy = np.array([[0.5, 0.9, np.nan], [0.2, 0.4, np.nan], [0.6, 0.5, 0.7]])
    found = static_ranking(accuracy)
    np.testing.assert_allclose(found[2, :2], [0.5, 1.0])
    np.testing.assert_allclose(found[0], [(0.5 + 2 / 3) / 2, (1 + 1 / 3) / 2, 1.0])
    assert np.isnan(found[2, 2])  # nowhere else


def test_noise_ceiling_is_what_the_truth_reaches():
    """Interval covers r of the true accuracies with the means over three seeds."""
    rng = np.random.default_rng(1)
    hits, values = 0, []
    for _ in range(400):
        truth = rng.normal(size=30)
        accuracy = truth + 0.8 * rng.normal(size=(3, 30))
        ceiling = noise_ceiling(accuracy)
        expected = np.sqrt(1 / (1 + 0.64 / 3))
        hits += ceiling.low <= expected <= ceiling.high
        values.append(ceiling.value - np.corrcoef(truth, accuracy.mean(0))[0, 1])
    assert abs(np.mean(values)) < 0.01
    assert 0.93 <= hits / 400 <= 0.98


def test_noise_ceiling_where_it_cannot_be_less_or_more():
    same = np.tile(np.arange(5.0), (2, 1))
    assert noise_ceiling(same) == (1, 1, 1)
    assert np.isnan(noise_ceiling(np.ones((2, 5)))).all()
    noise = noise_ceiling(np.array([[0.0, 1, 0, 1], [1.0, 0, 1, 0]]))
    assert np.isnan(noise.value)  # means over seeds do not vary
    with pytest.raises(ValueError, match="at least 2 seeds and 3 rows, got"):
        noise_ceiling(np.ones((1, 5)))
    with pytest.raises(ValueError, match="finite numbers; leave rows"):
        noise_ceiling(np.array([[0.0, 1, 2], [1.0, np.nan, 2]]))


def test_stability_takes_pairs_that_differ_in_one_component():
    rng = np.random.default_rng(2)
    studies = [{"target": t, "source": s} for t in "abc" for s in "xy"]
    values = rng.random((6, 5))
    values[0, 0] = np.nan
    found = stability(studies, values)
    assert list(found) == ["target", "source"]
    assert found["target"][1] == 6
    assert found["source"][1] == 3
    there = np.isfinite(values[0])
    taus = [
        kendalltau(values[0][there], values[1][there])[0],
        *(kendalltau(values[i], values[i + 1])[0] for i in (2, 4)),
    ]
    assert found["source"][0] == pytest.approx(np.mean(taus), abs=1e-12)
    with pytest.raises(ValueError, match="values: wanted 6 rows, got 5"):
        stability(studies, values[1:])
    with pytest.raises(ValueError, match="components: wanted target, source of study 1"):
        stability([studies[0], {"target": "a"}], values[:2])

"""The clustered interval: against a loop, and its coverage where tasks share classes."""

import numpy as np
import pytest
from scipy.stats import t as student

from leepjax.evaluation import (
    correlate,
    jackknife,
    kendall,
    partial_pearson,
    pearson,
    spearman,
)


@pytest.mark.parametrize("statistic", [pearson, spearman, kendall])
def test_equals_a_loop_over_left_out_clusters(statistic):
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    cluster = np.arange(60) // 5  # disjoint clusters: the plain delete-one-group jackknife
    estimate, deleted = jackknife(statistic, x, y, cluster[:, None] == np.arange(12))
    everything = np.ones((1, 55), bool)
    loop = [statistic(x[cluster != c], y[cluster != c], everything)[0] for c in range(12)]
    np.testing.assert_allclose(deleted, loop, atol=1e-12)
    z = np.arctanh(loop)
    half = student.ppf(0.975, 11) * np.sqrt(11 / 12 * np.sum((z - z.mean()) ** 2))
    centre = np.arctanh(estimate.value)
    np.testing.assert_allclose(estimate[1:], np.tanh([centre - half, centre + half]), atol=1e-12)


@pytest.mark.parametrize(("num_classes", "low", "high"), [(10, 0.91, 1.0), (100, 0.91, 0.99)])
def test_coverage_where_tasks_share_classes(num_classes, low, high):
    """Tasks of 5 classes, score and accuracy the means of class effects of correlation 0.6."""
    rng = np.random.default_rng(1)
    hits, naive_hits, repeats = 0, 0, 200
    for _ in range(repeats):
        sets = np.array([rng.choice(num_classes, 5, replace=False) for _ in range(100)])
        effects = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], num_classes)
        x, y = effects[sets].mean(1).T
        membership = (sets[:, :, None] == np.arange(num_classes)).any(1)
        estimate, _ = jackknife(pearson, x, y, membership)
        hits += estimate.low <= 0.6 <= estimate.high
        naive = np.arctanh(estimate.value) + 1.96 / np.sqrt(97) * np.array([-1, 1])
        naive_hits += np.tanh(naive[0]) <= 0.6 <= np.tanh(naive[1])
    assert low <= hits / repeats <= high
    assert naive_hits / repeats < hits / repeats - 0.05  # what tasks taken for independent give


def test_undefined_where_it_cannot_be_computed():
    x = np.arange(5.0)
    one, _ = jackknife(pearson, x, x**2, np.ones((5, 1), bool))
    assert np.isfinite(one.value)
    assert np.isnan(one.low)
    constant, _ = jackknife(pearson, np.full(5, 2.0), x, np.eye(5, dtype=bool))
    assert np.isnan(constant).all()


def test_correlate_names_nulls_partial_and_groups():
    rng = np.random.default_rng(2)
    classes = np.array([[*rng.choice(9, 3, replace=False)] for _ in range(40)])
    classes[::2, 2] = -1  # tasks of two and of three classes
    accuracy = rng.random(40)
    scores = {"good": accuracy + 0.1 * rng.random(40), "flat": np.full(40, 0.1, np.float32)}
    scores["flat"][::2] += 1e-8
    good, flat = correlate(
        scores, accuracy, classes=classes, groups=np.arange(40) % 4, num_bank_classes=9
    )
    assert list(good.estimates) == [
        *("pearson", "spearman", "kendall", "pearson|num_classes", "pearson|group")
    ]
    assert good.estimates["pearson"].low > 0.8
    assert np.isnan([e.value for e in flat.estimates.values()]).all()
    # Where tasks come in groups, groups are left out; centred by group, classes are.
    by_group = (np.arange(40) % 4)[:, None] == np.arange(4)
    by_class = (classes[:, :, None] == np.arange(9)).any(1)
    centred = partial_pearson(np.arange(40) % 4)
    assert good.estimates["pearson"] == jackknife(pearson, scores["good"], accuracy, by_group)[0]
    assert (
        good.estimates["pearson|group"] == jackknife(centred, scores["good"], accuracy, by_class)[0]
    )
    member = (classes == 4).any(1)
    expected = np.corrcoef(scores["good"][~member], accuracy[~member])[0, 1]
    np.testing.assert_allclose(good.without_class[4], expected)


def test_bad_input():
    with pytest.raises(ValueError, match="membership: wanted 3 rows"):
        jackknife(pearson, np.zeros(3), np.zeros(3), np.ones((4, 2), bool))
    with pytest.raises(ValueError, match="leep: wanted 3 finite numbers"):
        correlate(
            {"leep": np.array([0, np.nan, 1])},
            np.zeros(3),
            classes=np.zeros((3, 1), int),
            groups=np.zeros(3),
            num_bank_classes=1,
        )

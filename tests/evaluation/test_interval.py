"""The clustered interval: against a loop, and its coverage where tasks share classes."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kurtosis
from scipy.stats import t as student

from leepjax.evaluation import (
    cluster_membership,
    correlate,
    jackknife,
    kendall,
    partial_pearson,
    pearson,
    spearman,
)
from leepjax.evaluation.correlation import STATISTICS
from leepjax.evaluation.interval import interval, spread


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


def loop(x, y, groups):
    """Jackknife variance of Fisher's z from leaving out rows, one group of indices at a time."""
    z = [np.arctanh(np.corrcoef(np.delete(x, rows), np.delete(y, rows))[0, 1]) for rows in groups]
    return (len(z) - 1) * np.var(z)


def variance(estimate, freedom):
    low, high = np.arctanh(estimate[1:])
    return ((high - low) / 2 / student.ppf(0.975, freedom)) ** 2


def same(estimate, other):
    """Up to the order of sums, which the number of scores that go together decides."""
    np.testing.assert_allclose(estimate, other, rtol=1e-12)


def test_equals_the_formula_where_rows_share_classes():
    rng = np.random.default_rng(3)
    sets = np.array([rng.choice(12, 3, replace=False) for _ in range(50)])
    x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 12)[sets].mean(1).T
    x, y = x + 0.2 * rng.normal(size=50), y + 0.2 * rng.normal(size=50)
    estimate, _ = jackknife(pearson, x, y, (sets[:, :, None] == np.arange(12)).any(1))
    of_classes = loop(x, y, [np.flatnonzero((sets == c).any(1)) for c in range(12)])
    of_rows = loop(x, y, [[i] for i in range(50)])
    excess = 11 * 3 / (12 - 3) - 1
    expected = max(of_classes - (1 - 3 / 12) ** 4 * excess * of_rows, of_rows)
    assert expected > of_rows
    assert variance(estimate, 11) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("seed", "adds"), [(4, False), (6, True)])
def test_crossed_rows_have_the_variance_of_both_ways(seed, adds):
    rng = np.random.default_rng(seed)
    target, model = (a.ravel() for a in np.indices((6, 9)))
    x, y = rng.normal(size=(2, 9))[:, model] + rng.normal(size=(2, 6))[:, target]
    x, y = x + 0.5 * rng.normal(size=54), y + x + 0.5 * rng.normal(size=54)
    estimate, deleted = jackknife(
        pearson, x, y, (cluster_membership(target), cluster_membership(model))
    )
    of_targets = loop(x, y, [np.flatnonzero(target == i) for i in range(6)])
    of_models = loop(x, y, [np.flatnonzero(model == i) for i in range(9)])
    of_rows = loop(x, y, [[i] for i in range(54)])
    expected = max(of_targets + of_models - of_rows, of_targets, of_models)
    assert (expected > 1.01 * max(of_targets, of_models)) == adds
    assert variance(estimate, 5) == pytest.approx(expected, rel=1e-9)
    assert deleted.shape == (15,)


def test_independent_rows_are_clusters_of_their_own():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 20))
    same(jackknife(pearson, x, y)[0], jackknife(pearson, x, y, np.eye(20, dtype=bool))[0])


def test_ranks_that_agree_in_all_rows_but_one_have_an_interval():
    x = np.arange(8.0)
    y = np.array([0.0, 1, 2, 3, 4, 7, 5, 6])  # without row 5 they agree
    estimate, deleted = jackknife(kendall, x, y)
    assert deleted[5] == 1
    assert -1 < estimate.low < estimate.value < estimate.high < 0.9995
    perfect, _ = jackknife(kendall, x, x)
    assert perfect.value == 1
    assert np.isnan(perfect.low)


@pytest.mark.parametrize("clusters", [8, 40])
def test_the_weighted_tau_has_the_freedom_of_its_kurtosis(clusters):
    rng = np.random.default_rng(6)
    x, noise = rng.normal(size=(2, 40))
    y, of = x + noise, np.arange(40) % clusters
    statistic = STATISTICS["weighted_tau:score"]
    estimate, deleted = jackknife(statistic, x, y, cluster_membership(of))
    z = np.arctanh(deleted)
    excess = max(kurtosis(z, bias=False), 0)
    freedom = 1 / (1 / (clusters - 1) + excess / (2 * clusters))
    assert (freedom < clusters - 1) == (clusters == 40)  # 8 are too even to lose any
    assert variance(estimate, freedom) == pytest.approx((clusters - 1) * np.var(z), rel=1e-9)
    # Beside another score it is the same, and z that do not vary, of accuracy itself, do no harm.
    both = spread(statistic, np.stack([x, y]), y, cluster_membership(of))
    assert both.freedom == pytest.approx([freedom, clusters - 1])
    same(interval(both, 0), estimate)
    of_rows = jackknife(statistic, x, y)[1]
    by_row = 1 / (1 / 39 + max(kurtosis(np.arctanh(of_rows), bias=False), 0) / 80)
    crossed = spread(
        statistic, x[None], y, (cluster_membership(np.arange(40)), cluster_membership(of))
    )
    assert crossed.freedom == pytest.approx([min(freedom, by_row)])
    assert crossed.clusters == clusters


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
        scores, accuracy, SimpleNamespace(classes=classes, groups=np.arange(40) % 4)
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
    same(good.estimates["pearson"], jackknife(pearson, scores["good"], accuracy, by_group)[0])
    same(good.estimates["pearson|group"], jackknife(centred, scores["good"], accuracy, by_class)[0])
    member = (classes == 4).any(1)
    expected = np.corrcoef(scores["good"][~member], accuracy[~member])[0, 1]
    np.testing.assert_allclose(good.without_class[4], expected)


def test_bad_input():
    with pytest.raises(ValueError, match="membership: wanted 3 rows"):
        jackknife(pearson, np.zeros(3), np.zeros(3), np.ones((4, 2), bool))
    for accuracy, got in (
        (np.array(["85%", "86%", "87%"]), "<U3 of shape .3. with 85% at 0"),
        (np.array([1, 2, None], object), "object of shape .3."),
        (np.array([1, 2]), "int64 of shape .2."),
        (np.array([1, np.inf, 2]), "float64 of shape .3. with inf at 1"),
    ):
        tasks = SimpleNamespace(classes=np.zeros((3, 1), int), groups=np.zeros(3))
        with pytest.raises(ValueError, match=f"accuracy: wanted 3 finite numbers.* got {got}"):
            correlate({"leep": np.zeros(3)}, accuracy, tasks)
    with pytest.raises(ValueError, match="leep: wanted 3 finite numbers"):
        correlate(
            {"leep": np.array([0, np.nan, 1])},
            np.zeros(3),
            SimpleNamespace(classes=np.zeros((3, 1), int), groups=np.zeros(3)),
        )

"""Means over tasks, by level of a score too: intervals by leaving out what tasks share."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from leepjax.evaluation import in_levels, mean

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(24, 3))
MEMBERSHIP = RNG.random((24, 7)) < 0.4  # several clusters to a task


def test_the_interval_of_independent_tasks_is_students():
    values = VALUES[:12]
    expected = stats.t.interval(0.95, 11, values.mean(0), stats.sem(values))
    for membership in (None, np.eye(12, dtype=bool)):
        found = mean(values, membership)
        np.testing.assert_allclose(found.value, values.mean(0))
        np.testing.assert_allclose(found[1:], expected)


def test_equals_a_loop_over_left_out_clusters():
    values = VALUES[:, 0]
    deleted = [values[~MEMBERSHIP[:, c]].mean() for c in range(7)]
    half = stats.t.ppf(0.975, 6) * np.sqrt(6 / 7 * np.sum((deleted - np.mean(deleted)) ** 2))
    found = mean(values, MEMBERSHIP)
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


def test_columns_are_means_of_their_own():
    found = np.array(mean(VALUES, MEMBERSHIP))
    for e in range(3):
        np.testing.assert_allclose(found[:, e], mean(VALUES[:, e], MEMBERSHIP))


def test_a_shift_and_a_scale_of_the_values_are_those_of_the_interval():
    found = np.array(mean(VALUES, MEMBERSHIP))
    np.testing.assert_allclose(np.array(mean(2 * VALUES + 5, MEMBERSHIP)), 2 * found + 5)
    value, low, high = mean(-VALUES, MEMBERSHIP)
    np.testing.assert_allclose([value, high, low], -found)


def test_the_order_of_tasks_and_of_clusters_does_not_matter():
    rows, columns = RNG.permutation(24), RNG.permutation(7)
    found = mean(VALUES[rows], MEMBERSHIP[rows][:, columns])
    np.testing.assert_allclose(found, mean(VALUES, MEMBERSHIP))


def test_copies_of_clusters_do_not_narrow_the_interval():
    copies, membership = np.repeat(VALUES, 5, 0), np.repeat(np.eye(24, dtype=bool), 5, 0)
    np.testing.assert_allclose(mean(copies, membership), mean(VALUES, None))


@pytest.mark.parametrize(
    ("classes", "size", "low", "high"), [(13, 1, 0.91, 0.985), (10, 5, 0.93, 1.0)]
)
def test_coverage_where_tasks_share_classes(classes, size, low, high):
    """400 simulated studies of 40 tasks; at 95 % three standard errors are 0.033."""
    rng = np.random.default_rng(3)
    hits = naive_hits = 0
    for _ in range(400):
        sets = np.array([rng.choice(classes, size, replace=False) for _ in range(40)])
        values = rng.normal(size=classes)[sets].mean(1) + 0.2 * rng.normal(size=40)
        found = mean(values, (sets[:, :, None] == np.arange(classes)).any(1))
        hits += found.low <= 0 <= found.high
        naive = mean(values, None)
        naive_hits += naive.low <= 0 <= naive.high
    assert low <= hits / 400 <= high
    assert naive_hits / 400 < 0.8  # what tasks taken for independent give


@pytest.mark.parametrize(
    "membership",
    [
        np.tile([True, False], (24, 1)),  # one cluster that holds all, one that holds none
        np.arange(24)[:, None] % 2 == np.arange(2),  # two clusters
        np.zeros((24, 0), bool),
    ],
)
def test_fewer_than_three_clusters_give_no_interval(membership):
    found = mean(VALUES[:, 0], membership)
    assert found.value == pytest.approx(VALUES[:, 0].mean())
    assert np.isnan(found[1:]).all()


def test_a_cluster_of_all_tasks_or_of_none_does_not_count():
    padded = np.column_stack([MEMBERSHIP, np.ones(24, bool), np.zeros(24, bool)])
    np.testing.assert_array_equal(mean(VALUES, padded), mean(VALUES, MEMBERSHIP))


def test_values_that_do_not_vary_have_an_interval_of_width_zero():
    assert mean(np.full(5, 0.25), None) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "membership", "message"),
    [
        (np.zeros((2, 2, 2)), None, r"values: wanted shape \[t\] or \[t, e\], got \[2, 2, 2\]"),
        (np.zeros(0), None, r"values: wanted shape \[t\] or \[t, e\], got \[0\]"),
        (np.array([1, np.nan]), None, "values: wanted finite numbers; leave tasks that failed"),
        (np.zeros(3), np.ones((4, 2)), r"membership: wanted shape \[3, g\], .*, got \[4, 2\]"),
        (np.zeros(3), np.ones(3), r"membership: wanted shape \[3, g\], .*, got \[3\]"),
    ],
)
def test_bad_input_of_a_mean(values, membership, message):
    with pytest.raises(ValueError, match=message):
        mean(values, membership)


def test_levels_are_equally_many_tasks_in_order_of_the_score():
    score = RNG.normal(size=23)
    levels = in_levels(score, VALUES[:23], np.eye(23, dtype=bool))
    assert [level.tasks for level in levels] == [5, 5, 5, 4, 4]
    assert all(a.scores[1] <= b.scores[0] for a, b in pairwise(levels))
    members = np.argsort(score)[5:10]
    np.testing.assert_allclose(levels[1][2:], mean(VALUES[members], None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 7}, "levels: wanted 1 to 6"),
        ({"values": np.ones((5, 2))}, r"values: wanted shape \[6, ...\]"),
        ({"values": np.full((6, 2), np.nan)}, "values: wanted finite"),
        ({"score": np.full(6, np.nan)}, "score: wanted finite"),
        ({"membership": np.ones(6, bool)}, "membership: wanted shape"),
    ],
)
def test_bad_input_of_levels(changes, message):
    arguments = {"score": np.arange(6.0), "values": np.ones((6, 2)), "levels": 2}
    arguments |= {"membership": np.eye(6, dtype=bool)}
    with pytest.raises(ValueError, match=message):
        in_levels(**{**arguments, **changes})

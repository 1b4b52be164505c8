"""Levels of a score: means, and intervals by leaving out what tasks share."""

from itertools import pairwise

import numpy as np
import pytest

from leepjax.evaluation import in_levels


def test_levels_are_equally_many_tasks_in_order_of_the_score():
    rng = np.random.default_rng(0)
    score, values = rng.normal(size=23), rng.normal(size=(23, 4))
    levels = in_levels(score, values, np.eye(23, dtype=bool))
    assert [level.tasks for level in levels] == [5, 5, 5, 4, 4]
    assert all(a.scores[1] <= b.scores[0] for a, b in pairwise(levels))
    members = np.argsort(score)[5:10]
    np.testing.assert_allclose(levels[1].mean, values[members].mean(0))


def test_the_interval_of_separate_tasks_is_students():
    from scipy.stats import t

    values = np.random.default_rng(1).normal(size=(12, 3))
    (level,) = in_levels(np.arange(12), values, np.eye(12, dtype=bool), levels=1)
    half = t.ppf(0.975, 11) * values.std(0, ddof=1) / np.sqrt(12)
    np.testing.assert_allclose(level.high - level.mean, half)
    np.testing.assert_allclose(level.mean - level.low, half)


def test_copies_of_clusters_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=(12, 3))
    (one,) = in_levels(np.arange(12), values, np.eye(12, dtype=bool), levels=1)
    copies, membership = np.repeat(values, 5, 0), np.repeat(np.eye(12, dtype=bool), 5, 0)
    (five,) = in_levels(np.arange(60), copies, membership, levels=1)
    np.testing.assert_allclose(one.low, five.low)


def test_too_few_clusters_give_no_interval():
    values = np.ones((6, 2))
    membership = np.tile([True, False], (6, 1))  # one cluster that holds all
    (level,) = in_levels(np.arange(6), values, membership, levels=1)
    np.testing.assert_array_equal(level.mean, 1)
    assert np.isnan(level.low).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 7}, "levels: wanted 1 to 6"),
        ({"values": np.ones((5, 2))}, r"values: wanted shape \[6, ...\]"),
        ({"values": np.full((6, 2), np.nan)}, "values: wanted finite"),
        ({"membership": np.ones(6, bool)}, "membership: wanted shape"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"values": np.ones((6, 2)), "membership": np.eye(6, dtype=bool), "levels": 2}
    with pytest.raises(ValueError, match=message):
        in_levels(np.arange(6.0), **{**arguments, **changes})

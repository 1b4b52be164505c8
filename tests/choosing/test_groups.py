"""Groups of tasks from scores between them: by hand, by least squares, by what must not matter."""

from itertools import combinations

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list

from leepjax.choosing import (
    affinity,
    average_linkage,
    cut_tree,
    group_sizes,
    group_tasks,
    pair_interaction,
    random_partitions,
    standardise_columns,
)


def test_a_target_that_is_easy_for_all_is_close_to_none():
    scores = np.array([[9.0, 1.0, 4.0], [3.0, 9.0, 2.0], [1.0, 0.0, 9.0]])
    # columns: 3, 1; 1, 0; 4, 2: two values are one above and one below their mean
    np.testing.assert_allclose(standardise_columns(scores), [[0, 1, 1], [1, 0, -1], [-1, -1, 0]])
    np.testing.assert_allclose(
        standardise_columns(scores * [1, 20, 3] + [5, 0, -7]), standardise_columns(scores)
    )
    scores[:, 2] = 4
    np.testing.assert_allclose(standardise_columns(scores)[:, 2], 0)


def test_an_interaction_is_what_each_tasks_own_does_not_explain():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(7, 7))
    found = pair_interaction(table)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-12)
    # Least squares by the normal equations, over pairs.
    pairs = list(combinations(range(7), 2))
    y = np.array([(table[i, j] + table[j, i]) / 2 for i, j in pairs])
    design = np.array([[k in pair for k in range(7)] for pair in pairs], float)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose([found[pair] for pair in pairs], rest, atol=1e-12)
    # What a task gives to all and what it takes from all make no difference.
    gives, takes = rng.normal(size=(2, 7))
    np.testing.assert_allclose(pair_interaction(table + gives[:, None] + takes), found, atol=1e-12)
    np.testing.assert_allclose(affinity(table), pair_interaction(standardise_columns(table)))


def test_the_diagonal_is_not_read():
    scores = np.random.default_rng(1).normal(size=(5, 5))
    other = scores + np.diag(np.full(5, np.nan))
    for function in (standardise_columns, pair_interaction, affinity):
        np.testing.assert_array_equal(function(other), function(scores))
    assert group_tasks(other, 2) == group_tasks(scores, 2)


def test_leaves_are_ordered_by_what_is_next_to_each_other():
    place = np.array([3.0, 0.0, 4.1, 1.2, 2.1, 5.3])
    leaves = leaves_list(average_linkage(-np.abs(place[:, None] - place)))
    assert list(leaves) in (list(np.argsort(place)), list(np.argsort(-place)))


def test_groups_are_those_of_average_linkage():
    close = np.zeros((4, 4))
    for (i, j), value in {(0, 2): 5, (1, 3): 4, (0, 1): 3, (0, 3): 1, (2, 1): 0, (2, 3): 2}.items():
        close[i, j] = close[j, i] = value
    linked = average_linkage(close)  # distances 0 and 1, then the mean of 2, 4, 5 and 3
    np.testing.assert_allclose(linked[:, 2], [0, 1, 3.5])
    assert cut_tree(linked, 2) == ((0, 2), (1, 3))
    assert cut_tree(linked, 3) == ((0, 2), (1,), (3,))
    assert cut_tree(average_linkage(10 * close - 3), 2) == ((0, 2), (1, 3))


def test_groups_that_were_made_are_found_whatever_the_order_of_tasks():
    rng = np.random.default_rng(2)
    of_task = rng.permutation(np.repeat([0, 1, 2], 3))
    scores = 3.0 * (of_task[:, None] == of_task) + rng.normal(size=(9, 9)) / 2
    scores += 5 * rng.normal(size=9) + 5 * rng.normal(size=(9, 1))  # easy tasks, rich tasks
    made = sorted(tuple(np.flatnonzero(of_task == g).tolist()) for g in range(3))
    assert group_tasks(scores, 3) == tuple(made)
    assert group_tasks(scores, 1) == (tuple(range(9)),)
    assert group_tasks(scores, 9) == tuple((t,) for t in range(9))


def test_random_partitions_have_the_sizes_and_are_different():
    found = random_partitions((3, 2, 1), 20, seed=0)
    assert len(set(found)) == len(found) == 20
    assert all(group_sizes(p) == (3, 2, 1) for p in found)
    assert all(sorted(t for g in p for t in g) == list(range(6)) for p in found)
    assert len(random_partitions((2, 2), 20, seed=0)) == 3  # all that there are


@pytest.mark.parametrize(
    ("scores", "num_groups", "message"),
    [
        (np.zeros((3, 3)), 2, r"table: wanted \[t, t\] of at least 4 tasks, got \[3, 3\]"),
        (np.zeros((4, 5)), 2, r"scores: wanted \[t, t\] of at least 3 tasks, got \[4, 5\]"),
        (np.full((4, 4), np.nan), 2, "scores: wanted finite numbers off the diagonal"),
        (np.zeros((4, 4)), 5, "num_groups: wanted 1 to 4, the number of tasks, got 5"),
    ],
)
def test_bad_input(scores, num_groups, message):
    with pytest.raises(ValueError, match=message):
        group_tasks(scores, num_groups)

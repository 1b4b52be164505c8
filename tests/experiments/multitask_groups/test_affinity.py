"""From scores to groups of tasks."""

from itertools import combinations

import jax
import numpy as np
import pytest

from experiments.multitask_groups.affinity import (
    affinity,
    companionship,
    cut,
    null_scores,
    pairwise_scores,
    random_partitions,
    sizes_of,
    tree,
    within_targets,
)
from experiments.multitask_groups.joint import accuracies, outputs
from experiments.multitask_groups.study import network
from leepjax.metrics import leep_gain


def test_a_target_that_is_easy_for_all_is_nobodys_friend():
    scores = np.array([[9.0, 1.0, 4.0], [3.0, 9.0, 2.0], [1.0, 0.0, 9.0]])
    # columns: 3, 1; 1, 0; 4, 2: two values are one above and one below their mean
    np.testing.assert_allclose(within_targets(scores), [[0, 1, 1], [1, 0, -1], [-1, -1, 0]])
    np.testing.assert_allclose(
        within_targets(scores * [1, 20, 3] + [5, 0, -7]), within_targets(scores)
    )
    scores[:, 2] = 4
    np.testing.assert_allclose(within_targets(scores)[:, 2], 0)


def test_affinity_is_what_each_tasks_own_does_not_explain():
    rng = np.random.default_rng(0)
    directed = rng.normal(size=(7, 7))
    found = companionship(directed)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-12)
    # Least squares by the normal equations, over pairs.
    pairs = list(combinations(range(7), 2))
    y = np.array([(directed[i, j] + directed[j, i]) / 2 for i, j in pairs])
    design = np.array([[k in pair for k in range(7)] for pair in pairs], float)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose([found[pair] for pair in pairs], rest, atol=1e-12)
    # What a task gives to all and what it takes from all make no difference.
    gives, takes = rng.normal(size=(2, 7))
    np.testing.assert_allclose(companionship(directed + gives[:, None] + takes), found, atol=1e-12)
    np.testing.assert_allclose(affinity(directed), companionship(within_targets(directed)))


def test_groups_are_those_of_average_linkage():
    close = np.zeros((4, 4))
    for (i, j), value in {(0, 2): 5, (1, 3): 4, (0, 1): 3, (0, 3): 1, (2, 1): 0, (2, 3): 2}.items():
        close[i, j] = close[j, i] = value
    linked = tree(close)  # distances 0 and 1, then the mean of 2, 4, 5 and 3
    np.testing.assert_allclose(linked[:, 2], [0, 1, 3.5])
    assert cut(linked, 2) == ((0, 2), (1, 3))
    assert cut(linked, 3) == ((0, 2), (1,), (3,))
    assert cut(tree(10 * close - 3), 2) == ((0, 2), (1, 3))


def test_random_partitions_have_the_sizes_and_are_different():
    found = random_partitions((3, 2, 1), 20, seed=0)
    assert len(set(found)) == len(found) == 20
    assert all(sizes_of(p) == (3, 2, 1) for p in found)
    assert all(sorted(t for g in p for t in g) == list(range(6)) for p in found)
    assert len(random_partitions((2, 2), 20, seed=0)) == 3  # all that there are


def test_scores_are_of_a_tasks_own_classes(drawn):
    train, test = drawn.dataset
    source = network(train, width=4)
    found = pairwise_scores([source] * 4, train)["leep_gain"]
    logits = outputs(source, train.images).logits
    rows = train.groups == 2
    probs = jax.nn.softmax(logits[rows][:, 6:8])
    expected = leep_gain(probs, train.labels[rows] - 4, num_classes=2)
    assert found[3, 2] == pytest.approx(float(expected), abs=1e-6)
    own = outputs(source, test.images[test.groups == 1]).logits[:, 2:4].argmax(1)
    right = np.mean(own == test.labels[test.groups == 1] - 2)
    assert accuracies(source, test, (0, 1))[1] == pytest.approx(right)
    nulls = null_scores(train, ("a", "a", "b", "b"))
    np.testing.assert_array_equal(nulls["same_data"], np.kron(np.eye(2), np.ones((2, 2))))
    means = [train.images[train.groups == t].mean(0) / 255 for t in (0, 3)]
    assert nulls["pixels"][0, 3] == pytest.approx(-np.sqrt(np.sum((means[0] - means[1]) ** 2)))

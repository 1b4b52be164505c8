"""Scores between tasks, and nulls that look at no network."""

import jax
import numpy as np
import pytest

from experiments.multitask_groups.scores import null_scores, pairwise_scores
from experiments.multitask_groups.study import network
from leepjax.metrics import leep_gain
from leepjax.transfer import accuracy_by_task, compute_outputs


def test_scores_are_of_a_tasks_own_classes(drawn):
    train, test = drawn.dataset
    source = network(train, width=4)
    found = pairwise_scores([source] * 4, train)["leep_gain"]
    logits = compute_outputs(source, train.images).logits
    rows = train.groups == 2
    probs = jax.nn.softmax(logits[rows][:, 6:8])
    expected = leep_gain(probs, train.labels[rows] - 4, num_classes=2)
    assert found[3, 2] == pytest.approx(float(expected), abs=1e-6)
    own = compute_outputs(source, test.images[test.groups == 1]).logits[:, 2:4].argmax(1)
    right = np.mean(own == test.labels[test.groups == 1] - 2)
    assert accuracy_by_task(source, test, (0, 1))[1] == pytest.approx(right)
    nulls = null_scores(train, ("a", "a", "b", "b"))
    np.testing.assert_array_equal(nulls["same_data"], np.kron(np.eye(2), np.ones((2, 2))))
    means = [train.images[train.groups == t].mean(0) / 255 for t in (0, 3)]
    assert nulls["pixels"][0, 3] == pytest.approx(-np.sqrt(np.sum((means[0] - means[1]) ** 2)))

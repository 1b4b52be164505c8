"""What is chosen for a task by the gradient of LEEP, and by what."""

import numpy as np
import pytest

from experiments.hyperparameters.gradient import FAMILIES, OBJECTIVES, WAYS, choose
from leepjax.tasks import Split, Tasks
from tests.choosing.test_gradient import CLASSES, problem


def tasks(n=24, count=2):
    """Tasks that all draw every image of two banks of ``n``."""
    index = np.tile(np.arange(n, dtype=np.int32), (count, 1))
    split = Split(index, index % CLASSES, np.ones((count, n), bool))
    classes = np.tile(np.arange(CLASSES, dtype=np.int32), (count, 1))
    return Tasks(classes, np.full(count, -1), split, split)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_chosen_does_not_depend_on_test_images(family):
    train, _ = problem()
    test, _ = problem(seed=1)
    found = choose(train, test, tasks(), family)
    other = choose(train, [-3 * x for x in test], tasks(), family)
    np.testing.assert_array_equal(found.params, other.params)
    assert np.abs(found.held_out - other.held_out).max() > 1e-3
    for name in OBJECTIVES:  # start is the first way
        values = getattr(found, name)
        assert (values[:, WAYS[family].index(name)] > values[:, 0]).all()

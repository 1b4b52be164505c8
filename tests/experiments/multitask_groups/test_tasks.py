"""Tasks that share no class, of one data set or several."""

import numpy as np
import pytest

from experiments.multitask_groups.tasks import draw_tasks
from leepjax.data import Bank, Dataset, load


def test_tasks_share_no_class_and_are_padded_alike(drawn):
    colour = Bank(
        np.full((40, 6, 9, 3), 7, np.uint8),
        np.repeat(np.arange(4, dtype=np.int32), 10),
        np.repeat(np.arange(2, dtype=np.int32), 20),
        tuple("abcd"),
        ("first", "second"),
    )
    datasets = {"digits": load("digits"), "other:part": Dataset(colour, colour)}
    options = {"num_tasks": 2, "ways": [3, 2], "shots": [4, 5], "test_shots": 8, "seed": 1}
    (train, test), families = draw_tasks(datasets, **options)
    assert families == ("digits", "digits", "other", "other")
    assert train.group_names == ("digits", "digits (2)", "first", "second")
    np.testing.assert_array_equal(train.class_groups, [0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(np.bincount(train.labels), [4] * 6 + [5] * 4)
    np.testing.assert_array_equal(np.bincount(test.labels), [8] * 10)
    assert len(set(train.class_names)) == 10
    assert train.images.shape[1:] == (9, 9, 3)
    assert (train.images[:24, ..., :1] == train.images[:24]).all()  # grey is repeated
    assert train.images[24:].sum() == 20 * 6 * 9 * 3 * 7  # and nothing cut off
    same = draw_tasks({"digits": load("digits")}, num_tasks=4, ways=[2], shots=[10],
                      test_shots=20, seed=0)  # fmt: skip
    assert same.dataset.train.digest == drawn.dataset.train.digest


def test_no_class_of_one_data_set_is_in_two_tasks():
    def part(classes):
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), 2)
        images = np.zeros((len(labels), 8, 8, 1), np.uint8)
        return Bank(images, labels, np.zeros_like(labels), tuple(classes), ("one",))

    parts = {"letters:a": Dataset(part("abcd"), part("abcd"))}
    parts["letters:b"] = Dataset(part("cdef"), part("cdef"))
    options = {"ways": (2, 2), "shots": (2, 2), "test_shots": 2}
    for seed in range(5):
        drawn = draw_tasks(parts, num_tasks=1, seed=seed, **options)
        names = [name.split(": ")[1] for name in drawn.dataset.train.class_names]
        assert len(set(names)) == 4
    with pytest.raises(ValueError, match="--num-tasks: wanted at most"):
        draw_tasks(parts, num_tasks=2, seed=0, **options)

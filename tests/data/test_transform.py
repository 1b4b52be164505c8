"""Data sets made of others."""

import numpy as np
import pytest

from leepjax.data import load, shrink, with_rotations, without_groups
from tests.meta.support import NAMES, dataset


def test_turned_classes_hold_the_turned_images():
    before, after = dataset(), with_rotations(dataset())
    for plain, turned in zip(before, after, strict=True):
        assert turned.num_classes == 4 * plain.num_classes
        for r in range(4):
            rows = np.flatnonzero(turned.labels % 4 == r)
            np.testing.assert_array_equal(turned.labels[rows] // 4, plain.labels)
            for row, image in zip(rows[::7], plain.images[::7], strict=True):
                np.testing.assert_array_equal(turned.images[row], np.rot90(image, r))
            np.testing.assert_array_equal(turned.groups[rows], plain.groups)
    assert after.train.class_names[:5] == ("a", "a@90", "a@180", "a@270", "b")
    flat = dataset()._replace(train=load("digits").train)
    assert with_rotations(flat).train.num_classes == 40


def test_shrinking_keeps_means_and_small_images():
    data = dataset()
    small = shrink(data, 6).train
    assert small.images.shape[1:] == (6, 6, 1)
    assert small.images.dtype == np.uint8
    means = [bank.images.mean((1, 2, 3), dtype=float) for bank in (small, data.train)]
    np.testing.assert_allclose(*means, atol=3)
    assert shrink(data, 12).train is data.train
    with pytest.raises(ValueError, match="size: wanted at least 1"):
        shrink(data, 0)


def test_groups_are_left_out_and_the_rest_numbered_anew():
    rest = without_groups(dataset(), ("group 0",))
    assert rest.train.group_names == ("group 1",)
    assert rest.train.class_names == NAMES[1::2]
    assert set(rest.test.labels) == {0, 1, 2, 3}
    odd = dataset().train.labels % 2 == 1
    np.testing.assert_array_equal(rest.train.images, dataset().train.images[odd])
    np.testing.assert_array_equal(rest.train.labels, dataset().train.labels[odd] // 2)
    same = dataset()
    assert without_groups(same, ("unknown",)) is same
    with pytest.raises(ValueError, match="wanted some other group to stay"):
        without_groups(dataset(), ("group 0", "group 1"))
